"""The emulated race gives the same bits as the simulator alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.game.drives import author
from tm_torchrl.game.emulator.race import EmulatedRace, action_of
from tm_torchrl.game.state_layout import checkpoint_times, head_of, new_state, race_time_of, row_from_state
from tm_torchrl.sim import Simulator
from tm_torchrl.tracks import load_track
from tm_torchrl.world.actions import ACTIONS, Inputs
from tm_torchrl.world.car_row import CAR_ROW

OVAL = load_track("oval")
LAP = author("oval")


def to_start(race: EmulatedRace) -> EmulatedRace:
    race.restart()
    while race.time_ms < 0:
        race.advance(100)
    return race


@pytest.fixture(scope="module")
def race() -> EmulatedRace:
    return EmulatedRace(OVAL)


def test_a_lap_has_the_simulator_s_bits_tick_by_tick_or_step_by_step(race: EmulatedRace) -> None:
    sim = Simulator(OVAL, num_cars=1)
    to_start(race)
    for i, action in enumerate(LAP):
        race.press(ACTIONS[action])
        race.begin_step()
        left = 1 if i % 2 else 5
        for _ in range(5 // left):
            todo = left
            while todo:
                todo -= race.advance(todo)
        sim.step(torch.tensor([action]))
        assert row_from_state(race.state()).tobytes() == sim.rows()[0].numpy().tobytes(), f"step {i}"
    assert race.is_finished
    assert checkpoint_times(race.state())[-1] == sim.rows()[0, CAR_ROW["last_checkpoint_time_ms"]]


def test_a_wall_contact_counts_for_the_whole_step() -> None:
    track = load_track("hillside")
    sim, game = Simulator(track, num_cars=1), to_start(EmulatedRace(track))
    game.press(ACTIONS[0])
    in_midst = 0
    for _ in range(160):
        touched = []
        game.begin_step()
        for _ in range(5):
            game.advance(1)
            touched.append(head_of(game.state())["has_lateral_contact"])
        in_midst += touched != [touched[-1]] * 5
        sim.step(torch.tensor([0]))
        assert row_from_state(game.state()).tobytes() == sim.rows()[0].numpy().tobytes()
        assert touched == sorted(touched), "a touch was forgotten within the step"
    assert in_midst > 0, "no touch began within a step: the test shows nothing"


def test_the_state_contains_quaternion_and_rotation(race: EmulatedRace) -> None:
    to_start(race)
    race.press(ACTIONS[1])
    race.advance(200)
    w, x, y, z = head_of(race.state())["quaternion"]
    # First column of the rotation of a unit quaternion, by hand: 1 - 2 (y^2 + z^2), 2 (xy + wz), 2 (xz - wy).
    expected = [1 - 2 * (y * y + z * z), 2 * (x * y + w * z), 2 * (x * z - w * y)]
    rotation = head_of(race.state())["rotation"].reshape(3, 3)
    np.testing.assert_allclose(rotation[:, 0], expected, atol=2e-6)
    assert abs(rotation[0, 0]) < 0.999, "the car has not turned: the test shows nothing"


def test_the_clock_stops_where_a_checkpoint_is_passed(race: EmulatedRace) -> None:
    to_start(race)
    counts, i = [], 0
    while not race.is_finished:
        race.press(ACTIONS[LAP[i]])
        todo = 5
        while todo:
            before = race.count
            todo -= race.advance(todo)
            if race.count != before:
                counts.append((race.count, race.time_ms))
                assert checkpoint_times(race.state())[race.count - 1] == race.time_ms
        i += 1
    assert [count for count, _ in counts] == list(range(1, race.total + 1))
    assert any(time % 50 for _, time in counts), "no checkpoint between two steps: the test shows nothing"


def test_the_countdown_stands_still_and_ends_at_zero(race: EmulatedRace) -> None:
    race.restart()
    assert race.time_ms == race_time_of(race.state()) == -2600
    before = row_from_state(race.state())
    race.press(ACTIONS[0])
    assert race.advance(1000) == 260  # not beyond the start signal
    after = row_from_state(race.state())
    assert race.time_ms == 0
    changed = np.flatnonzero(before != after).tolist()
    assert changed == [CAR_ROW.start("race_time_ms")]


def test_a_rewind_is_exact_from_any_tick(race: EmulatedRace) -> None:
    to_start(race)
    for action in LAP[:37]:
        race.press(ACTIONS[action])
        race.advance(3)  # checkpoints are far
    saved = race.state()
    race.press(ACTIONS[1])
    race.advance(5)
    first = race.state()
    race.advance(50)
    other = EmulatedRace(OVAL)
    for game in (race, other):
        game.rewind(saved)
        assert game.state() == saved
        game.press(ACTIONS[1])
        game.begin_step()
        game.advance(5)
        assert game.state() == first


def test_a_finish_without_its_time_does_not_count(race: EmulatedRace) -> None:
    to_start(race)
    i = 0
    while not race.is_finished:
        race.press(ACTIONS[LAP[i // 5]])
        i += race.advance(1)
    state = bytearray(race.state())
    assert head_of(state)["is_finished"] == 1
    checkpoint_times(state)[-1] = -1
    race.rewind(bytes(state))
    assert not race.is_finished and race.count == race.total - 1
    assert head_of(race.state())["is_finished"] == 0
    assert head_of(race.state())["checkpoint_count"] == race.total - 1


def test_foreign_states_are_refused_before_anything_changes(race: EmulatedRace) -> None:
    before = to_start(race).state()
    with pytest.raises(ValueError, match="state: lacks"):
        race.rewind(bytes(new_state(num_checkpoints=race.total)))
    other = EmulatedRace(load_track("ring"))  # three laps
    with pytest.raises(ValueError, match="checkpoints: must have 4, as oval"):
        race.rewind(other.state())
    assert race.state() == before


def test_keys_are_kept_as_a_script_and_forgotten_by_a_rewind(race: EmulatedRace) -> None:
    to_start(race)
    race.press(ACTIONS[0])
    race.advance(5)
    saved = race.state()
    race.press(Inputs(gas=True, brake=False, left=True, right=False))
    race.advance(5)
    assert race.inputs_text() == "0.00 press up\n0.05 press left\n"
    race.rewind(saved)
    assert race.inputs_text() == "0.00 press up\n"


def test_left_and_right_together_cancel_out() -> None:
    assert action_of(Inputs(gas=True, brake=False, left=True, right=True)) == 0
    assert [action_of(inputs) for inputs in ACTIONS] == list(range(12))


def test_pictures_equal_the_simulator_s_at_its_sizes_and_exist_at_others(race: EmulatedRace) -> None:
    sim = Simulator(OVAL, num_cars=1, image_size=64)
    to_start(race)
    picture = np.frombuffer(race.frame(width=64, height=64), np.uint8).reshape(64, 64, 4)
    assert (picture[:, :, :3] == sim.frames()[0, 0].numpy()[:, :, None]).all()
    assert (picture[:, :, 3] == 255).all()
    wide = np.frombuffer(race.frame(width=160, height=120), np.uint8).reshape(120, 160, 4)
    assert len(np.unique(wide[60])) > 3
