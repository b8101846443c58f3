"""Scripted drivers, for medals, demonstrations and tests, and the loop that lets a driver drive."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from tm_torchrl.tracks import Track, racing_line, speed_profile
from tm_torchrl.tracks.zones import NUM_BEFORE, ZONE_SPACING_M
from tm_torchrl.world.actions import BACKWARD, FORWARD, NUM_ACTIONS
from tm_torchrl.world.car_row import CAR_ROW
from tm_torchrl.world.protocol import World
from tm_torchrl.world.tracker import EndCause, Limits, Tracker


class Driver(Protocol):
    """Chooses actions for all cars."""

    def __call__(self, rows: Tensor, tracker: Tracker) -> Tensor:
        """Actions int64 ``[B]`` from car rows and tracker."""
        ...


def drive(world: World, driver: Driver, *, limits: Limits | None = None) -> Iterator[Tracker]:
    """Race all cars of a world from new starts until every race is over.

    Yields the same tracker at the start and after each step; the row of a car whose race is over stays as it ended.

    Args:
        world: The world to drive in; it is reset first.
        driver: Chooses the actions.
        limits: When a race is cut short.

    Examples:
        >>> from tm_torchrl.sim import Simulator
        >>> from tm_torchrl.tracks import load_track
        >>> *_, tracker = drive(Simulator(load_track("oval"), num_cars=1), FullThrottle(), limits=Limits(race_s=1.0))
        >>> EndCause(int(tracker["end_cause"])).name, tracker["race_time_ms"].item()
        ('TIME_LIMIT', 1000.0)
    """
    tracker = Tracker(world, limits=limits)
    tracker.reset(world.reset(), torch.ones(world.num_cars, dtype=torch.bool, device=world.device))
    yield tracker
    while True:
        is_over = tracker["end_cause"] != EndCause.NONE
        if is_over.all():
            return
        ended = tracker.rows[is_over]
        actions = driver(world.rows(), tracker)
        world.step(actions)
        tracker.update(actions)
        tracker.rows[is_over] = ended
        yield tracker


class FullThrottle:
    """Holds the gas and does nothing else."""

    def __call__(self, rows: Tensor, tracker: Tracker) -> Tensor:
        """The action forward for every car."""
        return torch.full((len(rows),), FORWARD, dtype=torch.int64, device=rows.device)


class RandomDriver:
    """Draws each action uniformly."""

    def __init__(self, *, seed: int = 0) -> None:
        self._generator = torch.Generator().manual_seed(seed)

    def __call__(self, rows: Tensor, tracker: Tracker) -> Tensor:
        """A random action for every car."""
        return torch.randint(NUM_ACTIONS, (len(rows),), generator=self._generator).to(rows.device)


class Replay:
    """Plays recorded actions, the same for every car, then holds the gas."""

    def __init__(self, actions: Sequence[int] | np.ndarray) -> None:
        self.actions = [int(a) for a in actions]
        self._next = 0

    def __call__(self, rows: Tensor, tracker: Tracker) -> Tensor:
        """The next recorded action for every car."""
        action = self.actions[self._next] if self._next < len(self.actions) else FORWARD
        self._next += 1
        return torch.full((len(rows),), action, dtype=torch.int64, device=rows.device)


class Pursuit:
    """Steers at a point ahead and keeps below a speed profile: the scripted driver behind the medals.

    Args:
        tracks: The world's tracks.
        track_index: The world's tensor of each car's track.
        boldness: Share of the car's side friction that the driver uses in corners.
        brakes: Whether it brakes; if not, it only lifts the gas.
    """

    SIDE_ACCELERATION = 60.0  # m/s^2 on asphalt, at ``boldness`` 1
    BRAKING = 16.0
    REACH_M, REACH_S = 4.0, 0.2  # where it looks
    LEAD_S = 0.1  # how far ahead it reads the speed profile
    ANGLE_GAIN = 1.0
    DEAD_BAND = 0.12  # rad/s
    MAX_BRAKE_SLIP = 0.12  # share of the speed that may go sideways while it brakes

    def __init__(
        self, tracks: Sequence[Track], track_index: Tensor, *, boldness: float = 0.8, brakes: bool = True
    ) -> None:
        self._track_index = track_index
        self._brakes = brakes
        longest = max(len(track.zones.centers) for track in tracks)
        targets = np.zeros((len(tracks), longest, 3), np.float32)
        speeds = np.full((len(tracks), longest), 300.0, np.float32)
        for i, track in enumerate(tracks):
            line = racing_line(track)
            profile = speed_profile(
                track, lateral_acceleration=self.SIDE_ACCELERATION * boldness, braking=self.BRAKING, line=line
            )
            num = len(track.zones.centers)
            point = track.start + ((np.arange(num) - NUM_BEFORE) * ZONE_SPACING_M).astype(int)
            point = point % len(profile) if track.is_circuit else point.clip(0, len(profile) - 1)
            targets[i, :num] = line[point]
            speeds[i, :num] = profile[point]
        self._targets = torch.from_numpy(targets).to(track_index.device)
        self._speeds = torch.from_numpy(speeds).to(track_index.device)

    def __call__(self, rows: Tensor, tracker: Tracker) -> Tensor:
        """Full steering towards a point ahead, and gas or brake by the speed profile."""
        track = self._track_index.long()
        zone = tracker["zone"].long()
        last = self._targets.shape[1] - 1
        position = rows[:, CAR_ROW["position"]]
        rotation = rows[:, CAR_ROW["rotation"]].view(-1, 3, 3)
        velocity = rows[:, CAR_ROW["velocity"]]
        speed = velocity.norm(dim=1)
        reach = ((self.REACH_M + self.REACH_S * speed) / ZONE_SPACING_M).long()
        target = self._targets[track, (zone + reach).clamp(max=last)]
        local = torch.einsum("bij,bi->bj", rotation, target - position)
        angle = torch.atan2(local[:, 0], local[:, 2])
        turn_rate = torch.einsum("bi,bi->b", rows[:, CAR_ROW["angular_velocity"]], rotation[:, :, 1])
        needed = 2.0 * speed * torch.sin(angle) / target.sub(position).norm(dim=1)  # rad/s of the circle to the target
        miss = needed - turn_rate + self.ANGLE_GAIN * angle
        steer = torch.where(miss > self.DEAD_BAND, 1, torch.where(miss < -self.DEAD_BAND, 2, 0))
        lead = (self.LEAD_S * speed / ZONE_SPACING_M).long()
        allowed = self._speeds[track, (zone + lead).clamp(max=last)]
        pedal = torch.where(speed > allowed, 3, FORWARD)
        if self._brakes:
            moving = torch.einsum("bij,bi->bj", rotation, velocity)
            is_straight = moving[:, 0].abs() < self.MAX_BRAKE_SLIP * speed  # a drift that is braked becomes a spin
            pedal = torch.where((speed > allowed + 2.0) & is_straight, BACKWARD, pedal)
            steer = torch.where((pedal == BACKWARD) & (miss.abs() < 4.0 * self.DEAD_BAND), 0, steer)
        return pedal + steer
