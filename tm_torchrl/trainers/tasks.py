"""What is trained on: TrackMania tracks or a gymnasium task, behind one face."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import torch
from tensordict import NestedKey
from tensordict.nn import TensorDictModuleBase
from torch import Tensor
from torchrl.envs import EnvBase

from tm_torchrl.envs import TrackManiaEnv
from tm_torchrl.envs.gymnasium_batch import GymnasiumBatch
from tm_torchrl.evaluation import drive_laps, evaluation_env, play_episodes
from tm_torchrl.modules import Normalize
from tm_torchrl.sim import Randomisation, Starts
from tm_torchrl.tracks import DEFAULT_TRACK, generate_track, load_track
from tm_torchrl.tracks.generate import HELD_OUT_SEEDS
from tm_torchrl.trainers.nearest import nearest_name
from tm_torchrl.trainers.reward import Reward
from tm_torchrl.trainers.schedules import Schedule
from tm_torchrl.world.actions import NUM_ACTIONS, TICKS_PER_ACTION
from tm_torchrl.world.observation import observation_constants, observation_layout
from tm_torchrl.world.tracker import Limits

Row = dict[str, Any]

IMAGE_SHAPE = (1, 64, 64)
MANY_FINISH = 0.95


class Task(Protocol):
    """Makes environments to train in, says what networks see, and judges policies."""

    num_envs: int

    @property
    def label(self) -> str:
        """For people and folders."""
        ...

    @property
    def in_keys(self) -> list[NestedKey]:
        """What the network reads."""
        ...

    def make_env(self, *, num_envs: int, first: int = 0, seed: int = 0, device: torch.device | str = "cpu") -> EnvBase:
        """An environment to train in, holding copies ``first`` to ``first + num_envs - 1``."""
        ...

    def env_to_look_at(self, *, num_envs: int = 1) -> EnvBase:
        """At most so many copies, for a look at specs and a few steps in this process; to be closed afterwards."""
        ...

    def network_arguments(self) -> dict[str, Any]:
        """Sizes and constants that networks are constructed with."""
        ...

    def evaluate(self, policy: TensorDictModuleBase, *, num: int, seed: int) -> list[Row]:
        """A row of results for each track, or one for the task."""
        ...

    def score(self, rows: Sequence[Row]) -> tuple[float, float]:
        """How good results are; greater is better."""
        ...

    def schedules(self, *, speed: float) -> dict[str, Schedule]:
        """What environments change by themselves with the frames played, to be shown."""
        ...

    def is_finished(self, batch: Mapping[Any, Any]) -> Tensor | None:
        """Which steps of a collected batch reached the goal; ``None`` where there is none."""
        ...

    def close(self) -> None:
        """Let go of what is open in this process, such as games that were evaluated in."""
        ...


class Driving:
    """What driving in the simulator and in the game have in common, for networks and judges."""

    pixels: bool
    floats: bool | Sequence[str]
    action_block: int
    num_previous_actions: int
    reward: Reward | None

    def _check_senses(self) -> None:
        """Refuse what cannot be seen or done."""
        if not (self.pixels or self.floats):
            raise ValueError("pixels=false, floats=false: the network sees nothing; give it one of them")
        self._columns = None if isinstance(self.floats, bool) else seen_columns(self.floats, self.num_previous_actions)
        if self.action_block not in (1, TICKS_PER_ACTION):
            raise ValueError(
                f"action_block={self.action_block}: choose 1 (held 50 ms) or {TICKS_PER_ACTION} (10 ms each)"
            )

    @property
    def in_keys(self) -> list[NestedKey]:
        """The camera's image, and after it the floats."""
        return [key for key, is_seen in (("pixels", self.pixels), ("observation", self.floats)) if is_seen]

    def network_arguments(self) -> dict[str, Any]:
        """What is seen, actions, slots, and the constants that normalise the floats."""
        mean, scale = (torch.from_numpy(x) for x in observation_constants(self.num_previous_actions))
        return {
            "num_inputs": len(mean) if self.floats else None,
            "num_actions": NUM_ACTIONS,
            "num_slots": None if self.action_block == 1 else self.action_block,
            "normalize": Normalize(mean, scale, columns=self._columns) if self.floats else None,
            "image_shape": IMAGE_SHAPE if self.pixels else None,
        }

    def score(self, rows: Sequence[Row]) -> tuple[float, float]:
        """First that laps finish (up to 95 %), then how fast the median one is, over the tracks trained on."""
        seen = [row for row in rows if not row["is_blind"]]
        finished = sum(min(row["finish_rate"], MANY_FINISH) for row in seen) / len(seen)
        times = [row["median_lap_s"] for row in seen]
        return finished, -sum(1e4 if time is None else time for time in times) / len(times)

    def schedules(self, *, speed: float) -> dict[str, Schedule]:
        """Weights of the reward that change."""
        found = {} if self.reward is None else self.reward.schedules(speed=speed)
        return {f"reward_{name}": schedule for name, schedule in found.items()}

    def is_finished(self, batch: Mapping[Any, Any]) -> Tensor | None:
        """Steps that crossed the finish line."""
        found: Tensor = batch["next", "terminated"]
        return found

    def close(self) -> None:
        """Nothing is open."""


