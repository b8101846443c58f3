"""Driving in the real game, or in an emulator of its protocol."""

from __future__ import annotations

import atexit
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
from tm_torchrl.evaluation import drive_laps
from tm_torchrl.game.instances.instances import Instances
from tm_torchrl.game.world import GameWorld
from tm_torchrl.tasks.driving import IMAGE_SHAPE, Driving
from tm_torchrl.tasks.reward import Reward
from tm_torchrl.tasks.task import Row
from tm_torchrl.tracks import DEFAULT_TRACK, load_track
from tm_torchrl.world.tracker import Limits


@dataclass
class GameTask(Driving):
    """Driving one map in several game instances, with a worker process for each.

    Args:
        game: The game instances, such as those of ``game=emulator2``.
        track: The map's reference line, checkpoints and finish: a ``.npz`` file, or a built-in name for emulators.
        past_starts: Share of training episodes that begin somewhere on an earlier drive; all others begin at the start.
        pixels: Whether the network sees the game's image.
        floats: Whether the network sees the vector of floats; or the names of the fields that it sees.
        action_block: Actions per decision, 1 or 5.
        num_previous_actions: Previous actions in the observation.
        limits: When an episode is truncated in training.
        evaluation_limits: When an episode is truncated in evaluation.
        evaluation_laps: Most laps of an evaluation; all begin in the same state, so greedy laps hardly differ.
        reward: The weights of its terms; time and progress by default.
        transforms: Functions that make the transforms of the environment, in training and in evaluation.
    """

    game: Any  # Instances; not required here, so that a missing game gets the message below
    track: str | Path | None = None
    past_starts: float = 0.0
    pixels: bool = False
    floats: bool | Sequence[str] = True
    action_block: int = 1
    num_previous_actions: int = 5
    limits: Limits = field(default_factory=Limits)
    evaluation_limits: Limits = field(default_factory=Limits)
    evaluation_laps: int = 2
    reward: Reward | None = None
    transforms: Sequence[Callable[[], Transform]] = ()

    can_be_copied = False  # a game has one driver at a time

    def __post_init__(self) -> None:
        if not isinstance(self.game, Instances):
            raise ValueError(f"game={self.game!r}: choose game instances, such as game=emulator2 or game=tmi2")
        if not 0.0 <= self.past_starts <= 1.0:
            raise ValueError(f"past_starts={self.past_starts}: must be between 0 and 1")
        if self.evaluation_laps < 1:
            raise ValueError(f"evaluation_laps={self.evaluation_laps}: must be at least 1")
        self._check_senses()
        if self.pixels and not self.game.client.has_frames:
            raise ValueError(
                f"pixels=true: {type(self.game.client).__name__} has no images; use game=tmi2 or game=emulator2"
            )
        self._track = load_track(self.track or DEFAULT_TRACK)
        self._worlds: dict[int, GameWorld] = {}  # of this process

    def __getstate__(self) -> dict[str, Any]:
        """The state for worker processes, without connections."""
        return {**self.__dict__, "_worlds": {}}

    @property
    def num_envs(self) -> int:
        """One car per instance."""
        return self.game.num

    @property
    def num_workers(self) -> int:
        """One process per instance."""
        return self.game.num

    @property
    def longest_step_s(self) -> float:
        """How long a step may take while a connection is restored."""
        return self.game.longest_recovery_s

    @property
    def label(self) -> str:
        """The track's name."""
        return self._track.name

    def check_workers(self, workers: int, *, in_this_process: bool) -> None:
        """Raise ``ValueError`` unless each instance gets its own process."""
        if workers != self.game.num:
            raise ValueError(
                f"num_workers={workers}: each of the {self.game.num} game instances needs its own worker process; "
                "use auto, or game.num=1 with collector=single"
            )
        if not in_this_process and not self.game.has_evaluation_instance:
            raise ValueError(
                "kind: with game.has_evaluation_instance=false this process must drive training and evaluation in "
                "turn; use collector=single"
            )

    def make_env(self, *, num_envs: int, first: int = 0, seed: int = 0, device: torch.device | str = "cpu") -> EnvBase:
        """The car of instance ``first``."""
        if num_envs != 1:
            raise ValueError(f"num_envs={num_envs}: must be 1, as a game instance has one car")
        world = self._world(first)
        world.set_seed(seed + first)
        return transformed(_GameEnv(self, world, limits=self.limits), self.transforms)

    def env_to_look_at(self, *, num_envs: int = 1) -> EnvBase:
        """An environment of one car, in the instance for evaluations."""
        env = TrackManiaEnv(1, **self._options(self._world(self.game.evaluation_instance), self.limits))
        return transformed(env, self.transforms)

    def evaluate(self, policy: TensorDictModuleBase, *, num: int, seed: int) -> list[Row]:
        """Drive laps, all from the start line."""
        world = self._world(self.game.evaluation_instance)
        state, past_starts = world.save() if world.has_begun else None, world.past_starts
        world.past_starts = 0.0
        try:
            env = TrackManiaEnv(1, **self._options(world, self.evaluation_limits))
            laps = drive_laps(transformed(env, self.transforms), policy, num_laps=min(num, self.evaluation_laps))
        finally:
            world.past_starts = past_starts
        if state is not None and not self.game.has_evaluation_instance:
            world.restore(state)  # so that training continues where it was
        return [{"track": self._track.name, "is_blind": False, **laps.summary(), "laps": laps}]

    def close(self) -> None:
        """Disconnect, and end the instances that this process has launched."""
        for world in self._worlds.values():
            world.close()
        self._worlds.clear()
        atexit.unregister(self.close)

    def _world(self, instance: int) -> GameWorld:
        """The world of an instance, which all uses in this process share."""
        if instance not in self._worlds:
            atexit.register(self.close)  # otherwise a game would wait for a process that has ended
            size = IMAGE_SHAPE[-1] if self.pixels else None
            client = self.game.client_of(instance)
            self._worlds[instance] = GameWorld(client, self._track, image_size=size, past_starts=self.past_starts)
        return self._worlds[instance]

    def _options(self, world: GameWorld, limits: Limits) -> dict[str, Any]:
        return {
            "world": world,
            "pixels": self.pixels,
            "action_block": self.action_block,
            "num_previous_actions": self.num_previous_actions,
            "reward": None if self.reward is None else self.reward.terms(),
            "limits": limits,
        }


class _GameEnv(TrackManiaEnv):
    """Disconnects when it is closed, so that the game does not wait for a worker process that has ended."""

    def __init__(self, task: GameTask, world: GameWorld, *, limits: Limits) -> None:
        super().__init__(1, **task._options(world, limits))
        self._game = world

    def close(self, *, raise_if_closed: bool = True) -> None:
        super().close(raise_if_closed=raise_if_closed)
        self._game.close()
