"""Where cars begin, in which shares, and that each place can be driven away from."""

from __future__ import annotations

import pickle

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


@pytest.fixture(scope="module")
def lap(track):
    """Three states of a car that holds the gas, half a second apart, and how many checkpoints it claims to have."""
    sim = Simulator(track, num_cars=1)
    states = []
    for number in range(3):
        for _ in range(10):
            sim.step(torch.zeros(1, dtype=torch.int64))
        states.append(sim.save()[0].clone())
        states[-1][STATE["checkpoint_count"]] = float(number)
    return torch.stack(states)


def on_lap(track, starts: Starts, lap: torch.Tensor | None, **options: object) -> Simulator:
    """Cars that have just been reset; the lap's states are in zones 7, 8 and 9."""
    sim = Simulator(track, num_cars=300, starts=starts, seed=11, **options)
    if lap is not None:
        sim.lap_states.set_lap(0, lap, torch.tensor([7, 8, 9], dtype=torch.int32))
    sim.reset()
    return sim


def test_on_a_lap_cars_begin_in_its_states_with_a_new_clock(track, lap):
    sim = on_lap(track, Starts(lap=1.0), lap)
    state, zones = sim.save(), sim._start_zone
    number = zones.long() - 7
    assert (np.bincount(number) > 70).all(), "a third each, of 300"
    own = [STATE.start(name) for name in ("race_time_ms", "last_checkpoint_time_ms", "episode")]
    expected = lap[number]
    expected[:, own] = state[:, own]
    assert torch.equal(state, expected)
    assert not state[:, own[:2]].any() and (lap[:, own[0]] > 0).all()


def test_a_start_on_a_lap_is_shifted_along_the_ground(track, lap):
    sim = on_lap(track, Starts(lap=1.0, jitter_m=0.5, jitter_speed=2.0), lap[2:].expand(3, -1))
    moved = sim.rows()[:, CAR_ROW["position"]] - lap[2, CAR_ROW["position"]]
    far = moved[:, (0, 2)].norm(dim=1)
    assert 0.6 < far.max() <= 0.5 * 2**0.5 + 1e-5
    assert (moved[:, 1].abs() < 0.3 * far + 1e-3).all()
    change = sim.rows()[:, CAR_ROW["velocity"]].norm(dim=1) - lap[2, CAR_ROW["velocity"]].norm()
    assert -2.0 - 1e-4 < change.min() < -1.9 and 1.9 < change.max() < 2.0 + 1e-4


def test_chances_choose_the_states_where_time_is_lost(track, lap):
    """Weights of 3, 0 and 1: three quarters and one quarter of 300 cars."""
    sim = on_lap(track, Starts(lost_time=1.0), lap)
    sim.lap_states.set_chances(0, torch.tensor([3.0, 0.0, 1.0]))
    sim.reset()
    count = np.bincount(sim._start_zone.numpy() - 7, minlength=3)
    assert 200 < count[0] < 250 and count[1] == 0 and count.sum() == 300


def test_without_a_lap_cars_begin_along_the_road(track, lap):
    assert torch.equal(on_lap(track, Starts(lap=1.0), None).save(), on_lap(track, Starts(zone=1.0), None).save())


def test_a_copy_has_the_lap_too(track, lap):
    sim = on_lap(track, Starts(lap=1.0), lap)
    copy = pickle.loads(pickle.dumps(sim))
    for each in (sim, copy):
        each.reset()
    assert torch.equal(sim.save(), copy.save())