@dataclass
class TrackManiaTask(Driving):
    """Driving tracks in the embedded simulator.

    Args:
        track: a built-in name or a ``.npz`` file.
        tracks: several of these, drawn at each reset; one named twice is drawn twice as often.
        generated_tracks: number of generated tracks to train on, instead.
        blind_tracks: further ones that are only evaluated, never trained on.
        blind_generated_tracks: number of generated ones, of the held-out seeds from 10,000 up, that are so too.
        num_envs: cars, over all workers together.
        pixels: whether the network sees the camera.
        floats: whether the network sees the vector of floats, or the names of those fields of it that it sees.
        action_block: actions per decision, 1 or 5.
        num_previous_actions: in the observation.
        starts: where cars begin in training.
        limits: when an episode is cut short in training.
        evaluation_limits: the same in evaluation.
        reward: weights of its terms; time and progress by default.
        randomisation: of the physics in training.

    Examples:
        >>> task = TrackManiaTask(track="oval", num_envs=4)
        >>> task.label, task.network_arguments()["num_inputs"]
        ('oval', 184)
    """

    track: str | Path | None = None
    tracks: Sequence[str | Path] | None = None
    generated_tracks: int = 0
    blind_tracks: Sequence[str | Path] = ()
    blind_generated_tracks: int = 0
    num_envs: int = 64
    pixels: bool = False
    floats: bool | Sequence[str] = True
    action_block: int = 1
    num_previous_actions: int = 5
    starts: Starts = field(default_factory=Starts)
    limits: Limits = field(default_factory=Limits)
    evaluation_limits: Limits = field(default_factory=Limits)
    reward: Reward | None = None
    randomisation: Randomisation | None = None

    def __post_init__(self) -> None:
        named = [self.track is not None, self.tracks is not None, self.generated_tracks > 0]
        if sum(named) > 1:
            raise ValueError("track, tracks and generated_tracks exclude each other; give one of them")
        if self.num_envs < 1:
            raise ValueError(f"num_envs={self.num_envs}: at least one car is needed")
        self._check_senses()
        if self.generated_tracks:
            names = [f"generated-{seed}" for seed in range(self.generated_tracks)]
            self._tracks = {
                name: generate_track(seed) for name, seed in zip(names, range(self.generated_tracks), strict=True)
            }
        else:
            chosen = self.tracks if self.tracks is not None else [self.track or DEFAULT_TRACK]
            if not chosen:
                raise ValueError("tracks=[]: at least one track is needed")
            names = [str(name) for name in chosen]
            self._tracks = {name: load_track(name) for name in names}
        self._names = names
        if not 0 <= self.blind_generated_tracks <= len(HELD_OUT_SEEDS):
            raise ValueError(f"blind_generated_tracks={self.blind_generated_tracks}: 0 to {len(HELD_OUT_SEEDS)} wanted")
        self._blind = {str(name): load_track(name) for name in self.blind_tracks}
        held_out = HELD_OUT_SEEDS[: self.blind_generated_tracks]
        self._blind |= {f"generated-{seed}": generate_track(seed) for seed in held_out}

    @property
    def label(self) -> str:
        """The track's name, or how many they are."""
        names = [track.name for track in self._tracks.values()]
        return names[0] if len(names) == 1 else f"{len(names)}-tracks"

    def make_env(self, *, num_envs: int, first: int = 0, seed: int = 0, device: torch.device | str = "cpu") -> EnvBase:
        """Cars ``first`` to ``first + num_envs - 1``; a car's races do not depend on the other cars' worker."""
        return TrackManiaEnv(
            num_envs,
            tracks=[self._tracks[name] for name in self._names],
            pixels=self.pixels,
            action_block=self.action_block,
            num_previous_actions=self.num_previous_actions,
            reward=None if self.reward is None else self.reward.terms(),
            limits=self.limits,
            starts=self.starts,
            randomisation=self.randomisation,
            first_car=first,
            seed=seed,
            device=device,
        )

    def env_to_look_at(self, *, num_envs: int = 1) -> EnvBase:
        """Some cars."""
        return self.make_env(num_envs=num_envs, seed=1)

    def evaluate(self, policy: TensorDictModuleBase, *, num: int, seed: int) -> list[Row]:
        """Laps on every track, blind ones last; starts perturbed by a few centimetres and km/h."""
        rows = []
        for name, track in {**self._tracks, **self._blind}.items():
            env = evaluation_env(
                track,
                num_cars=num,
                seed=seed,
                pixels=self.pixels,
                action_block=self.action_block,
                num_previous_actions=self.num_previous_actions,
                limits=self.evaluation_limits,
            )
            laps = drive_laps(env, policy, num_laps=num)
            rows.append({"track": track.name, "is_blind": name in self._blind, **laps.summary(), "laps": laps})
        return rows


