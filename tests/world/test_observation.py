"""The float vector: layout by Linesight's table, values worked out by hand on a straight road."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.sim.worlds import plain
from tm_torchrl.sim import Simulator
from tm_torchrl.sim.state import STATE
from tm_torchrl.world.actions import ACTIONS, BACKWARD, FORWARD, Inputs
from tm_torchrl.world.car_row import CAR_ROW
from tm_torchrl.world.observation import observation_constants, observation_layout
from tm_torchrl.world.sensors import Sensors
from tm_torchrl.world.tracker import Tracker


def test_indices_are_linesights():
    layout = observation_layout(5)
    expected = {
        "clock": (0, 1), "previous_actions": (1, 21), "wheel_is_sliding": (21, 25), "wheel_has_contact": (25, 29),
        "wheel_damper": (29, 33), "gearbox_state": (33, 34), "gear": (34, 35), "engine_rpm": (35, 36),
        "gearbox_counter": (36, 37), "wheel_material": (37, 53), "angular_velocity": (53, 56), "velocity": (56, 59),
        "up": (59, 62), "zones_ahead": (62, 182), "margin_to_finish": (182, 183), "is_freewheeling": (183, 184),
    }  # fmt: skip
    assert {name: (layout[name].start, layout[name].stop) for name in layout.names()} == expected
    assert observation_layout(25).size == 264


def test_constants_are_linesights():
    mean, scale = observation_constants(5)
    assert mean.shape == scale.shape == (184,)
    assert (mean[0], scale[0]) == (70, 70)
    assert mean[1:5].tolist() == pytest.approx([0.8, 0.2, 0.3, 0.3])
    assert (mean[35], scale[35]) == (7000, 3000)
    assert mean[56:59].tolist() == [0, 0, 55]
    assert scale[53:56].tolist() == [0.5, 1.0, 0.5]
    assert mean[62:65].tolist() == pytest.approx([0, -2.1, 0])
    assert mean[179:182].tolist() == pytest.approx([0, 11.5, 197], abs=0.1)
    assert scale[62:65].tolist() == pytest.approx([7.7, 7.7, 2.9])
    assert scale[179:182].tolist() == pytest.approx([198, 198, 151])
    assert (mean[182], scale[182]) == (700, 350)
    assert (scale > 0).all()


def test_actions_are_the_communitys():
    assert len(ACTIONS) == 12
    assert ACTIONS[0] == Inputs(True, False, False, False) and FORWARD == 0
    assert ACTIONS[1] == Inputs(True, False, True, False)
    assert ACTIONS[2] == Inputs(True, False, False, True)
    assert ACTIONS[3] == Inputs(False, False, False, False)
    assert ACTIONS[6] == Inputs(False, True, False, False) and BACKWARD == 6
    assert ACTIONS[11] == Inputs(True, True, False, True)


class Watched:
    """One car whose row the test sets."""

    def __init__(self, num_previous_actions: int = 5, **track: object) -> None:
        self.sim = Simulator(plain(**track), num_cars=1)
        self.tracker = Tracker(self.sim, num_previous_actions=num_previous_actions)
        self.sensors = Sensors(self.sim, self.tracker)
        everyone = torch.ones(1, dtype=torch.bool)
        self.tracker.reset(self.sim.reset(), everyone)

    def set(self, name: str, value: object) -> None:
        self.sim.rows()[0, CAR_ROW[name]] = torch.tensor(value, dtype=torch.float32)

    def turn(self, radians: float) -> None:
        """Heading: forward = (sin, 0, cos)."""
        s, c = np.sin(radians), np.cos(radians)
        self.set("rotation", [c, 0, s, 0, 1, 0, -s, 0, c])

    def see(self, name: str, action: int = 3) -> list[float]:
        self.tracker.update(torch.tensor([action]))
        return self.sensors.write()[0, self.sensors.layout[name]].tolist()


def test_zones_ahead_in_the_car_frame():
    car = Watched()  # starts at z = 10
    car.set("position", [3.0, 1.0, 10.0])
    points = np.array(car.see("zones_ahead")).reshape(40, 3)
    assert points[:, 0] == pytest.approx(-3.0, abs=1e-3), "the line lies 3 m to the right"
    assert points[:, 1] == pytest.approx(-1.0, abs=1e-3)
    assert np.diff(points[:, 2]) == pytest.approx(10.0, abs=1e-2)
    assert abs(points[0, 2]) <= 0.25 + 1e-3
    car.turn(np.pi / 2)  # nose along +x: what was ahead is now on the right
    turned = np.array(car.see("zones_ahead")).reshape(40, 3)
    assert turned[:, 0] == pytest.approx(-points[:, 2], abs=1e-3)
    assert turned[:, 2] == pytest.approx(points[:, 0], abs=1e-3)


def test_velocity_spin_and_up_in_the_car_frame():
    car = Watched()
    car.turn(np.pi / 2)
    car.set("velocity", [7.0, 2.0, 5.0])
    car.set("angular_velocity", [0.1, 0.2, 0.3])
    assert car.see("velocity") == pytest.approx([-5.0, 2.0, 7.0], abs=1e-5)
    assert car.see("angular_velocity") == pytest.approx([-0.3, 0.2, 0.1], abs=1e-6)
    assert car.see("up") == pytest.approx([0.0, 1.0, 0.0])
    car.set("rotation", [0, 1, 0, -1, 0, 0, 0, 0, 1])  # rolled by 90 degrees: left points down
    assert car.see("up") == pytest.approx([-1.0, 0.0, 0.0])


@pytest.mark.parametrize(
    ("material", "group"),
    [
        *[(asphalt, 0) for asphalt in (0, 1, 16, 18, 19)],
        *[(grass, 1) for grass in (2, 20)],
        *[(dirt, 2) for dirt in (5, 6, 8, 17)],
        *[(turbo, 3) for turbo in (7, 26)],
        *[(other, None) for other in (29, 13)],
    ],
)
def test_material_groups(material: int, group: int | None):
    car = Watched()
    car.set("wheel_material", [material, 2, 16, 16])
    seen = np.array(car.see("wheel_material")).reshape(4, 4)
    assert seen[0].tolist() == [float(i == group) for i in range(4)]
    assert seen[1].tolist() == [0, 1, 0, 0]


def test_previous_actions_oldest_first():
    car = Watched()
    start = car.sensors.write()[0, car.sensors.layout["previous_actions"]].view(5, 4)
    assert start.tolist() == [[1, 0, 0, 0]] * 5, "before its first action a car counts as on the gas"
    for action in (6, 1, 2):
        car.see("clock", action)
    seen = np.array(car.see("previous_actions", 11)).reshape(5, 4)
    assert seen.tolist() == [[1, 0, 0, 0], [0, 1, 0, 0], [1, 0, 1, 0], [1, 0, 0, 1], [1, 1, 0, 1]]


def test_kernels_decode_the_action_table():
    sim = Simulator(plain(), num_cars=12)
    tracker = Tracker(sim, num_previous_actions=1)
    sensors = Sensors(sim, tracker)
    sim.step(torch.arange(12))
    tracker.update(torch.arange(12))
    assert sensors.write()[:, sensors.layout["previous_actions"]].tolist() == [
        list(map(float, keys)) for keys in ACTIONS
    ]
    played = sim.rows()[:, [CAR_ROW.start(f"input_{name}") for name in ("gas", "brake", "steer")]]
    assert played.tolist() == [[keys.gas, keys.brake, keys.right - keys.left] for keys in ACTIONS]


@pytest.mark.parametrize("num_previous", [3, 5, 25])
def test_previous_actions_of_blocks_count_singly(num_previous: int):
    car = Watched(num_previous_actions=num_previous)
    played = [FORWARD] * num_previous
    for block in ([1, 2, 3, 4, 5], [6, 7, 8, 9, 10]):
        car.tracker.update(torch.tensor([block]))
        played += block
    assert car.tracker["previous_actions"][0].tolist() == played[-num_previous:]


def test_gearbox_counter():
    car = Watched()
    assert car.tracker["gearbox_counter"].item() == 1, "the state before the first start counts"
    counts = []
    for state in (0, 1, 1, 1, 0, 1):
        car.set("gearbox_state", [state])
        counts += car.see("gearbox_counter")
    assert counts == [0, 1, 2, 3, 0, 1]


def test_margin_to_finish():
    car = Watched()  # start z = 10, finish z = 1490
    assert car.see("margin_to_finish") == [700.0]
    for z in range(10, 1310, 30):
        car.set("position", [0.0, 0.5, float(z)])
        margin = car.see("margin_to_finish")
    assert margin == pytest.approx([1490 - z], abs=0.6)


def test_readings_are_passed_on():
    car = Watched()
    car.set("wheel_is_sliding", [1, 0, 0, 1])
    car.set("wheel_has_contact", [1, 1, 0, 1])
    car.set("wheel_damper", [0.01, 0.02, 0.03, 0.04])
    car.set("gear", [4])
    car.set("engine_rpm", [8123])
    car.set("is_freewheeling", [1])
    assert car.see("wheel_is_sliding") == [1, 0, 0, 1]
    assert car.see("wheel_has_contact") == [1, 1, 0, 1]
    assert car.see("wheel_damper") == pytest.approx([0.01, 0.02, 0.03, 0.04])
    assert car.see("gear") + car.see("engine_rpm") + car.see("is_freewheeling") == [4, 8123, 1]


def test_masked_rows_alone_are_written():
    sim = Simulator(plain(), num_cars=3)
    tracker = Tracker(sim)
    sensors = Sensors(sim, tracker)
    tracker.reset(sim.reset(), torch.ones(3, dtype=torch.bool))
    before = sensors.write().clone()
    sim.rows()[:, CAR_ROW["velocity"]] = 9.0
    after = sensors.write(torch.tensor([False, True, False]))
    assert torch.equal(before[[0, 2]], after[[0, 2]])
    assert not torch.equal(before[1], after[1])


def test_rows_begin_the_simulators_state():
    assert STATE.fields[: len(CAR_ROW.fields)] == CAR_ROW.fields


def test_unknown_field_is_named_with_the_known_ones():
    with pytest.raises(KeyError, match=r"no field 'velocty'.*velocity"):
        CAR_ROW["velocty"]
    with pytest.raises(ValueError, match="num_previous_actions=0"):
        observation_layout(0)
