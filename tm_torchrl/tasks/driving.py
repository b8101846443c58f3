"""What the driving tasks, in the simulator and in the game, have in common."""

from __future__ import annotations

import contextlib
from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import torch
from tensordict import NestedKey
from torchrl.envs import EnvBase
from torchrl.envs.transforms import Transform

from tm_torchrl.modules import Normalize
from tm_torchrl.settings.nearest import nearest_name
from tm_torchrl.settings.schedules import Schedule
from tm_torchrl.tasks.reward import Reward
from tm_torchrl.tasks.task import Row, TaskDefaults
from tm_torchrl.world.actions import NUM_ACTIONS, TICKS_PER_ACTION
from tm_torchrl.world.layout import Layout
from tm_torchrl.world.observation import observation_constants, observation_layout

IMAGE_SHAPE = (1, 64, 64)
MANY_FINISH = 0.95


class Driving(TaskDefaults):
    """The base of the driving tasks: what the network sees and decides, and how results are scored."""

    has_goal = True
    pixels: bool
    floats: bool | Sequence[str]
    action_block: int
    num_previous_actions: int
    transforms: Sequence[Callable[[], Transform]]
    reward: Reward | None

    @abstractmethod
    def env_to_look_at(self, *, num_envs: int = 1) -> EnvBase:
        """An environment of at most ``num_envs`` cars; the caller closes it."""

    def _check_senses(self) -> None:
        """Check what the network sees and decides."""
        if not (self.pixels or self.floats):
            raise ValueError("pixels=false, floats=false: the network would see nothing; set one of them")
        self._columns = None if isinstance(self.floats, bool) else seen_columns(self.floats, self.num_previous_actions)
        if self.action_block not in (1, TICKS_PER_ACTION):
            raise ValueError(
                f"action_block={self.action_block}: must be 1 (held 50 ms) or {TICKS_PER_ACTION} (10 ms each)"
            )

    @property
    def in_keys(self) -> list[NestedKey]:
        """The keys of the camera image and of the floats, as far as the network sees them."""
        return [key for key, is_seen in (("pixels", self.pixels), ("observation", self.floats)) if is_seen]

    def network_arguments(self) -> dict[str, Any]:
        """Sizes, and constants that normalise the floats.

        Transforms may stack the floats of several steps, which are normalised and seen as those of one step. Floats
        that they append are seen as they are.
        """
        mean, scale = (torch.from_numpy(x) for x in observation_constants(self.num_previous_actions))
        columns, num_floats = self._columns, len(mean)
        image_shape, num_slots = IMAGE_SHAPE, None if self.action_block == 1 else self.action_block
        if self.transforms:
            with contextlib.closing(self.env_to_look_at()) as env:
                floats, actions = env.observation_spec["observation"], env.action_spec
                num_steps, num_more = divmod(floats.shape[-1], num_floats)
                if self.pixels:
                    image_shape = tuple(env.observation_spec["pixels"].shape[-3:])
            if num_steps == 0:
                raise ValueError(
                    f"transforms: remove {num_floats - num_more} of the {num_floats} floats; use env.floats instead"
                )
            mean = torch.cat([mean.repeat(num_steps), mean.new_zeros(num_more)])
            scale = torch.cat([scale.repeat(num_steps), scale.new_ones(num_more)])
            if columns is not None:
                columns = [step * num_floats + column for step in range(num_steps) for column in columns]
                columns += range(num_steps * num_floats, len(mean))
            num_slots = int(actions.shape[1]) if actions.ndim > 1 else None
        groups = {field.name: field.size for field in self.float_layout().fields}
        return {
            "num_inputs": len(mean) if self.floats else None,
            "num_actions": NUM_ACTIONS,
            "num_slots": num_slots,
            "normalize": Normalize(mean, scale, columns=columns, groups=groups) if self.floats else None,
            "image_shape": image_shape if self.pixels else None,
        }

    def score(self, rows: Sequence[Row]) -> tuple[float, float]:
        """The share of laps that finish, up to 95 %, then minus the median lap time: means over the training tracks."""
        seen = [row for row in rows if not row["is_blind"]]
        finished = sum(min(row["finish_rate"], MANY_FINISH) for row in seen) / len(seen)
        times = [row["median_lap_s"] for row in seen]
        return finished, -sum(1e4 if time is None else time for time in times) / len(times)

    def schedules(self, *, speed: float) -> dict[str, Schedule]:
        """The weights of the reward that change with the frames played."""
        found = {} if self.reward is None else self.reward.schedules(speed=speed)
        return {f"reward_{name}": schedule for name, schedule in found.items()}

    def float_layout(self) -> Layout:
        """The fields of the float observation."""
        return observation_layout(self.num_previous_actions)

    def sees(self, field: str) -> bool:
        """Whether the network reads a field of the float observation."""
        return self.floats if isinstance(self.floats, bool) else field in self.floats


def seen_columns(names: Sequence[str], num_previous_actions: int) -> list[int]:
    """Columns of the named fields in the float observation.

    >>> seen_columns(["velocity", "gear"], 5)
    [34, 56, 57, 58]
    """
    layout = observation_layout(num_previous_actions)
    for name in names:
        if name not in layout.names():
            nearest = nearest_name(str(name), layout.names())
            raise ValueError(f"floats: {name!r} is not a field of the observation{nearest}")
    return sorted(column for name in set(names) for column in range(layout.size)[layout[name]])
