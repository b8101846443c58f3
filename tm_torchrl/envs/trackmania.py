"""``TrackManiaEnv``: a batch of cars as a TorchRL environment."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tensordict import TensorDict, TensorDictBase
from torchrl.data import Binary, Bounded, Categorical, Composite, Unbounded
from torchrl.envs import EnvBase

from tm_torchrl.envs.race import Race
from tm_torchrl.envs.rewards import RewardTerm
from tm_torchrl.sim import Randomisation, Simulator, Starts
from tm_torchrl.tracks import DEFAULT_TRACK, Track, load_track
from tm_torchrl.world.actions import NUM_ACTIONS
from tm_torchrl.world.observation import observation_constants
from tm_torchrl.world.protocol import World
from tm_torchrl.world.tracker import EndCause, Limits


class TrackManiaEnv(EnvBase):
    """Cars on tracks: 50 ms per step, 12 actions, a float vector and, optionally, a greyscale camera image.

    Keys: ``observation`` float32 ``[N, F]`` in raw SI values (named by ``observation_layout``); ``pixels`` uint8
    ``[N, 1, H, W]``; ``action`` int64 ``[N]``, or ``[N, 5]`` for blocks; ``info`` with ``race_time_ms``,
    ``checkpoint_times_ms``, ``is_finished`` and ``end_cause`` (an ``EndCause``). A finish terminates an episode, any
    other end truncates it.

    ``observation_mean`` and ``observation_scale`` (each float32 ``[F]``) bring the floats near zero mean and unit
    deviation: ``(observation - mean) / scale``. Pixels are channels first, as networks take them, so that TorchRL's
    ``ToTensorImage``, which moves the channels of ``[H, W, C]``, needs ``shape_tolerant=True`` here.

    Args:
        num_envs: Number of cars, which is the batch size; ``None`` for one car without a batch dimension.
        track: A built-in track's name, a ``.npz`` file or a ``Track``; the default track if nothing is given.
        tracks: Several of these, such as ``[generate_track(seed) for seed in range(8)]``; each reset draws one per car.
        world: The world to drive in instead of the simulator, such as a game client.
        pixels: Whether steps include camera images.
        image_size: Height and width of the images in pixels.
        action_block: Actions per step: 1 (held 50 ms) or 5 (10 ms each).
        num_previous_actions: Past actions in the observation (5: 184 floats, 25: 264).
        reward: Terms whose sum is the reward; time and progress by default, as in Linesight.
        limits: When an episode is cut short.
        starts: Where the simulator's cars begin; on the start line by default.
        randomisation: How much the simulator's physics differs between cars; not at all by default.
        first_car: Number of the first car, so that several workers share one numbering.
        seed: Seeds everything that the simulator draws at resets; from the system's entropy by default.
        device: The device of the simulator and of all tensors.

    Examples:
        >>> env = TrackManiaEnv(2, track="oval")
        >>> env.rollout(3)["next", "observation"].shape
        torch.Size([2, 3, 184])
    """

    batch_locked = True

    def __init__(
        self,
        num_envs: int | None = 1,
        *,
        track: str | Path | Track | None = None,
        tracks: Sequence[str | Path | Track] | None = None,
        world: World | None = None,
        pixels: bool = False,
        image_size: int = 64,
        action_block: int = 1,
        num_previous_actions: int = 5,
        reward: Sequence[RewardTerm] | None = None,
        limits: Limits | None = None,
        starts: Starts | None = None,
        randomisation: Randomisation | None = None,
        first_car: int = 0,
        seed: int | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        num_cars = 1 if num_envs is None else num_envs
        if type(num_cars) is not int or num_cars < 1:
            raise ValueError(f"num_envs={num_envs!r}: must be a whole number of at least 1, or None")
        if world is None:
            world = Simulator(
                choose_tracks(track, tracks),
                num_cars=num_cars,
                seed=seed,
                starts=starts,
                randomisation=randomisation,
                image_size=image_size if pixels else None,
                first_car=first_car,
                device=device,
            )
        elif any(given is not None for given in (track, tracks, starts, randomisation)):
            raise ValueError("world: has its own tracks: leave out track, tracks, starts and randomisation")
        elif world.num_cars != num_cars:
            raise ValueError(f"num_envs={num_envs}: must be {world.num_cars}, the number of cars in the world")
        elif pixels and world.image_size is None:
            raise ValueError(f"pixels=True: {type(world).__name__} was made without a camera")
        super().__init__(device=world.device, batch_size=() if num_envs is None else (num_envs,))
        self.world = world
        self.pixels = pixels
        self.race = Race(
            world,
            action_block=action_block,
            num_previous_actions=num_previous_actions,
            reward=reward,
            limits=limits,
        )
        mean, scale = (torch.from_numpy(x).to(self.device) for x in observation_constants(num_previous_actions))
        self.observation_mean, self.observation_scale = mean, scale
        self._make_specs()

    def __repr__(self) -> str:
        tracks = ", ".join(track.name for track in self.world.tracks)
        block = "" if self.action_spec.ndim == self.batch_dims else f", action_block={self.action_spec.shape[-1]}"
        name = f"{type(self).__name__}(batch_size={list(self.batch_size)}, tracks=[{tracks}], pixels={self.pixels}"
        return f"{name}{block}, device={self.device})"

    def _make_specs(self) -> None:
        device, batch = self.device, self.batch_size
        race = self.race
        info = Composite(
            race_time_ms=Unbounded(batch, dtype=torch.int32, device=device),
            checkpoint_times_ms=Unbounded((*batch, race.tracker.num_gates), dtype=torch.int32, device=device),
            is_finished=Binary(shape=batch, dtype=torch.bool, device=device),
            end_cause=Unbounded(batch, dtype=torch.int32, device=device),
            shape=batch,
        )
        observation = Composite(
            observation=Unbounded((*batch, race.sensors.layout.size), device=device), info=info, shape=batch
        )
        if self.pixels:
            size = self.world.image_size
            observation["pixels"] = Bounded(0, 255, shape=(*batch, 1, size, size), dtype=torch.uint8, device=device)
        self.observation_spec = observation
        action_shape = (*batch, *race.action_shape[1:])
        self.action_spec = Categorical(NUM_ACTIONS, shape=action_shape, dtype=torch.int64, device=device)
        self.reward_spec = Unbounded((*batch, 1), device=device)
        flag = Binary(shape=(*batch, 1), dtype=torch.bool, device=device)
        self.full_done_spec = Composite(done=flag.clone(), terminated=flag.clone(), truncated=flag.clone(), shape=batch)

    def _observe(self) -> dict[str, torch.Tensor | dict[str, torch.Tensor]]:
        tracker = self.race.tracker
        out: dict[str, torch.Tensor | dict[str, torch.Tensor]] = {
            "observation": self.race.observation,
            "info": {
                "race_time_ms": tracker["race_time_ms"].to(torch.int32),
                "checkpoint_times_ms": tracker.rows[:, tracker.layout["checkpoint_times_ms"]].to(torch.int32),
                "is_finished": tracker["end_cause"] == EndCause.FINISHED,
                "end_cause": tracker["end_cause"].to(torch.int32),
            },
        }
        if self.pixels:
            out["pixels"] = self.world.frames().clone()
        return out

    def _reset(self, tensordict: TensorDictBase | None = None, **kwargs: object) -> TensorDictBase:
        mask = None if tensordict is None else tensordict.get("_reset", None)
        self.race.reset(None if mask is None else mask.view(-1))
        return self.present()

    def present(self) -> TensorDictBase:
        """The current observations of all cars, as a reset returns them; use it after ``restore``."""
        nobody = torch.zeros(self.world.num_cars, 1, dtype=torch.bool, device=self.device)
        return self._batched({"done": nobody, "terminated": nobody.clone(), "truncated": nobody.clone()})

    def _step(self, tensordict: TensorDictBase) -> TensorDictBase:
        action = tensordict["action"]
        outcome = self.race.step(action if self.batch_size else action.unsqueeze(0))
        terminated = outcome.terminated.unsqueeze(-1)
        truncated = outcome.truncated.unsqueeze(-1)
        flags = {"done": terminated | truncated, "terminated": terminated, "truncated": truncated}
        return self._batched({"reward": outcome.reward.unsqueeze(-1), **flags})

    def _batched(self, more: dict[str, torch.Tensor]) -> TensorDictBase:
        """Observations and more with this environment's batch size; both come with one row per car."""
        out = TensorDict({**self._observe(), **more}, batch_size=[self.world.num_cars], device=self.device)
        return out if self.batch_size else out[0]

    def _set_seed(self, seed: int | None) -> None:
        self.world.set_seed(seed)

    def seed_copies(self, seeds: Sequence[int | None]) -> None:
        """Seed the next reset of each of the simulator's cars, except where there is ``None``."""
        if not isinstance(self.world, Simulator):
            raise ValueError(f"world={type(self.world).__name__}: its starts take no seeds; use the simulator")
        starts = self.world.starts
        if starts.lost_time > 0.0 or (starts.uses_laps and starts.laps == "own"):
            raise ValueError(
                "starts: those of lost_time and of laps=own follow from earlier episodes, so that groups cannot share "
                "them; use algorithm.starts=mixed"
            )
        self.world.set_seed(seeds)

    def render(self) -> np.ndarray:
        """Coloured pictures from behind the cars, uint8 ``[*B, H, W, 3]``; each takes some 10 ms."""
        pictures = self.race.render()
        return pictures if self.batch_size else pictures[0]

    def set_frames(self, num_frames: int) -> None:
        """Set how many frames have been played; rewards whose weights are schedules depend on it."""
        self.race.num_frames = num_frames

    def save(self) -> dict[str, Any]:
        """A copy of the state of all cars that the future depends on."""
        return self.race.save()

    def restore(self, saved: dict[str, Any]) -> None:
        """Return to a saved state; the next step continues from there."""
        self.race.restore(saved)


def choose_tracks(track: str | Path | Track | None, tracks: Sequence[str | Path | Track] | None) -> list[Track]:
    """The tracks given by ``track`` or ``tracks``; the default track if neither is given."""
    if track is not None and tracks is not None:
        raise ValueError("track and tracks: only one of them can be given")
    if isinstance(tracks, str):
        raise ValueError(f"tracks={tracks!r}: must be a list; for one track give track={tracks!r}")
    chosen = tracks if tracks is not None else [DEFAULT_TRACK if track is None else track]
    return [item if isinstance(item, Track) else load_track(item) for item in chosen]
