"""Gymnasium environments over the simulator: one car, or a batch of cars."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from tm_torchrl.envs.race import Race
from tm_torchrl.envs.rewards import RewardTerm
from tm_torchrl.envs.trackmania import choose_tracks
from tm_torchrl.sim import Randomisation, Simulator, Starts
from tm_torchrl.tracks import Track
from tm_torchrl.world.actions import NUM_ACTIONS
from tm_torchrl.world.observation import observation_constants
from tm_torchrl.world.tracker import EndCause, Limits

METADATA: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": 20}


class _Cars:
    """Simulator, race and spaces of both environments, with numpy arrays as input and output."""

    def __init__(
        self,
        num_cars: int,
        *,
        render_mode: str | None,
        track: str | Path | Track | None = None,
        tracks: Sequence[str | Path | Track] | None = None,
        pixels: bool = False,
        image_size: int = 64,
        action_block: int = 1,
        num_previous_actions: int = 5,
        reward: Sequence[RewardTerm] | None = None,
        limits: Limits | None = None,
        starts: Starts | None = None,
        randomisation: Randomisation | None = None,
    ) -> None:
        if render_mode not in (None, "rgb_array"):
            raise ValueError(f"render_mode={render_mode!r}: must be None or 'rgb_array'")
        self.pixels = pixels
        self.simulator = Simulator(
            choose_tracks(track, tracks),
            num_cars=num_cars,
            seed=None,
            starts=starts,
            randomisation=randomisation,
            image_size=image_size if pixels else None,
        )
        self.race = Race(
            self.simulator,
            action_block=action_block,
            num_previous_actions=num_previous_actions,
            reward=reward,
            limits=limits,
        )
        self.observation_mean, self.observation_scale = observation_constants(num_previous_actions)
        floats = spaces.Box(-np.inf, np.inf, (self.race.sensors.layout.size,), np.float32)
        self.observation_space: spaces.Space[Any] = floats
        if pixels:
            image = spaces.Box(0, 255, (1, image_size, image_size), np.uint8)
            self.observation_space = spaces.Dict({"observation": floats, "pixels": image})
        self.action_space: spaces.Space[Any] = (
            spaces.Discrete(NUM_ACTIONS) if action_block == 1 else spaces.MultiDiscrete([NUM_ACTIONS] * action_block)
        )

    def observe(self) -> Any:
        floats = self.race.observation.numpy().copy()
        return {"observation": floats, "pixels": self.simulator.frames().numpy().copy()} if self.pixels else floats

    def infos(self) -> dict[str, np.ndarray]:
        tracker = self.race.tracker
        times = tracker.rows[:, tracker.layout["checkpoint_times_ms"]]
        return {
            "race_time_ms": tracker["race_time_ms"].numpy().astype(np.int64),
            "checkpoint_times_ms": times.numpy().astype(np.int64),
            "is_finished": tracker["end_cause"].numpy() == EndCause.FINISHED,
            "end_cause": tracker["end_cause"].numpy().astype(np.int64),
        }

    def step(self, actions: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Rewards, terminations and truncations."""
        chosen = np.asarray(actions)
        shape = self.race.action_shape
        if not np.issubdtype(chosen.dtype, np.integer):
            raise TypeError(f"action has dtype {chosen.dtype}; expected integers in 0..{NUM_ACTIONS - 1}")
        if chosen.size != np.prod(shape):
            raise ValueError(f"action has shape {chosen.shape}; expected {shape}")
        outcome = self.race.step(torch.from_numpy(chosen.astype(np.int64)).reshape(shape))
        return outcome.reward.numpy().copy(), outcome.terminated.numpy(), outcome.truncated.numpy()


class TrackManiaGymEnv(gymnasium.Env[Any, Any]):
    """One car on a track; ``gymnasium.make("tm_torchrl/TrackMania-v0", track=..., pixels=...)``.

    Observations are 184 raw floats (264 with 25 previous actions), or with ``pixels`` a dict of ``observation`` and
    ``pixels``. ``observation_mean`` and ``observation_scale`` normalise the floats: ``(observation - mean) / scale``.

    Args:
        render_mode: ``"rgb_array"`` for a coloured chase view.
        cars: Arguments of :class:`TrackManiaEnv` for the simulator and the race.
    """

    metadata: ClassVar[dict[str, Any]] = METADATA  # type: ignore[misc]

    def __init__(self, *, render_mode: str | None = None, **cars: Any) -> None:
        self.render_mode = render_mode
        self._cars = _Cars(1, render_mode=render_mode, **cars)
        self.observation_space = self._cars.observation_space
        self.action_space = self._cars.action_space
        self.observation_mean, self.observation_scale = self._cars.observation_mean, self._cars.observation_scale

    def _observation(self) -> Any:
        batch = self._cars.observe()
        return {key: value[0] for key, value in batch.items()} if self._cars.pixels else batch[0]

    def _info(self) -> dict[str, Any]:
        return {key: value[0] for key, value in self._cars.infos().items()}

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begin a new episode."""
        super().reset(seed=seed)
        if seed is not None:
            self._cars.simulator.set_seed(seed)
        self._cars.race.reset()
        return self._observation(), self._info()

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Play 50 ms."""
        reward, terminated, truncated = self._cars.step(action)
        return self._observation(), float(reward[0]), bool(terminated[0]), bool(truncated[0]), self._info()

    def render(self) -> Any:
        """A coloured picture from behind the car, uint8 ``[H, W, 3]``; None without a ``render_mode``."""
        return None if self.render_mode is None else self._cars.race.render()[0]


