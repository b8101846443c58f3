"""Small worlds for tests."""

from __future__ import annotations

import functools

import numpy as np
import torch

from tm_torchrl.sim import Simulator
from tm_torchrl.sim.state import STATE
from tm_torchrl.tracks import Surface, Track
from tm_torchrl.world.car_row import CAR_ROW

KMH = 1.0 / 3.6


def plain(
    *, length: int = 1500, height: np.ndarray | None = None, surface: int = Surface.ASPHALT, half_width: float = 100.0
) -> Track:
    """A straight road along z, wide enough to turn on; equal ones are made once."""
    heights = None if height is None else tuple(height.tolist())
    return _straight(length, heights, surface, half_width)


@functools.cache
def _straight(length: int, height: tuple[float, ...] | None, surface: int, half_width: float) -> Track:
    z = np.arange(float(length))
    line = np.stack([0.0 * z, 0.0 * z if height is None else np.array(height), z], axis=1)
    options = {"half_width": half_width, "surface": np.array(surface), "wall_offset": 5.0}
    return Track("plain", line, start=10, finish=length - 10, **options)


class OneCar:
    """A single car and its readings, for physics tests."""

    def __init__(self, track: Track) -> None:
        self.sim = Simulator(track, num_cars=1)

    def put(self, *, speed_kmh: float = 0.0, x: float = 0.0, z: float = 200.0, turned_left: bool = False) -> None:
        """Stand the car somewhere, rolling straight ahead in the right gear."""
        self.sim.reset()
        state = self.sim._state
        height = state[0, STATE.start("position") + 1].item()
        state[0, STATE["position"]] = torch.tensor([x, height, z])
        gears = (101.0, 161.5, 235.0, 341.5)
        state[0, STATE["gear"]] = 1.0 + sum(speed_kmh > up for up in gears)
        if turned_left:
            state[0, STATE["attitude"]] = torch.tensor([0.0, 0.5**0.5, 0.0, 0.5**0.5])
        along = [speed_kmh * KMH, 0.0, 0.0] if turned_left else [0.0, 0.0, speed_kmh * KMH]
        state[0, STATE["velocity"]] = torch.tensor(along)

    def step(self, action: int, times: int = 1) -> None:
        """Hold an action for some 50 ms steps."""
        for _ in range(times):
            self.sim.step(torch.tensor([action]))

    def __getitem__(self, name: str) -> np.ndarray:
        return self.sim.rows()[0, CAR_ROW[name]].numpy().astype(np.float64)

    @property
    def speed_kmh(self) -> float:
        """Speed over ground."""
        return float(np.linalg.norm(self["velocity"])) * 3.6

    @property
    def ahead(self) -> np.ndarray:
        """Where the nose points."""
        return self["rotation"].reshape(3, 3)[:, 2]

    @property
    def slip_deg(self) -> float:
        """Angle between nose and motion."""
        velocity = self["velocity"]
        across = np.cross(velocity, self.ahead)[1]
        return float(np.degrees(np.arctan2(across, velocity @ self.ahead)))
