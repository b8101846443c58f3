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
from tm_torchrl.sim.camera.views import chase_view
from tm_torchrl.tracks import Track
from tm_torchrl.world.actions import NUM_ACTIONS
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
            choose_tracks(track, tracks, None, ()),
            num_cars=num_cars,
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

    def views(self) -> list[np.ndarray]:
        """A coloured picture from behind each car, uint8 ``[H, W, 3]``."""
        tracks = [self.simulator.tracks[i] for i in self.simulator.track_index.tolist()]
        return [chase_view(track, row) for track, row in zip(tracks, self.simulator.rows(), strict=True)]


class TrackManiaGymEnv(gymnasium.Env[Any, Any]):
    """One car on a track; ``gymnasium.make("tm_torchrl/TrackMania-v0", track=..., pixels=...)``.

    Observations are 184 raw floats (264 with 25 previous actions), or with ``pixels`` a dict of ``observation`` and
    ``pixels``.

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
        return None if self.render_mode is None else self._cars.views()[0]


class TrackManiaVectorEnv(VectorEnv[Any, Any, np.ndarray]):
    """Many cars in one process; ``gymnasium.make_vec("tm_torchrl/TrackMania-v0", num_envs=64)``.

    A car that is done is reset by its next step (gymnasium's next-step mode).

    Args:
        num_envs: Number of cars.
        render_mode: ``"rgb_array"`` for a coloured chase view of each car.
        cars: Arguments of :class:`TrackManiaEnv` for the simulator and the race.
    """

    metadata: ClassVar[dict[str, Any]] = {**METADATA, "autoreset_mode": AutoresetMode.NEXT_STEP}  # type: ignore[misc]

    def __init__(self, num_envs: int = 1, *, render_mode: str | None = None, **cars: Any) -> None:
        self.num_envs = num_envs
        self.render_mode = render_mode
        self._cars = _Cars(num_envs, render_mode=render_mode, **cars)
        self.single_observation_space = self._cars.observation_space
        self.single_action_space = self._cars.action_space
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._is_done = np.zeros(num_envs, bool)

    def reset(
        self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Begin new episodes, of the cars in ``options["reset_mask"]`` only if it is given."""
        single = seed[0] if isinstance(seed, list) else seed
        super().reset(seed=single)
        if single is not None:
            self._cars.simulator.set_seed(single)
        mask = None if options is None else options.get("reset_mask")
        self._cars.race.reset(None if mask is None else torch.from_numpy(np.asarray(mask, bool)))
        if mask is None:
            self._is_done[:] = False
        else:
            self._is_done[mask] = False
        return self._cars.observe(), self._infos()

    def _infos(self) -> dict[str, Any]:
        infos: dict[str, Any] = dict(self._cars.infos())
        infos.update({f"_{key}": np.ones(self.num_envs, bool) for key in tuple(infos)})
        return infos

    def step(self, actions: Any) -> tuple[Any, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Play 50 ms; cars that were done begin a new episode instead, with reward 0."""
        reward, terminated, truncated = self._cars.step(actions)
        if self._is_done.any():
            self._cars.race.reset(torch.from_numpy(self._is_done))
            reward = np.where(self._is_done, np.float32(0.0), reward)
            terminated = terminated & ~self._is_done
            truncated = truncated & ~self._is_done
        self._is_done = terminated | truncated
        return self._cars.observe(), reward, terminated, truncated, self._infos()

    def render(self) -> Any:
        """A coloured picture from behind each car; None without a ``render_mode``."""
        return None if self.render_mode is None else tuple(self._cars.views())