class TrackManiaVectorEnv(VectorEnv[Any, Any, np.ndarray]):
    """Many cars in one process; ``gymnasium.make_vec("tm_torchrl/TrackMania-v0", num_envs=64)``.

    It returns what gymnasium's ``SyncVectorEnv`` of :class:`TrackManiaGymEnv` returns, also for the same seeds.

    Args:
        num_envs: Number of cars.
        autoreset_mode: When a car that is done begins a new episode, as gymnasium defines it: ``NEXT_STEP``, the step
            after, whose action is ignored; ``SAME_STEP``, at once, with the last observation in ``info["final_obs"]``;
            ``DISABLED``, when ``reset(options={"reset_mask": ...})`` says so.
        render_mode: ``"rgb_array"`` for a coloured chase view of each car.
        cars: Arguments of :class:`TrackManiaEnv` for the simulator and the race.
    """

    def __init__(
        self,
        num_envs: int = 1,
        *,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        render_mode: str | None = None,
        **cars: Any,
    ) -> None:
        self.num_envs = num_envs
        self.autoreset_mode = AutoresetMode(autoreset_mode)
        self.metadata = {**METADATA, "autoreset_mode": self.autoreset_mode}
        self.render_mode = render_mode
        self._cars = _Cars(num_envs, render_mode=render_mode, **cars)
        self.observation_mean, self.observation_scale = self._cars.observation_mean, self._cars.observation_scale
        self.single_observation_space = self._cars.observation_space
        self.single_action_space = self._cars.action_space
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._is_done = np.zeros(num_envs, bool)

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Begin new episodes.

        Args:
            seed: A seed for each car, or the first car's; the others take the following numbers.
            options: ``{"reset_mask": bool [num_envs]}`` resets, and seeds, these cars only.
        """
        mask = np.asarray((options or {}).get("reset_mask", np.ones(self.num_envs, bool)))
        if mask.shape != (self.num_envs,) or mask.dtype != bool:
            raise ValueError(f"reset_mask is {mask.dtype} {mask.shape}: must be bool ({self.num_envs},)")
        if seed is not None:
            seeds: list[int | None]
            seeds = list(seed) if isinstance(seed, Sequence) else [int(seed) + i for i in range(self.num_envs)]
            super().reset(seed=seeds[0])
            for car in np.flatnonzero(~mask):
                seeds[car] = None
            self._cars.simulator.set_seed(seeds)
        self._reset(mask)
        return self._cars.observe(), self._infos(mask)

    def _reset(self, mask: np.ndarray) -> None:
        self._cars.race.reset(torch.from_numpy(mask))
        self._is_done = self._is_done & ~mask

    def _infos(self, mask: np.ndarray) -> dict[str, Any]:
        """Infos of all cars, which are valid for the masked cars."""
        infos = self._cars.infos()
        return {**infos, **{f"_{key}": mask.copy() for key in infos}}

    def step(self, actions: Any) -> tuple[Any, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Play 50 ms."""
        was_done = self._is_done
        if self.autoreset_mode == AutoresetMode.DISABLED and was_done.any():
            raise RuntimeError(
                f"cars {np.flatnonzero(was_done).tolist()} are done; call reset(options={{'reset_mask': mask}}) first"
            )
        reward, terminated, truncated = self._cars.step(actions)
        if was_done.any():
            self._reset(was_done)
            reward[was_done] = 0.0
            terminated, truncated = terminated & ~was_done, truncated & ~was_done
        self._is_done = terminated | truncated
        final = {}
        if self.autoreset_mode == AutoresetMode.SAME_STEP and self._is_done.any():
            final = self._final()
            self._reset(self._is_done)
        infos = self._infos(np.ones(self.num_envs, bool))
        return self._cars.observe(), reward, terminated, truncated, {**infos, **final}

    def _final(self) -> dict[str, Any]:
        """Last observations and infos of the cars that are done, as gymnasium names and stores them."""
        done, last = self._is_done, self._cars.observe()
        observations = np.full(self.num_envs, None, object)
        for car in np.flatnonzero(done):
            observations[car] = {key: x[car] for key, x in last.items()} if self._cars.pixels else last[car]
        infos = {"final_obs": observations, "final_info": self._infos(done)}
        return {**infos, **{f"_{key}": done.copy() for key in infos}}

    def render(self) -> Any:
        """A coloured picture from behind each car; None without a ``render_mode``."""
        return None if self.render_mode is None else tuple(self._cars.race.render())
