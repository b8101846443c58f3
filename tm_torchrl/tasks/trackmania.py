"""Driving tracks in the embedded simulator."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from tensordict.nn import TensorDictModuleBase
from torchrl.envs import EnvBase
from torchrl.envs.transforms import Transform

from tm_torchrl.envs import TrackManiaEnv
from tm_torchrl.envs.transformed import transformed
from tm_torchrl.evaluation import Laps, drive_laps, evaluation_env
from tm_torchrl.sim import Randomisation, Starts
from tm_torchrl.sim.lap_trace import SHIPPED_LAPS, shipped_start_lap, start_lap
from tm_torchrl.tasks.driving import Driving
from tm_torchrl.tasks.reward import Reward
from tm_torchrl.tasks.task import Row
from tm_torchrl.tracks import DEFAULT_TRACK, Track, generate_track, load_track
from tm_torchrl.tracks.building.generate import HELD_OUT_SEEDS
from tm_torchrl.world.tracker import Limits


@dataclass
class TrackManiaTask(Driving):
    """Driving tracks in the embedded simulator.

    Args:
        track: A built-in name or a ``.npz`` file.
        tracks: Several of these instead, drawn at each reset; a track that is listed twice is drawn twice as often.
        generated_tracks: Number of generated tracks instead.
        blind_tracks: Further tracks that are only evaluated, never trained on.
        blind_generated_tracks: Number of generated tracks that are only evaluated; their seeds begin at 10,000.
        num_envs: Cars of all workers together.
        pixels: Whether the network sees the camera image.
        floats: Whether the network sees the vector of floats; or the names of the fields that it sees.
        action_block: Actions per decision, 1 or 5.
        num_previous_actions: Previous actions in the observation.
        starts: Where cars begin in training.
        limits: When an episode is truncated in training.
        evaluation_limits: When an episode is truncated in evaluation.
        reward: The weights of its terms; time and progress by default.
        randomisation: Randomisation of the physics in training.
        transforms: Functions that make the transforms of the environment, in training and in evaluation.

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
    transforms: Sequence[Callable[[], Transform]] = ()

    def __post_init__(self) -> None:
        named = [self.track is not None, self.tracks is not None, self.generated_tracks > 0]
        if sum(named) > 1:
            raise ValueError("track, tracks, generated_tracks: exclude each other; set one of them")
        for name in ("tracks", "blind_tracks"):
            if isinstance(getattr(self, name), str):
                raise ValueError(f"{name}={getattr(self, name)!r}: must be a list, such as [oval, ring]")
        if self.num_envs < 1:
            raise ValueError(f"num_envs={self.num_envs}: must be at least 1")
        if not 0 <= self.generated_tracks <= HELD_OUT_SEEDS[0]:  # seeds from there on are reserved for evaluation
            raise ValueError(f"generated_tracks={self.generated_tracks}: must be between 0 and {HELD_OUT_SEEDS[0]}")
        self._check_senses()
        if self.generated_tracks:
            names = [f"generated-{seed}" for seed in range(self.generated_tracks)]
            self._tracks = {
                name: generate_track(seed) for name, seed in zip(names, range(self.generated_tracks), strict=True)
            }
        else:
            chosen = self.tracks if self.tracks is not None else [self.track or DEFAULT_TRACK]
            if not chosen:
                raise ValueError("tracks=[]: must hold at least one track")
            names = [str(name) for name in chosen]
            self._tracks = {name: load_track(name) for name in names}
        self._names = names
        if self.starts.uses_laps and self.starts.laps in SHIPPED_LAPS:  # evaluations need no script
            for track in self._tracks.values():
                shipped_start_lap(track, self.starts.laps)
        if not 0 <= self.blind_generated_tracks <= len(HELD_OUT_SEEDS):
            raise ValueError(
                f"blind_generated_tracks={self.blind_generated_tracks}: must be between 0 and {len(HELD_OUT_SEEDS)}"
            )
        self._blind = {str(name): load_track(name) for name in self.blind_tracks}
        held_out = HELD_OUT_SEEDS[: self.blind_generated_tracks]
        self._blind |= {f"generated-{seed}": generate_track(seed) for seed in held_out}

    @property
    def label(self) -> str:
        """The track's name, or the number of tracks."""
        names = [track.name for track in self._tracks.values()]
        return names[0] if len(names) == 1 else f"{len(names)}-tracks"

    @property
    def training_tracks(self) -> list[Track]:
        """The tracks that are trained on, each once."""
        return list(self._tracks.values())

    def check_workers(self, workers: int, *, in_this_process: bool) -> None:
        """Raise ``ValueError`` for a script of inputs that no worker could begin episodes on."""
        if self.starts.uses_laps and self.starts.laps.endswith(".inputs"):
            for track in self._tracks.values():
                start_lap(track, self.starts.laps)

    def make_env(self, *, num_envs: int, first: int = 0, seed: int = 0, device: torch.device | str = "cpu") -> EnvBase:
        """Cars ``first`` to ``first + num_envs - 1``; a car's races do not depend on how workers share the cars."""
        env = TrackManiaEnv(
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
        return transformed(env, self.transforms)

    def env_to_look_at(self, *, num_envs: int = 1) -> EnvBase:
        """An environment of ``num_envs`` cars."""
        return self.make_env(num_envs=num_envs, seed=1)

    def evaluate(self, policy: TensorDictModuleBase, *, num: int, seed: int) -> list[Row]:
        """Drive laps on every track, blind ones last; starts are perturbed by a few centimetres and km/h."""
        rows = []
        for name, track in {**self._tracks, **self._blind}.items():
            laps = drive_laps(self._evaluation_env(track, num_cars=num, seed=seed), policy, num_laps=num)
            rows.append({"track": track.name, "is_blind": name in self._blind, **laps.summary(), "laps": laps})
        return rows

    def lap_from_start(self, policy: TensorDictModuleBase, laps: Laps) -> Laps:
        """A lap that begins at rest on the start line; the starts of evaluated laps are perturbed."""
        env = self._evaluation_env(laps.track, num_cars=1, seed=0, starts=Starts())
        return drive_laps(env, policy, num_laps=1)

    def _evaluation_env(self, track: Track, **options: Any) -> EnvBase:
        env = evaluation_env(
            track,
            pixels=self.pixels,
            action_block=self.action_block,
            num_previous_actions=self.num_previous_actions,
            limits=self.evaluation_limits,
            **options,
        )
        return transformed(env, self.transforms)
