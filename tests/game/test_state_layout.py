"""The game's state as bytes: positions, conversion from and to rows, invalid bytes."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tm_torchrl.game.errors import ProtocolError
from tm_torchrl.game.state_layout import (
    HEAD,
    WHEEL,
    check_state,
    check_values,
    checkpoint_times,
    head_of,
    new_state,
    race_time_of,
    row_from_state,
    write_row,
)
from tm_torchrl.world.car_row import CAR_ROW

FLOAT32 = st.floats(width=32, allow_nan=False)
WHOLE = {
    "race_time_ms": st.integers(-3000, 2**24),
    "gearbox_state": st.integers(0, 2),
    "gear": st.integers(0, 5),
    "wheel_material": st.integers(0, 30),
}
FLAGS = ("wheel_is_sliding", "wheel_has_contact", "is_freewheeling", "has_lateral_contact", "is_finished")


def state_from_row(row: np.ndarray, *, num_checkpoints: int) -> bytearray:
    state = new_state(num_checkpoints=num_checkpoints)
    write_row(state, row)
    return state


@st.composite
def rows(draw: st.DrawFn, num_checkpoints: int = 5) -> np.ndarray:
    row = np.zeros(CAR_ROW.size, np.float32)
    for field in CAR_ROW.fields:
        kind = WHOLE.get(field.name, st.integers(0, 1) if field.name in FLAGS else FLOAT32)
        row[CAR_ROW[field.name]] = [draw(kind) for _ in range(field.size)]
    count = draw(st.integers(0, num_checkpoints))
    row[CAR_ROW["checkpoint_count"]] = count
    row[CAR_ROW["last_checkpoint_time_ms"]] = draw(st.integers(0, 2**24)) if count else 0
    return row


@given(row=rows())
def test_a_row_survives_the_bytes_to_the_last_bit(row: np.ndarray) -> None:
    state = state_from_row(row, num_checkpoints=5)
    check_state(state)
    assert row_from_state(bytes(state)).tobytes() == row.tobytes()


def test_each_quantity_has_the_game_s_position() -> None:
    # Offsets by hand: position 724, velocity 736; the third wheel begins at 3816 + 2 * 764 = 5344.
    state = new_state(num_checkpoints=3)
    struct.pack_into("<3f", state, 724, 1.5, 2.5, 3.5)
    struct.pack_into("<3f", state, 736, -4.0, 0.25, 8.0)
    struct.pack_into("<f", state, 5344 + 180, 0.125)
    struct.pack_into("<i", state, 5344 + 292, 1)
    struct.pack_into("<i", state, 5344 + 296, 6 | 0x30000)  # dirt, with flags above
    struct.pack_into("<i", state, 3128, 4)
    struct.pack_into("<i", state, 7892, -1500)
    struct.pack_into("<i", state, 8024, 2)
    struct.pack_into("<ii", state, 8356 + 3 * 4, 4320, 0)  # after three states and the number of times
    struct.pack_into("<ii", state, 8356 + 3 * 4 + 8, 9870, 0)
    row = row_from_state(state)
    assert row[CAR_ROW["position"]].tolist() == [1.5, 2.5, 3.5]
    assert row[CAR_ROW["velocity"]].tolist() == [-4.0, 0.25, 8.0]
    assert row[CAR_ROW["wheel_damper"]].tolist() == [0.0, 0.0, 0.125, 0.0]
    assert row[CAR_ROW["wheel_has_contact"]].tolist() == [0.0, 0.0, 1.0, 0.0]
    assert row[CAR_ROW["wheel_material"]].tolist() == [0.0, 0.0, 6.0, 0.0]
    assert row[CAR_ROW["gear"]] == 4.0
    assert race_time_of(state) == row[CAR_ROW["race_time_ms"]] == -1500
    assert row[CAR_ROW["checkpoint_count"]] == 2.0
    assert row[CAR_ROW["last_checkpoint_time_ms"]] == 9870.0


def test_the_community_s_package_reads_the_same_values() -> None:
    structs = pytest.importorskip("tminterface.structs")
    row = np.arange(1, CAR_ROW.size + 1, dtype=np.float32) / 4
    whole = ["race_time_ms", "gearbox_state", "gear", "wheel_material", "checkpoint_count", "last_checkpoint_time_ms"]
    for name in whole:
        row[CAR_ROW[name]] = np.floor(row[CAR_ROW[name]])
    for name in FLAGS:
        row[CAR_ROW[name]] = 1.0
    row[CAR_ROW["checkpoint_count"]] = 2
    state = structs.SimStateData(bytes(state_from_row(row, num_checkpoints=3)))
    state.cp_data.resize(structs.CheckpointData.cp_states_field, 3)
    state.cp_data.resize(structs.CheckpointData.cp_times_field, 3)

    current, mobil, player = state.dyna.current_state, state.scene_mobil, state.player_info
    wheels = [wheel.real_time_state for wheel in state.simulation_wheels]
    read = {
        "position": current.position,
        "rotation": current.rotation.to_numpy().reshape(-1),
        "velocity": current.linear_speed,
        "angular_velocity": current.angular_speed,
        **{f"input_{name}": [getattr(mobil, f"input_{name}")] for name in ("gas", "brake", "steer")},
        "gearbox_state": [mobil.gearbox_state],
        "engine_rpm": [mobil.engine.actual_rpm],
        "gear": [mobil.engine.gear],
        "turbo_factor": [mobil.turbo_boost_factor],
        "wheel_damper": [wheel.damper_absorb for wheel in wheels],
        "wheel_material": [wheel.contact_material_id for wheel in wheels],
        "race_time_ms": [player.race_time],
        "checkpoint_count": [player.cur_cp_count],
    }
    assert {name: list(values) for name, values in read.items()} == {n: row[CAR_ROW[n]].tolist() for n in read}
    assert mobil.has_any_lateral_contact and mobil.is_freewheeling and player.race_finished
    assert all(wheel.has_ground_contact and wheel.is_sliding for wheel in wheels)
    times = [time.time for time in state.cp_data.cp_times]
    assert times == [0, int(row[CAR_ROW.start("last_checkpoint_time_ms")]), -1]


def test_each_lap_has_its_own_times() -> None:
    state = new_state(num_checkpoints=2, num_laps=3)
    assert len(state) == 8356 + 4 * 2 + 8 * 6
    assert checkpoint_times(state).tolist() == [-1] * 6
    row = np.zeros(CAR_ROW.size, np.float32)
    for count, time in ((1, 1000), (2, 2500)):
        row[CAR_ROW["checkpoint_count"]] = count
        row[CAR_ROW["last_checkpoint_time_ms"]] = time
        write_row(state, row)
    assert checkpoint_times(state).tolist() == [1000, 2500, -1, -1, -1, -1]
    row[CAR_ROW["checkpoint_count"]], row[CAR_ROW["last_checkpoint_time_ms"]] = 1, 1000
    write_row(state, row)  # gone back
    assert checkpoint_times(state).tolist() == [1000, -1, -1, -1, -1, -1]


def test_the_head_is_a_view_and_overlaps_nowhere() -> None:
    state = new_state(num_checkpoints=1)
    head_of(state)["display_speed"] = 321
    assert struct.unpack_from("<i", state, 8036) == (321,)
    taken = np.zeros(HEAD.itemsize, int)
    for name in HEAD.names or ():
        kind, offset = HEAD.fields[name][:2]
        if name == "wheels":
            for wheel in range(4):
                for inner in WHEEL.names or ():
                    at = offset + wheel * WHEEL.itemsize + WHEEL.fields[inner][1]
                    taken[at : at + 4] += 1
        else:
            taken[offset : offset + kind.itemsize] += 1
    assert taken.max() == 1


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda state: state[:100], "100 bytes: must be at least 8356"),
        (lambda state: b"", "0 bytes"),
        (lambda state: state + b"\0" * 4, "out of step"),
        (lambda state: state[:-8], "out of step"),
        (lambda state: state[:8348] + struct.pack("<i", -5) + state[8352:], "-5 checkpoints"),
        (lambda state: state[:8348] + struct.pack("<i", 2**30) + state[8352:], "1073741824 checkpoints"),
        (lambda state: state[:8364] + struct.pack("<i", 2**30) + state[8368:], "1073741824 times"),
    ],
)
def test_invalid_states_are_refused(change: object, words: str) -> None:
    state = bytes(new_state(num_checkpoints=3))
    check_state(state)
    with pytest.raises(ProtocolError, match=words):
        check_state(change(state))  # type: ignore[operator]


@given(noise=st.binary(max_size=200), cut=st.integers(0, 8400))
def test_any_bytes_are_refused_or_read(noise: bytes, cut: int) -> None:
    state = bytes(new_state(num_checkpoints=3))
    garbage = state[:cut] + noise + state[cut + len(noise) :]
    try:
        check_state(garbage)
    except ProtocolError:
        return
    assert row_from_state(garbage).shape == (CAR_ROW.size,)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("position", float("nan")),
        ("position", 1e30),
        ("rotation", float("inf")),
        ("velocity", -1e5),
        ("angular_velocity", float("-inf")),
        ("engine_rpm", 1e7),
        ("race_time_ms", 2**31 - 1),
        ("gear", 2**31 - 1),
        ("checkpoint_count", -(2**31)),
    ],
)
def test_values_that_no_car_has_are_named(name: str, value: float) -> None:
    state = new_state(num_checkpoints=2)
    check_values(state)
    head_of(state)[{"race_time_ms": "race_time"}.get(name, name)] = value
    check_state(state)
    with pytest.raises(ProtocolError, match=f"the state has {name}="):
        check_values(state)
