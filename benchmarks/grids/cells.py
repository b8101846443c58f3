"""The cells of the benchmark suite, algorithm x environment x seed, and the settings of each, from ``suite.yaml``."""

from __future__ import annotations

import copy
import functools
import hashlib
import importlib.util
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml

from tm_torchrl.settings import ConfigError, compose_settings
from tm_torchrl.settings.nearest import nearest_name

SUITE = Path(__file__).resolve().parents[1] / "suite.yaml"
TUNED = SUITE.with_name("tuned.yaml")
INSTALL = 'pip install -e ".[bench]" -c constraints.txt'


@dataclass(frozen=True)
class Cell:
    """One run of the suite."""

    algorithm: str
    environment: str
    seed: int
    overrides: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """``ALGORITHM/ENVIRONMENT/SEED``."""
        return f"{self.algorithm}/{self.environment}/{self.seed}"


class Suite:
    """The contents of ``suite.yaml``.

    Examples:
        >>> suite = Suite()
        >>> suite.cells("quick")[0].name
        'qrdqn/cartpole/0'
        >>> suite.cells("quik")
        Traceback (most recent call last):
        tm_torchrl.settings.construct.ConfigError: grid=quik: unknown; did you mean quick? There are: extended, gpu, ...
    """

    def __init__(self, path: Path = SUITE, *, tuned: Path | None = TUNED) -> None:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
        self.all: list[str] = found["all"]
        self.algorithms: dict[str, dict[str, Any]] = found["algorithms"]
        self.tuning: dict[str, dict[str, Any]] = found["tuning"]
        self.tuned: dict[str, dict[str, list[str]]] = {}
        if tuned is not None:
            self.tuned = yaml.safe_load(tuned.read_text(encoding="utf-8")) or {}
        self.grids: dict[str, list[dict[str, Any]]] = found["grids"]
        self._environments: dict[str, dict[str, Any]] = found["environments"]

    def environment(self, name: str) -> dict[str, Any]:
        """The description of an environment; what it leaves out is taken from the one that it is ``like``."""
        own: dict[str, Any] = known(name, self._environments, kind="environment")
        if "like" not in own:
            return own
        base = self.environment(own["like"])
        parts = {**base.get("parts", {}), **own.get("parts", {})}
        return {**base, **own, "parts": parts, "overrides": merged([*base["overrides"], *own.get("overrides", [])])}

    @property
    def environments(self) -> list[str]:
        """Names of all environments."""
        return list(self._environments)

    def cells(self, grid: str) -> list[Cell]:
        """The cells of a grid, seed by seed, so that an early end leaves whole comparisons; none twice."""
        found: dict[str, Cell] = {}
        for block in known(grid, self.grids, kind="grid"):
            names = [(environment, each) for environment in block["environments"] for each in block["algorithms"]]
            for seed in range(block["seeds"]):
                for environment, algorithm in names:
                    cell = Cell(algorithm, environment, seed, tuple(block.get("overrides", ())))
                    found.setdefault(cell.name, cell)
        order = sorted(found.values(), key=lambda cell: cell.seed)
        for cell in order:
            self.environment(cell.environment)
            known(cell.algorithm, self.algorithms, kind="algorithm")
        return order

    def is_shortened(self, grid: str) -> bool:
        """Whether cells of a grid are not those of the others, so that their results lie elsewhere.

        >>> Suite().is_shortened("quick"), Suite().is_shortened("standard")
        (True, False)
        """
        return any(block.get("overrides") for block in known(grid, self.grids, kind="grid"))

    def chosen(self, cells: Sequence[Cell], names: Iterable[str]) -> list[Cell]:
        """The cells with these names, ``ALGORITHM/ENVIRONMENT/SEED`` or the beginning of it, seed by seed."""
        found = []
        for name in names:
            parts = name.split("/")
            own = [cell for cell in cells if cell.name.split("/")[: len(parts)] == parts]
            if not own:
                seeds = [cell.name for cell in cells if cell.name.split("/")[:-1] == parts[:2]]
                known_names = seeds or {cell.name.rpartition("/")[0] for cell in cells}
                raise ConfigError(f"{name}: no such cell in this grid{nearest_name(name, known_names)}")
            found += [cell for cell in own if cell not in found]
        return sorted(found, key=lambda cell: cell.seed)

    def lacking(self, cell: Cell) -> list[str]:
        """Modules that a cell needs and that are not installed; ``cuda`` is a device."""
        needs = [
            *self.environment(cell.environment).get("needs", []),
            *self.algorithms[cell.algorithm].get("needs", []),
        ]
        return [name for name in needs if not is_there(name)]

    def peer(self, cell: Cell) -> str | None:
        """``module:function`` that trains another library's learner; ``None`` for our trainer."""
        found: str | None = self.algorithms[cell.algorithm].get("peer")
        return found

    def settings(self, cell: Cell) -> dict[str, Any]:
        """Settings of a cell's run; for another library those of our algorithm beside it, and its ``peer``."""
        arm = self.algorithms[cell.algorithm]
        name = arm.get("settings_of", cell.algorithm)
        environment, algorithm = self.environment(cell.environment), known(name, self.algorithms, kind="algorithm")
        own = [*_own(algorithm, environment), *self.tuned.get(cell.environment, {}).get(name, [])]
        own += _own(arm, environment) if arm is not algorithm else []
        overrides = merged([*self.all, *environment["overrides"], *own, *cell.overrides])
        settings = {**copy.deepcopy(_composed(tuple(overrides))), "seed": cell.seed}
        peer = self.peer(cell)
        return settings if peer is None else {**settings, "peer": peer, "environment": cell.environment}


@functools.cache
def _composed(overrides: tuple[str, ...]) -> dict[str, Any]:
    return compose_settings(overrides)


def _own(algorithm: Mapping[str, Any], environment: Mapping[str, Any]) -> list[str]:
    """Overrides of an algorithm in an environment."""
    parts = (environment.get("parts", {}).get(part, []) for part in algorithm.get("parts", []))
    return [*algorithm.get("overrides", []), *(each for part in parts for each in part)]


def is_there(name: str) -> bool:
    """Whether a module is installed, or a CUDA device at hand.

    >>> is_there("json"), is_there("no_such_module")
    (True, False)
    """
    return torch.cuda.is_available() if name == "cuda" else importlib.util.find_spec(name) is not None


def known(name: str, names: Mapping[str, Any], *, kind: str) -> Any:
    """The value of a name; an unknown name is refused with the nearest one."""
    if name not in names:
        raise ConfigError(f"{kind}={name}: unknown{nearest_name(name, names)}")
    return names[name]


def merged(overrides: Sequence[str]) -> list[str]:
    """Overrides of which each setting occurs once, with its last value; ``~name`` forgets one and those below it.

    >>> merged(["objective=iqn", "seed=1", "gamma=0.9", "objective=nq", "~gamma"])
    ['objective=nq', 'seed=1']
    >>> merged(["replay=uniform", "replay.batch_size=64", "replay_ratio=2", "~replay"])
    ['replay_ratio=2']
    """
    found: dict[str, str] = {}
    for override in overrides:
        if override.startswith("~"):
            name = override[1:]
            found = {key: each for key, each in found.items() if key != name and not key.startswith(f"{name}.")}
        else:
            found[override.partition("=")[0].lstrip("+")] = override
    return list(found.values())


def digest(settings: Mapping[str, Any]) -> str:
    """A hash of settings, twelve letters.

    >>> digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1}) != digest({"a": 1})
    True
    """
    text = json.dumps(dict(settings), sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:12]
