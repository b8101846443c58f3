"""The embedded simulator: many cars on one or more tracks; it implements the World protocol."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from secrets import randbits
from typing import Any

import numpy as np
import torch
import warp as wp

from tm_torchrl.sim.camera.camera import Camera
from tm_torchrl.sim.gates import build_gates
from tm_torchrl.sim.ground import build_ground
from tm_torchrl.sim.lap_states import LapStates
from tm_torchrl.sim.place_kernel import place_cars
from tm_torchrl.sim.starts import Randomisation, Starts, build_course, start_shares
from tm_torchrl.sim.state import STATE
from tm_torchrl.sim.step_kernel import advance_cars
from tm_torchrl.tracks import Track
from tm_torchrl.world.actions import TICKS_PER_ACTION
from tm_torchrl.world.car_row import CAR_ROW
from tm_torchrl.world.warp_arrays import as_warp, warp_device


class Simulator:
    """Batched cars in NVIDIA Warp over torch-owned memory.

    A car's future depends on its own state, its actions and (seed, car number, episode) alone, so results are
    bit-identical for any number of cars and processes.

    Args:
        tracks: One or more tracks; each reset draws one per car.
        num_cars: How many cars this process simulates.
        seed: Seeds everything that is drawn at resets; ``None`` takes a seed from the system's entropy.
        starts: Where cars begin; on the start line by default. Laps to begin on are given to ``lap_states``.
        randomisation: How much the physics differs between cars; not at all by default.
        image_size: Height and width of the greyscale camera image in pixels; ``None`` for no camera.
        first_car: Number of the first car, so that several processes share one numbering.
        device: ``"cpu"`` or a CUDA device.
    """

    def __init__(
        self,
        tracks: Sequence[Track] | Track,
        *,
        num_cars: int,
        seed: int | None = 0,
        starts: Starts | None = None,
        randomisation: Randomisation | None = None,
        image_size: int | None = None,
        first_car: int = 0,
        device: torch.device | str = "cpu",
    ) -> None:
        self.tracks = (tracks,) if isinstance(tracks, Track) else tuple(tracks)
        if not self.tracks:
            raise ValueError("tracks=[]: must hold at least one track")
        if num_cars < 1:
            raise ValueError(f"num_cars={num_cars}: must be at least 1")
        if type(first_car) is not int or not 0 <= first_car < 2**31 - num_cars:
            raise ValueError(f"first_car={first_car!r}: must be a whole number from 0, below 2**31 - num_cars")
        for name, part, kind in (("starts", starts, Starts), ("randomisation", randomisation, Randomisation)):
            if not isinstance(part, kind | None):
                raise ValueError(f"{name}={part!r}: must be a {kind.__name__}(...), or None")
        self.num_cars = num_cars
        self.device = torch.device(device)
        self.image_size = image_size
        options = {"starts": starts, "randomisation": randomisation, "image_size": image_size, "first_car": first_car}
        arguments: dict[str, Any] = {**options, "num_cars": num_cars, "device": device}
        self._make_fresh: Callable[[], Simulator] = partial(type(self), self.tracks, **arguments)
        wp_device = warp_device(self.device)
        self.camera = None if image_size is None else Camera(self.tracks, image_size=image_size, device=self.device)
        self._ground = build_ground(self.tracks, device=wp_device)
        self._gates = build_gates(self.tracks, device=wp_device)
        self.num_gates = tuple(len(track.gates) * track.num_laps for track in self.tracks)

        self._state = torch.zeros(num_cars, STATE.size, device=self.device)
        self.track_index = torch.zeros(num_cars, dtype=torch.int32, device=self.device)
        self._start_zone = torch.zeros(num_cars, dtype=torch.int32, device=self.device)
        self._mask = torch.ones(num_cars, dtype=torch.bool, device=self.device)
        self._first_car = first_car
        self._seeds = torch.zeros(num_cars, 2, dtype=torch.int32, device=self.device)  # seed, car number
        self.set_seed(seed)
        size = image_size or 0
        self._frames = torch.zeros(num_cars, 1, size, size, dtype=torch.uint8, device=self.device)
        self._actions: dict[tuple[int, int], torch.Tensor] = {}
        self._launches: dict[tuple[int, int], wp.Launch] = {}
        self._cars = [as_warp(self._state), as_warp(self.track_index)]
        placed = [as_warp(values) for values in (self._start_zone, self._mask)]
        self.starts = starts or Starts()
        shares = start_shares(self.starts, randomisation or Randomisation())
        self.lap_states = LapStates(len(self.tracks), device=self.device, is_used=self.starts.uses_laps)
        places = [self._ground, self._gates, build_course(self.tracks, device=wp_device), self.lap_states.table]
        self._place = self._record(place_cars, [*self._cars, *placed, *places, shares, as_warp(self._seeds)])
        self.reset()

    def _record(self, kernel: wp.Kernel, inputs: list[object]) -> wp.Launch:
        return wp.launch(kernel, dim=self.num_cars, inputs=inputs, device=warp_device(self.device), record_cmd=True)

    def reset(self, mask: torch.Tensor | None = None) -> torch.Tensor:
        """Begin new episodes for the masked cars (all by default); returns each car's start zone, int32 ``[B]``."""
        if mask is None:
            self._mask.fill_(True)
        else:
            self._mask.copy_(mask)
        self._place.launch()
        return self._start_zone

    def step(self, actions: torch.Tensor) -> None:
        """Play 50 ms: one action ``[B]`` held for five ticks, or ``[B, 5]`` with one action per tick."""
        slots = 1 if actions.ndim == 1 else actions.shape[1]
        if TICKS_PER_ACTION % slots:
            raise ValueError(f"actions has shape {tuple(actions.shape)}; expected [B] or [B, {TICKS_PER_ACTION}]")
        self._play(actions, slots, TICKS_PER_ACTION // slots)

    def tick(self, actions: torch.Tensor, *, num_ticks: int) -> None:
        """Play ticks of 10 ms with one action ``[B]`` held, for an emulator whose clock stops between steps."""
        if num_ticks < 1:
            raise ValueError(f"num_ticks={num_ticks}: must be at least 1")
        self._play(actions, 1, num_ticks)

    def _play(self, actions: torch.Tensor, slots: int, ticks: int) -> None:
        key = (slots, ticks)
        launch = self._launches.get(key) or self._prepare(key)
        self._actions[key].copy_(actions.view(self.num_cars, slots))
        launch.launch()

    def _prepare(self, key: tuple[int, int]) -> wp.Launch:
        """Record the launch for a number of action slots and of ticks in each slot."""
        slots, ticks = key
        buffer = torch.zeros(self.num_cars, slots, dtype=torch.int64, device=self.device)
        self._actions[key] = buffer
        inputs = [*self._cars, as_warp(buffer), self._ground, self._gates, ticks]
        self._launches[key] = self._record(advance_cars, inputs)
        return self._launches[key]

    def rows(self) -> torch.Tensor:
        """Car rows, float32 ``[B, CAR_ROW.size]``; a view that the next step overwrites."""
        return self._state[:, : CAR_ROW.size]

    def frames(self) -> torch.Tensor:
        """Greyscale camera images, uint8 ``[B, 1, H, W]``; the next call overwrites them."""
        if self.camera is None:
            raise RuntimeError("the simulator has no camera; construct it with image_size=64")
        return self.camera.render(self._state, self.track_index, self._frames)

    def set_seed(self, seed: int | Sequence[int | None] | None) -> None:
        """Seed the resets that follow and count episodes from 0 again.

        Args:
            seed: One seed, from which each car draws by its number; ``None`` for one from the system's entropy. A
                sequence seeds each car as if it were alone, except where it holds ``None``.
        """
        episodes = self._state[:, STATE.start("episode")]
        if not isinstance(seed, Sequence):
            self._seeds[:, 0] = _int32(randbits(31) if seed is None else seed)
            self._seeds[:, 1] = torch.arange(self._first_car, self._first_car + self.num_cars)
            episodes.zero_()
            return
        if len(seed) != self.num_cars:
            raise ValueError(f"seed has {len(seed)} entries; expected {self.num_cars}, one per car")
        for car, own in enumerate(seed):
            if own is not None:
                self._seeds[car, 0] = _int32(own)
                self._seeds[car, 1] = 0
                episodes[car] = 0.0

    def save(self) -> torch.Tensor:
        """A copy of the state that the future depends on, ``[B, STATE.size]``."""
        return self._state.clone()

    def restore(self, blob: torch.Tensor) -> None:
        """Return to a saved state."""
        if blob.shape != self._state.shape:
            raise ValueError(f"blob has shape {tuple(blob.shape)}; expected {tuple(self._state.shape)}")
        tracks = blob[:, STATE.start("track")]
        if not ((tracks >= 0) & (tracks < len(self.tracks))).all():
            raise ValueError(
                f"blob has cars on track {float(tracks.max()):g}; the simulator's {len(self.tracks)} tracks count from "
                "0: restore a state that was saved with the same tracks"
            )
        self._state.copy_(blob)
        self.track_index.copy_(self._state[:, STATE.start("track")])

    def __reduce__(self) -> tuple[Callable[[], Simulator], tuple[()], dict[str, torch.Tensor]]:
        """Pickle the constructor's arguments and the state; Warp's arrays are made anew. Copies share the tracks."""
        return self._make_fresh, (), {"state": self.save(), "seeds": self._seeds, **self.lap_states.save()}

    def __setstate__(self, saved: dict[str, torch.Tensor]) -> None:
        self._seeds.copy_(saved["seeds"])
        self.lap_states.restore(saved)
        self.restore(saved["state"])


def _int32(seed: int) -> int:
    """The seed's lowest 32 bits as the signed number that the kernel takes."""
    if not isinstance(seed, (int, np.integer)) or seed < 0:
        raise ValueError(f"seed={seed!r}: must be a whole number of at least 0")
    return (int(seed) + 2**31) % 2**32 - 2**31
