"""The race that all environments share: world, tracker, sensors and reward of a batch of cars."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tm_torchrl.envs.lap_starts import LapStarts
from tm_torchrl.envs.rewards import RewardTerm, Step, default_reward, sum_terms
from tm_torchrl.sim.simulator import Simulator
from tm_torchrl.world.actions import NUM_ACTIONS, TICKS_PER_ACTION
from tm_torchrl.world.car_row import CAR_ROW
from tm_torchrl.world.protocol import World
from tm_torchrl.world.sensors import Sensors
from tm_torchrl.world.tracker import EndCause, Limits, Tracker


@dataclass
class Outcome:
    """The result of a step for every car."""

    reward: Tensor  # float32 [B]
    terminated: Tensor  # bool [B]: finished
    truncated: Tensor  # bool [B]: cut short


class Race:
    """A batch of cars racing: reset by mask, step by actions, read observations.

    Args:
        world: The simulator or a game.
        action_block: Actions per step: 1 (held 50 ms) or 5 (10 ms each).
        num_previous_actions: How many past actions the observation includes.
        reward: Terms whose sum is the reward; time and progress by default, as in Linesight.
        limits: When an episode is cut short.
    """

    def __init__(
        self,
        world: World,
        *,
        action_block: int = 1,
        num_previous_actions: int = 5,
        reward: Sequence[RewardTerm] | None = None,
        limits: Limits | None = None,
    ) -> None:
        if type(action_block) is not int or action_block not in (1, TICKS_PER_ACTION):
            raise ValueError(
                f"action_block={action_block!r}: must be 1 (held 50 ms) or {TICKS_PER_ACTION} (10 ms each)"
            )
        self.world = world
        self._options = {
            "action_block": action_block,
            "num_previous_actions": num_previous_actions,
            "reward": reward,
            "limits": limits,
        }
        self.action_shape = (world.num_cars,) if action_block == 1 else (world.num_cars, action_block)
        self.tracker = Tracker(world, num_previous_actions=num_previous_actions, limits=limits)
        self.sensors = Sensors(world, self.tracker)
        self.terms = tuple(default_reward() if reward is None else reward)
        if not self.terms:
            raise ValueError("reward=[]: must have at least one term")
        for term in self.terms:
            if not callable(term):
                raise ValueError(f"reward: {term!r} is no term; must be a function of a Step, such as Progress()")
        self.lap_starts: LapStarts | None = None
        if isinstance(world, Simulator) and world.starts.uses_laps:
            self.lap_starts = LapStarts(world, self.tracker, block=action_block)
        self.num_frames = 0
        self._velocity = world.rows()[:, CAR_ROW["velocity"]]
        self._everyone = torch.ones(world.num_cars, dtype=torch.bool, device=world.device)
        self.reset()

    def reset(self, mask: Tensor | None = None) -> None:
        """Begin new episodes for the masked cars (bool ``[B]``, all by default)."""
        mask = self._everyone if mask is None else mask
        if self.lap_starts is not None:
            self.lap_starts.prepare()
        start_zone = self.world.reset(mask)
        self.tracker.reset(start_zone, mask)
        if self.lap_starts is not None:
            self.lap_starts.begin(mask)
        self.observation = self.sensors.write(mask).clone()
        self._remember()

    def _remember(self) -> None:
        """Keep what the next step's reward is computed from."""
        self._progress_m = self.tracker["progress_m"].clone()
        self._time_ms = self.tracker["race_time_ms"].clone()
        self._speed = self._velocity.norm(dim=1)

    def check_actions(self, actions: Tensor) -> None:
        """Raise if actions have a wrong shape, type or range, before any car has moved."""
        if tuple(actions.shape) != self.action_shape:
            raise ValueError(f"action has shape {tuple(actions.shape)}; expected {self.action_shape}")
        if actions.dtype not in (torch.int64, torch.int32):
            raise TypeError(f"action has dtype {actions.dtype}; expected int64 indices in 0..{NUM_ACTIONS - 1}")
        low, high = (int(x) for x in torch.aminmax(actions))
        if low < 0 or high >= NUM_ACTIONS:
            raise ValueError(f"action holds {low if low < 0 else high}; expected indices in 0..{NUM_ACTIONS - 1}")

    def step(self, actions: Tensor) -> Outcome:
        """Play 50 ms."""
        self.check_actions(actions)
        actions = actions.to(torch.int64)
        before, progress, time, speed = self.observation, self._progress_m, self._time_ms, self._speed
        self.world.step(actions)
        self.tracker.update(actions)
        if self.lap_starts is not None:
            self.lap_starts.follow(actions)
        self.observation = self.sensors.write().clone()
        self._remember()
        cause = self.tracker["end_cause"]
        is_finished = cause == EndCause.FINISHED
        step = Step(
            observation_before=before,
            observation=self.observation,
            progress_m=self._progress_m - progress,
            elapsed_ms=self._time_ms - time,
            speed_before=speed,
            speed=self._speed,
            is_finished=is_finished,
            is_failed=(cause >= EndCause.NO_PROGRESS) & (cause < EndCause.INVALID),
            action=actions,
            layout=self.sensors.layout,
            num_frames=self.num_frames,
        )
        self.num_frames += self.world.num_cars
        return Outcome(sum_terms(self.terms, step), is_finished, (cause != EndCause.NONE) & ~is_finished)

    def render(self) -> np.ndarray:
        """Coloured pictures from behind the cars, uint8 ``[B, H, W, 3]``; each takes some 10 ms."""
        from tm_torchrl.sim.camera.views import chase_view  # needs Pillow

        tracks = [self.world.tracks[i] for i in self.world.track_index.tolist()]
        return np.stack([chase_view(track, row) for track, row in zip(tracks, self.world.rows().cpu(), strict=True)])

    def save(self) -> dict[str, Any]:
        """A copy of the state that the future depends on."""
        laps = {} if self.lap_starts is None else {"lap_starts": self.lap_starts.save()}
        return {
            "world": self.world.save(),
            "tracker": self.tracker.save(),
            "num_frames": torch.tensor(self.num_frames),
            **laps,
        }

    def restore(self, saved: dict[str, Any]) -> None:
        """Return to a saved state."""
        self.world.restore(saved["world"])
        self.tracker.restore(saved["tracker"])
        self.num_frames = int(saved["num_frames"])
        if self.lap_starts is not None and "lap_starts" in saved:  # absent where a run began without them
            self.lap_starts.restore(saved["lap_starts"])
        self.observation = self.sensors.write().clone()
        self._remember()

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the constructor's arguments and the state; Warp's arrays are made anew."""
        return _make_race, (self.world, self._options), self.save()

    def __setstate__(self, saved: dict[str, Any]) -> None:
        self.restore(saved)


def _make_race(world: World, options: dict[str, Any]) -> Race:
    return Race(world, **options)
