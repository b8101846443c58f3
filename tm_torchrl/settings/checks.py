"""Plain settings, those that are no argument of a ``_target_``: their kinds and ranges, before anything is made."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tm_torchrl.settings.construct import ConfigError, shown
from tm_torchrl.settings.nearest import nearest_name
from tm_torchrl.settings.schedules import make_schedule
from tm_torchrl.tracks.building.generate import HELD_OUT_SEEDS

LARGEST_SEED = 2**31 - 1
LARGEST_WHOLE = 2**53  # up to which floats are whole numbers one by one
LARGEST = sys.float_info.max
MOST_THREADS = 1024
_STORAGES = ("auto", "frames", "memmap", "memory")


@dataclass(frozen=True)
class Number:
    """A number in a range; one that must be whole may be written as 1e6.

    Args:
        least: the smallest that is meant.
        most: the greatest.
        is_whole: whether it counts something.
        is_above: whether ``least`` itself is not meant.
        is_optional: whether ``null`` is meant too.
    """

    least: float = -math.inf
    most: float = math.inf
    is_whole: bool = False
    is_above: bool = False
    is_optional: bool = False

    def __call__(self, value: Any) -> Any:
        """The number, whole ones as ``int``; raises ``ValueError`` with what was wanted."""
        if value is None and self.is_optional:
            return None
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise ValueError(self.wanted)
        if not -LARGEST <= value <= LARGEST or (self.is_whole and value > LARGEST_WHOLE):
            raise ValueError(f"{self.wanted}, and no greater one than a computer counts")
        is_low = value <= self.least if self.is_above else value < self.least
        if is_low or value > self.most or (self.is_whole and value != int(value)):
            raise ValueError(self.wanted)
        return int(value) if self.is_whole else value

    @property
    def wanted(self) -> str:
        """In words."""
        text = "a whole number" if self.is_whole else "a number"
        if self.least > -math.inf:
            text += f" {'above' if self.is_above else 'of at least'} {self.least:g}"
        if self.most < math.inf:
            text += f" and at most {self.most:,g}" if self.most < 1e6 else f" and at most {int(self.most)}"
        return f"{text}{', or null,' if self.is_optional else ''} wanted"


@dataclass(frozen=True)
class Follows:
    """A number, or a schedule whose values lie in a range.

    Args:
        name: of the setting, for messages.
        values: their range.
    """

    name: str
    values: Number

    def __call__(self, value: Any) -> Any:
        """The same; raises ``ValueError``."""
        for _, number in make_schedule(value, name=self.name).points:
            try:
                self.values(number)
            except ValueError as error:
                raise ValueError(f"{self.name}={shown(value)}: {number:g}, but {error}") from None
        return value


@dataclass(frozen=True)
class OneOf:
    """A word of a few."""

    words: tuple[str, ...]

    def __call__(self, value: Any) -> Any:
        """The same; raises ``ValueError``."""
        if value not in self.words:
            raise ValueError(f"no such choice{nearest_name(str(value), self.words)}")
        return value


def _flag(value: Any) -> Any:
    if not isinstance(value, bool):
        raise ValueError("true or false wanted")
    return value


def _text_or_null(value: Any) -> Any:
    if not isinstance(value, (str, type(None))):
        raise ValueError("a text, or null, wanted; quotes around it make it one")
    return value


def _folder_or_null(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, (str, int, os.PathLike, type(None))) or value == "":
        raise ValueError("a run folder, or null, wanted")
    return None if value is None else str(value)  # those of several runs at once are named 0, 1, ...


def _names(value: Any) -> Any:
    if not isinstance(value, list):
        raise ValueError("a list wanted, such as [oval, ring]")
    return value


def _names_or_null(value: Any) -> Any:
    return None if value is None else _names(value)


def _parts(value: Any) -> Any:
    if not isinstance(value, list) or not all(isinstance(part, Mapping) for part in value):
        raise ValueError("a list of settings with _target_ wanted, such as [{_target_: ..., weight: 1.0}]")
    return value


def _part_or_null(value: Any) -> Any:
    if value is not None and not (isinstance(value, Mapping) and "_target_" in value):
        raise ValueError("settings with _target_, or null, wanted")
    return value


def _capacity(value: Any) -> Any:
    if not isinstance(value, list):
        return _COUNT(value)
    if not value or not all(isinstance(stage, list) and len(stage) == 3 for stage in value):
        raise ValueError("a whole number, or stages [[frames, capacity, learning_starts], ...], wanted")
    return [[_NOT_NEGATIVE(stage[0]), _COUNT(stage[1]), _NOT_NEGATIVE(stage[2])] for stage in value]


_COUNT = Number(1, is_whole=True)
_NOT_NEGATIVE = Number(0, is_whole=True)
_SEED = Number(0, LARGEST_SEED, is_whole=True)
_POSITIVE = Number(0, is_above=True)
_LIMIT = Number(0, is_above=True, is_optional=True)
_SHARE = Number(0, 1)

CHECKS: dict[str, Callable[[Any], Any]] = {
    "env.tracks": _names_or_null,
    "env.generated_tracks": Number(0, HELD_OUT_SEEDS[0], is_whole=True),  # the seeds behind are never trained on
    "env.blind_tracks": _names,
    "env.reward.further": _parts,
    "env.randomisation": _part_or_null,
    "objective.num_acting_fractions": Number(1, is_whole=True, is_optional=True),  # null: of fixed fractions
    "target_update.tau": _SHARE,
    "soft_reset": _part_or_null,
    "name": _text_or_null,
    "resume": _folder_or_null,
    "seed": _SEED,
    "precision": OneOf(("auto", "float32", "bfloat16")),
    "num_threads": Number(1, MOST_THREADS, is_whole=True),
    "total_frames": _COUNT,
    "max_minutes": _LIMIT,
    "schedule_speed": _POSITIVE,
    "gamma": Follows("gamma", _SHARE),
    "learning_rate": Follows("learning_rate", Number(0)),
    "learner.clip_norm": _LIMIT,
    "learner.clip_value": _LIMIT,
    "learner.decay_per_learning_rate": Number(0),
    "learner.max_skipped": _NOT_NEGATIVE,
    "evaluation.every_frames": _COUNT,
    "evaluation.num": _COUNT,
    "evaluation.seed": _SEED,
    "evaluation.target_score": Number(is_optional=True),
    "log.every_frames": _COUNT,
    "log.diagnostics_every": _COUNT,
    "log.tensorboard": _flag,
    "log.wandb": _text_or_null,
    "log.mlflow": _text_or_null,
    "checkpoint.first_minutes": _POSITIVE,
    "checkpoint.every_minutes": _POSITIVE,
    "checkpoint.keep": _COUNT,
    "checkpoint.replay_every_minutes": _LIMIT,
    "replay.capacity": _capacity,
    "replay.learning_starts": _NOT_NEGATIVE,
    "replay.batch_size": _COUNT,
    "replay.uses_per_transition": _POSITIVE,
    "replay.num_steps": _COUNT,
    "replay.cut_at_exploration": _flag,
    "replay.storage": OneOf(_STORAGES),
    "replay.held_out_share": _SHARE,
    "replay.prioritized.alpha": Number(0),
    "replay.prioritized.beta": Follows("replay.prioritized.beta", Number(0)),
    "collector.frames_per_batch": _COUNT,
    "collector.overlap": _flag,
    "collector.push_every": _COUNT,
    "collector.hang_timeout_s": _POSITIVE,
    "collector.max_restarts": _NOT_NEGATIVE,
}


# What is asked for by name; of parts that are made by ``_target_`` the parts say themselves what they lack.
REQUIRED = (
    *("env", "objective.network", "objective.num_acting_fractions", "objective.loss", "estimator.name", "optimizer"),
    *("target_update", "exploration", "learner", "soft_reset", "name", "resume", "seed", "device", "precision"),
    *("num_threads", "total_frames", "max_minutes", "schedule_speed", "gamma", "learning_rate"),
    *(f"evaluation.{name}" for name in ("every_frames", "num", "seed", "target_score")),
    *(f"log.{name}" for name in ("every_frames", "diagnostics_every", "tensorboard", "wandb", "mlflow")),
    *(f"checkpoint.{name}" for name in ("first_minutes", "every_minutes", "keep", "replay_every_minutes")),
    *(f"replay.{name}" for name in ("capacity", "learning_starts", "batch_size", "uses_per_transition", "num_steps")),
    *(f"replay.{name}" for name in ("cut_at_exploration", "storage", "held_out_share", "mini_race", "prioritized")),
    *(f"collector.{name}" for name in ("kind", "num_workers", "frames_per_batch", "overlap", "push_every")),
    *(f"collector.{name}" for name in ("hang_timeout_s", "max_restarts")),
)
ACTING = ("env", "objective.network", "objective.num_acting_fractions")  # what an agent needs that only acts


def require(settings: Mapping[str, Any], names: Sequence[str]) -> None:
    """Raise ``ConfigError`` for the first of the named settings that is not there.

    Args:
        settings: composed, or of a run.
        names: with their rooms, such as ``replay.capacity``.

    Examples:
        >>> require({"replay": {"batch_size": 5}}, ["replay.batch_size", "replay.capacity"])
        Traceback (most recent call last):
        tm_torchrl.settings.construct.ConfigError: replay.capacity: this setting is missing; compose_settings() has all
    """
    for name in names:
        node: Any = settings
        for part in name.split("."):
            if not isinstance(node, Mapping) or part not in node:
                raise ConfigError(f"{name}: this setting is missing; compose_settings() has all")
            node = node[part]


def checked(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings with whole numbers as such (1e6 is 1000000); raises ``ConfigError`` for the first that is wrong.

    Args:
        settings: composed; what a run of an older version lacks is not asked for.

    Examples:
        >>> checked({"total_frames": 1e6, "evaluation": {"num": 4}})
        {'total_frames': 1000000, 'evaluation': {'num': 4}}
        >>> checked({"evaluation": {"num": 0}})
        Traceback (most recent call last):
        tm_torchrl.settings.construct.ConfigError: evaluation.num=0: a whole number of at least 1 wanted
    """
    found: dict[str, Any] = _copied(settings)
    for name, check in CHECKS.items():
        room, last = _room_of(found, name)
        if last not in room:
            continue
        try:
            room[last] = check(room[last])
        except ValueError as error:
            text = str(error)
            raise ConfigError(text if text.startswith(name) else f"{name}={shown(room[last])}: {text}") from None
    replay = found.get("replay") or {}
    capacity, begin = replay.get("capacity"), replay.get("learning_starts", 0)
    if isinstance(capacity, int) and begin > capacity:
        raise ConfigError(
            f"replay.learning_starts={begin}: replay.capacity={capacity} never holds so many; nothing would be learnt"
        )
    return found


def _room_of(settings: dict[str, Any], name: str) -> tuple[dict[str, Any], str]:
    """The settings among which a setting stands, and its own name; none where they are absent or null."""
    *rooms, last = name.split(".")
    for depth, room in enumerate(rooms):
        inner = settings.get(room)
        if inner is None:
            return {}, last
        if not isinstance(inner, dict):
            raise ConfigError(f"{'.'.join(rooms[: depth + 1])}={shown(inner)}: settings of its own belong there")
        settings = inner
    return settings, last


def _copied(value: Any) -> Any:
    return {key: _copied(part) for key, part in value.items()} if isinstance(value, Mapping) else value