def seen_columns(names: Sequence[str], num_previous_actions: int) -> list[int]:
    """Where the named fields stand in the float observation.

    >>> seen_columns(["velocity", "gear"], 5)
    [34, 56, 57, 58]
    """
    layout = observation_layout(num_previous_actions)
    for name in names:
        if name not in layout.names():
            nearest = nearest_name(str(name), layout.names())
            raise ValueError(f"floats: {name!r} is no field of the observation{nearest}")
    return sorted(column for name in set(names) for column in range(layout.size)[layout[name]])


@dataclass
class GymnasiumTask:
    """Any gymnasium task with discrete actions.

    Args:
        name: its id, such as ``CartPole-v1``.
        num_envs: copies, over all workers together.
        options: for ``gymnasium.make``.
        evaluation_options: further ones in evaluation.
        mean: of each observation, taken off by the network's first layer.
        scale: of each observation, which that layer divides by.

    Examples:
        >>> GymnasiumTask("CartPole-v1").network_arguments()["num_actions"]
        2
    """

    name: str
    num_envs: int = 8
    options: Mapping[str, Any] | None = None
    evaluation_options: Mapping[str, Any] | None = None
    mean: Sequence[float] | None = None
    scale: Sequence[float] | None = None

    @property
    def label(self) -> str:
        """The id's last part."""
        return self.name.split("/")[-1].split(":")[-1]

    @cached_property
    def _shown(self) -> tuple[str, torch.Size, int]:
        """The key of what it shows, its shape, and the number of actions."""
        env = self.make_env(num_envs=1)
        try:
            (key,) = env.observation_spec.keys()
            return key, env.observation_spec[key].shape[1:], int(env.action_spec.space.n)
        finally:
            env.close()

    @property
    def in_keys(self) -> list[NestedKey]:
        """Floats, or images for a task that shows them."""
        return [self._shown[0]]

    def make_env(self, *, num_envs: int, first: int = 0, seed: int = 0, device: torch.device | str = "cpu") -> EnvBase:
        """Copies in one process, seeded by their number."""
        return GymnasiumBatch(
            self.name, num_envs=num_envs, options=self.options, seed=seed * 10_000 + first, device=device
        )

    def env_to_look_at(self, *, num_envs: int = 1) -> EnvBase:
        """Some copies."""
        return self.make_env(num_envs=num_envs, seed=1)

    def network_arguments(self) -> dict[str, Any]:
        """Sizes, and the constants that were given."""
        key, shape, num_actions = self._shown
        is_image, num_inputs = key == "pixels", shape[-1]
        normalize = None
        if is_image and (self.mean is not None or self.scale is not None):
            raise ValueError("mean, scale: they are for floats, and this task shows images; leave them null")
        if self.mean is not None or self.scale is not None:
            mean = [0.0] * num_inputs if self.mean is None else list(self.mean)
            scale = [1.0] * num_inputs if self.scale is None else list(self.scale)
            normalize = Normalize(mean, scale)
        return {
            "num_inputs": None if is_image else num_inputs,
            "num_actions": num_actions,
            "num_slots": None,
            "normalize": normalize,
            "image_shape": tuple(shape) if is_image else None,
        }

    def evaluate(self, policy: TensorDictModuleBase, *, num: int, seed: int) -> list[Row]:
        """Whole greedy episodes."""
        options = {**(self.options or {}), **(self.evaluation_options or {})}
        env = GymnasiumBatch(self.name, num_envs=num, options=options, seed=(seed + 1_000) * 10_000)
        try:
            episodes = play_episodes(env, policy, num_episodes=num)
        finally:
            env.close()
        return [{"task": self.label, **episodes.summary(), "returns": episodes.returns.tolist()}]

    def score(self, rows: Sequence[Row]) -> tuple[float, float]:
        """The mean return."""
        return rows[0]["return_mean"], rows[0]["return_min"]

    def schedules(self, *, speed: float) -> dict[str, Schedule]:
        """They have none."""
        return {}

    def is_finished(self, batch: Mapping[Any, Any]) -> Tensor | None:
        """Such tasks have no goal that they tell."""
        return None

    def close(self) -> None:
        """Nothing is open."""
