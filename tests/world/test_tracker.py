"""Zones, progress, checkpoint times and the rules that end an episode."""

from __future__ import annotations

import pytest
import torch

from tests.sim.worlds import plain
from tm_torchrl.sim import Simulator
from tm_torchrl.tracks import Track
from tm_torchrl.world.car_row import CAR_ROW
from tm_torchrl.world.drivers import FullThrottle, drive
from tm_torchrl.world.tracker import EndCause, Limits, Tracker


class Followed:
    """A tracker of one car that the test moves; each move takes 50 ms."""

    def __init__(self, track: Track | None = None, **limits: float) -> None:
        self.sim = Simulator(track or plain(), num_cars=1)
        self.tracker = Tracker(self.sim, limits=Limits(**limits))
        self.tracker.reset(self.sim.reset(), torch.ones(1, dtype=torch.bool))

    def move(self, z: float | None = None, *, ms: float = 50.0, **fields: object) -> None:
        row = self.sim.rows()[0]
        row[CAR_ROW.start("race_time_ms")] += ms
        if z is not None:
            row[CAR_ROW["position"]] = torch.tensor([0.0, 0.5, z])
        for name, value in fields.items():
            row[CAR_ROW[name]] = torch.tensor(value, dtype=torch.float32)
        self.tracker.update(torch.zeros(1, dtype=torch.int64))

    def __getitem__(self, name: str) -> float:
        return self.tracker[name][0].item()

    @property
    def cause(self) -> EndCause:
        return EndCause(int(self["end_cause"]))


def test_zones_are_half_a_metre():
    car = Followed()
    assert car["zone"] == 20
    car.move(20.0)
    assert car["zone"] == 40
    assert car["progress_m"] == pytest.approx(10.25, abs=0.02), "zone 20 begins a quarter of a metre before the start"
    car.move(15.0)
    assert (car["zone"], car["progress_zone"]) == (30, 40)
    assert car["progress_m"] == pytest.approx(5.25, abs=0.02)


def test_zone_is_kept_far_from_the_line():
    car = Followed()
    car.move(30.0)
    zone = car["zone"]
    row = car.sim.rows()[0]
    row[CAR_ROW["position"]] = torch.tensor([46.0, 0.5, 32.0])
    car.tracker.update(torch.zeros(1, dtype=torch.int64))
    assert car["zone"] == zone, "beyond 45 m no zone is taken"
    row[CAR_ROW["position"]] = torch.tensor([44.0, 0.5, 32.0])
    car.tracker.update(torch.zeros(1, dtype=torch.int64))
    assert car["zone"] == 64


def with_checkpoint() -> Track:
    base = plain(length=400)
    return Track("gate", base.centreline, start=10, finish=390, half_width=10.0, checkpoints=[200])


def test_a_checkpoint_must_be_passed_first():
    car = Followed(with_checkpoint())
    for z in range(20, 231, 10):
        car.move(float(z))
    assert car["zone"] == 400, "waits at the checkpoint's zone: 20 + 190 m x 2"
    car.move(230.0, checkpoint_count=[1], last_checkpoint_time_ms=[90])
    assert car["zone"] == 460
    assert car.tracker["checkpoint_times_ms"][0].tolist() == [90, 0]


def test_the_simulator_counts_gates_to_the_tick():
    sim = Simulator(with_checkpoint(), num_cars=1)
    z = []
    for tracker in drive(sim, FullThrottle()):  # noqa: B007  used below
        z.append(sim.rows()[0, CAR_ROW.start("position") + 2].item())
    first, finish = tracker["checkpoint_times_ms"][0].tolist()
    assert EndCause(int(tracker["end_cause"])) == EndCause.FINISHED
    assert z[int(first - 10) // 50] <= 200 < z[int(first - 10) // 50 + 1]
    assert z[int(finish - 10) // 50] <= 390
    assert finish % 10 == 0 and finish == tracker["race_time_ms"].item()
    assert tracker["progress_m"].item() == pytest.approx(380.25, abs=0.3)


def test_no_progress():
    car = Followed(no_progress_s=0.5)
    for _ in range(9):
        car.move(10.0)
        assert car.cause == EndCause.NONE
    car.move(10.0)
    assert car.cause == EndCause.NO_PROGRESS


def test_getting_further_restarts_the_wait():
    car = Followed(no_progress_s=0.5)
    for step in range(30):
        car.move(10.0 + 1.0 * (step // 8))
        assert car.cause == EndCause.NONE


@pytest.mark.parametrize(("speed", "cause"), [(1.0, EndCause.NO_PROGRESS), (1.5, EndCause.NONE)])
def test_creeping_is_no_progress(speed, cause):
    car = Followed(no_progress_s=4.0)
    for step in range(85):
        car.move(10.0 + 0.05 * speed * step)
        if car.cause != EndCause.NONE:
            break
    assert car.cause == cause


def test_time_limit():
    car = Followed(race_s=1.0, no_progress_s=9.0)
    for _ in range(19):
        car.move()
    assert car.cause == EndCause.NONE
    car.move()
    assert car.cause == EndCause.TIME_LIMIT


def test_overturned_and_airborne():
    roof = [-1, 0, 0, 0, -1, 0, 0, 0, 1]
    upright = [1, 0, 0, 0, 1, 0, 0, 0, 1]
    car = Followed(overturned_s=0.2, airborne_s=0.2)
    for _ in range(3):
        car.move(rotation=roof, wheel_has_contact=[0, 0, 0, 0])
    car.move(rotation=upright, wheel_has_contact=[0, 1, 0, 0])
    assert car.cause == EndCause.NONE
    for _ in range(4):
        car.move(rotation=roof, wheel_has_contact=[1, 1, 1, 1])
    assert car.cause == EndCause.OVERTURNED
    car = Followed(airborne_s=0.2)
    for _ in range(4):
        car.move(wheel_has_contact=[0, 0, 0, 0])
    assert car.cause == EndCause.AIRBORNE


def test_out_of_world_and_not_a_number():
    car = Followed()
    car.move(position=[0.0, -300.0, 10.0])
    assert car.cause == EndCause.OUT_OF_WORLD
    car = Followed()
    zone = car["zone"]
    car.move(velocity=[float("nan"), 0.0, 0.0])
    assert car.cause == EndCause.INVALID
    assert car["zone"] == zone


def test_limits_are_checked():
    with pytest.raises(ValueError, match="no_progress_s=0"):
        Limits(no_progress_s=0)
    with pytest.raises(KeyError, match="no field 'speed'"):
        Followed().tracker["speed"]


def test_save_and_restore():
    car = Followed()
    car.move(40.0)
    saved = car.tracker.save()
    car.move(90.0)
    assert not torch.equal(saved, car.tracker.rows)
    car.tracker.restore(saved)
    assert car["zone"] == 80
    with pytest.raises(ValueError, match="rows has shape"):
        car.tracker.restore(saved[:, 1:])
