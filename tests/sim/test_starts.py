"""Where cars begin, in which shares, and that each place can be driven away from."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tm_torchrl.sim import Randomisation, Simulator, Starts
from tm_torchrl.sim.state import STATE
from tm_torchrl.tracks import DEFAULT_TRACK, load_track
from tm_torchrl.world.car_row import CAR_ROW
from tm_torchrl.world.drivers import Pursuit
from tm_torchrl.world.tracker import Tracker


@pytest.fixture(scope="module")
def track():
    return load_track(DEFAULT_TRACK)


class Placed:
    """Many cars just reset, measured against the centreline."""

    def __init__(self, track, starts: Starts, num: int = 2000, **options: object) -> None:
        self.sim = Simulator(track, num_cars=num, starts=starts, seed=11, **options)
        rows = self.sim.rows().numpy()
        position = rows[:, CAR_ROW["position"]]
        rotation = rows[:, CAR_ROW["rotation"]].reshape(-1, 3, 3)
        line = track.centreline
        plan = np.linalg.norm(line[None, :, (0, 2)] - position[:, None, (0, 2)], axis=2)
        nearest = plan.argmin(axis=1)
        ahead = np.roll(line, -1, axis=0)[nearest] - np.roll(line, 1, axis=0)[nearest]
        ahead /= np.linalg.norm(ahead[:, (0, 2)], axis=1, keepdims=True)
        self.lateral = plan.min(axis=1)
        self.point = nearest
        self.half_width = track.half_width[nearest]
        nose = rotation[:, :, 2]
        self.turned_deg = np.degrees(np.arccos(np.clip((nose * ahead).sum(axis=1), -1, 1)))
        self.speed = np.linalg.norm(rows[:, CAR_ROW["velocity"]], axis=1)
        self.upright = rotation[:, 1, 1]


def test_the_line_is_the_default(track):
    cars = Placed(track, Starts(), num=5)
    assert (cars.lateral < 1e-3).all() and (cars.speed == 0).all()
    assert (cars.point == track.start).all()


def test_jitter(track):
    cars = Placed(track, Starts(jitter_m=0.1, jitter_speed=2.0))
    assert 0.05 < cars.lateral.max() <= 0.1 * 2**0.5
    assert 1.5 < cars.speed.max() <= 2.0


def test_zone(track):
    cars = Placed(track, Starts(zone=1.0))
    assert (cars.lateral < cars.half_width).all()
    assert cars.turned_deg.max() < 25  # 11 degrees, and slopes and bends
    assert len(set(cars.point)) > 200, "all along the track"
    assert cars.speed.max() > 20
    passed = cars.sim.rows()[:, CAR_ROW.start("checkpoint_count")].numpy()
    assert passed.max() > 0, "the checkpoints behind a car count as passed"


def test_askew(track):
    cars = Placed(track, Starts(askew=1.0))
    assert cars.turned_deg.min() > 30 and cars.turned_deg.max() > 110
    assert cars.speed.max() <= 12


def test_off_road(track):
    cars = Placed(track, Starts(off_road=1.0))
    assert (cars.lateral > cars.half_width - 1.0).mean() > 0.98


def test_wall(track):
    cars = Placed(track, Starts(wall=1.0))
    assert (cars.speed == 0).all()
    assert (cars.lateral > cars.half_width).mean() > 0.95
    assert cars.turned_deg.min() < 60 and cars.turned_deg.max() > 120


def test_shares(track):
    starts = Starts(zone=0.4, askew=0.1, off_road=0.1, wall=0.2)
    cars = Placed(track, starts, num=4000)
    on_line = (cars.point == track.start) & (cars.lateral < 1e-3) & (cars.speed == 0)
    assert on_line.mean() == pytest.approx(0.2, abs=0.03)
    assert (cars.upright > 0.8).all()


@pytest.mark.parametrize(
    "starts", [Starts(wall=1.0), Starts(askew=1.0), Starts(off_road=1.0)], ids=["wall", "askew", "off_road"]
)
def test_every_place_can_be_left(track, starts: Starts):
    """Reversing for a while and then driving on frees nearly every car, so recovery can be learnt."""
    num = 128
    sim = Simulator(track, num_cars=num, starts=starts, seed=4)
    tracker = Tracker(sim)
    saved = sim.save()
    everyone = torch.ones(num, dtype=torch.bool)
    driver = Pursuit([track], sim.track_index, boldness=0.5)
    gained = torch.zeros(num)
    for num_reverse in (0, 12, 24):
        for steer in (6, 7, 8) if num_reverse else (6,):
            sim.restore(saved)
            zones = sim._start_zone
            tracker.reset(zones, everyone)
            begin = tracker["progress_m"].clone()
            for step in range(120):
                actions = driver(sim.rows(), tracker) if step >= num_reverse else torch.full((num,), steer)
                sim.step(actions)
                tracker.update(actions)
            gained = torch.maximum(gained, tracker["progress_m"] - begin)
    assert (gained > 10).float().mean() > 0.97


def test_randomisation_stays_within_its_shares(track):
    cars = Placed(track, Starts(), randomisation=Randomisation(mass=0.2, grip=0.1))
    scales = cars.sim.save()[:, STATE["scales"]]
    grip, engine, inverse_mass = scales.unbind(1)
    assert 0.9 <= grip.min() < 0.92 and 1.08 < grip.max() <= 1.1
    assert (engine == 1).all()
    assert 1 / 1.2 <= inverse_mass.min() < 0.86 and 1.2 < inverse_mass.max() <= 1.25
    with pytest.raises(ValueError, match=r"grip=0.9"):
        Randomisation(grip=0.9)
