"""The game's state as bytes: where each quantity lies, and the conversion from and to the car row.

The layout is that of TMInterface's ``SimStateData``, little-endian: a head of fixed size, then the map's checkpoints.
Both TMInterface 1.x and 2.x send it. It has a place for every field of the car row, so a row converted to bytes and
back is the same to the last bit.

The head's ``spare`` bytes (the game's command buffer) belong to whoever writes the state: the game keeps its own data
there, an emulator those parts of its simulator's state for which the layout has no place.
"""

from __future__ import annotations

from struct import Struct
from typing import Final

import numpy as np

from tm_torchrl.game.errors import ProtocolError
from tm_torchrl.world.car_row import CAR_ROW, NUM_WHEELS

WHEEL: Final = np.dtype(
    {
        "names": ["steerable", "damper", "has_contact", "material", "is_sliding"],
        "formats": ["<i4", "<f4", "<i4", "<i4", "<i4"],
        "offsets": [4, 180, 292, 296, 300],
        "itemsize": 764,
    }
)
_FIELDS: Final[tuple[tuple[str, object, int], ...]] = (
    ("version", "<u4", 0),
    ("context_mode", "<u4", 4),  # 1 in a race
    ("flags", "<u4", 8),  # which parts are present; 0xFF for all
    ("time", "<i4", 16),
    ("quaternion", ("<f4", 4), 672),  # w x y z
    ("rotation", ("<f4", 9), 688),
    ("position", ("<f4", 3), 724),
    ("velocity", ("<f4", 3), 736),
    ("angular_velocity", ("<f4", 3), 760),
    ("input_gas", "<f4", 1728),
    ("input_brake", "<f4", 1732),
    ("input_steer", "<f4", 1736),
    ("gearbox_state", "<i4", 2388),
    ("engine_rpm", "<f4", 3112),
    ("gear", "<i4", 3128),
    ("has_lateral_contact", "<i4", 3148),
    ("turning_rate", "<f4", 3160),
    ("turbo_factor", "<f4", 3172),
    ("is_freewheeling", "<i4", 3196),
    ("is_sliding", "<i4", 3224),
    ("local_velocity", ("<f4", 3), 3452),
    ("wheels", (WHEEL, NUM_WHEELS), 3816),
    ("spare", "V264", 6940),
    ("race_time", "<i4", 7892),
    ("current_checkpoint", "<i4", 7932),
    ("race_state", "<i4", 7992),
    ("lap_checkpoint_count", "<i4", 8020),
    ("checkpoint_count", "<i4", 8024),
    ("lap", "<i4", 8028),
    ("is_finished", "<i4", 8032),
    ("display_speed", "<i4", 8036),  # whole km/h
    ("countdown_time", "<i4", 8120),
    ("num_respawns", "<u4", 8340),
    ("num_checkpoint_states", "<i4", 8348),
)
HEAD_BYTES: Final = 8352  # then states int32 [n], the number of times int32 m, and (time, stunts) int32 [m, 2]
HEAD: Final = np.dtype(
    {
        "names": [name for name, _, _ in _FIELDS],
        "formats": [kind for _, kind, _ in _FIELDS],
        "offsets": [offset for _, _, offset in _FIELDS],
        "itemsize": HEAD_BYTES,
    }
)
SMALLEST: Final = HEAD_BYTES + 4
NOT_PASSED: Final = -1
MAX_CHECKPOINTS: Final = 100_000  # more than any map has; a greater number is a sign of damage
MATERIAL_MASK: Final = 0xFFFF  # the game keeps flags in the higher bits

_INT: Final = Struct("<i")
_RACE_TIME_AT: Final = int(HEAD.fields["race_time"][1])  # type: ignore[index]
_IS_FINISHED_AT: Final = int(HEAD.fields["is_finished"][1])  # type: ignore[index]

# Every quantity is aligned to four bytes: a row is gathered from the head's words, read as floats or as integers.
_MOTION = ("position", "rotation", "velocity", "angular_velocity")
_FLOATS = (*_MOTION, "wheel_damper", "engine_rpm", "turbo_factor", "input_gas", "input_brake", "input_steer")
_COUNTS = ("race_time_ms", "gearbox_state", "gear", "checkpoint_count")
_FLAGS = ("wheel_is_sliding", "wheel_has_contact", "is_freewheeling", "has_lateral_contact", "is_finished")
_TIME_AT = CAR_ROW.start("last_checkpoint_time_ms")
_COUNT_AT = CAR_ROW.start("checkpoint_count")

_LARGEST = np.full(CAR_ROW.size, 1e6, np.float32)  # a map is far smaller than 1e6 m
_LARGEST[[CAR_ROW.start("race_time_ms"), _TIME_AT]] = 2**24  # 4.6 hours, above which float32 skips milliseconds
_LARGEST[CAR_ROW["velocity"]] = _LARGEST[CAR_ROW["angular_velocity"]] = 1e4  # the game ends at 278 m/s


def _word_of(name: str) -> int:
    """Index of the head's word at which a row field begins."""
    if name.startswith("wheel_"):
        return (3816 + WHEEL.fields[name.removeprefix("wheel_")][1]) // 4  # type: ignore[index]
    return HEAD.fields[{"race_time_ms": "race_time"}.get(name, name)][1] // 4  # type: ignore[index]


def _map_of(names: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Indices in the row, and the corresponding words of the head."""
    row, words = [], []
    for name in names:
        step = WHEEL.itemsize // 4 if name.startswith("wheel_") else 1
        for i in range(CAR_ROW[name].stop - CAR_ROW[name].start):
            row.append(CAR_ROW.start(name) + i)
            words.append(_word_of(name) + step * i)
    return np.array(row), np.array(words)


_FLOAT_ROW, _FLOAT_WORDS = _map_of(_FLOATS)
_COUNT_ROW, _COUNT_WORDS = _map_of(_COUNTS)
_FLAG_ROW, _FLAG_WORDS = _map_of(_FLAGS)
_MATERIAL_ROW, _MATERIAL_WORDS = _map_of(("wheel_material",))


def new_state(*, num_checkpoints: int, num_laps: int = 1) -> bytearray:
    """A state in which every quantity is 0 and no checkpoint is passed.

    Args:
        num_checkpoints: Checkpoints of one lap, including the finish.
        num_laps: Laps of the race.

    Examples:
        >>> len(new_state(num_checkpoints=3))  # 8356 + 3 * 4 + 3 * 8
        8392
    """
    state = bytearray(SMALLEST + 4 * num_checkpoints + 8 * num_checkpoints * num_laps)
    head = np.frombuffer(state, HEAD, count=1)[0]
    head["context_mode"] = 1
    head["flags"] = 0xFF
    head["num_checkpoint_states"] = num_checkpoints
    words = np.frombuffer(state, "<i4")
    words[HEAD_BYTES // 4 + num_checkpoints] = num_checkpoints * num_laps
    checkpoint_times(state)[:] = NOT_PASSED
    return state


def check_state(state: bytes | bytearray | memoryview) -> None:
    """Raise ``ProtocolError`` unless these bytes are a whole state.

    >>> check_state(bytes(100))
    Traceback (most recent call last):
    tm_torchrl.game.errors.ProtocolError: the state has 100 bytes: must be at least 8356; ...
    """
    if len(state) < SMALLEST or len(state) % 4:
        raise ProtocolError(
            f"the state has {len(state)} bytes: must be at least {SMALLEST}; the game shows a menu or is still loading"
        )
    words = np.frombuffer(state, "<i4")
    num_states = int(words[HEAD_BYTES // 4 - 1])
    if not 0 <= num_states <= MAX_CHECKPOINTS or len(state) < SMALLEST + 4 * num_states:
        raise ProtocolError(f"the state has {len(state)} bytes but {num_states} checkpoints: the stream is out of step")
    num_times = int(words[HEAD_BYTES // 4 + num_states])
    expected = SMALLEST + 4 * num_states + 8 * num_times
    if not 0 <= num_times <= MAX_CHECKPOINTS or len(state) != expected:
        raise ProtocolError(
            f"the state has {len(state)} bytes but {num_states} checkpoints and {num_times} times: the stream is out "
            "of step"
        )


def check_values(state: bytes | bytearray | memoryview) -> None:
    """Raise ``ProtocolError`` for quantities that no car has; learnt from once, they would spoil a training.

    Args:
        state: A state that ``check_state`` accepts.
    """
    row = row_from_state(state)
    wrong = np.flatnonzero(~(np.abs(row) <= _LARGEST))
    if len(wrong):
        place = int(wrong[0])
        name = next(field.name for field in CAR_ROW.fields if place < CAR_ROW[field.name].stop)
        raise ProtocolError(
            f"the state has {name}={row[place]:g}: must be at most {_LARGEST[place]:g}; the game is damaged, or the "
            "stream is out of step"
        )


def head_of(state: bytes | bytearray | memoryview) -> np.void:
    """The head's named quantities: a view, through which a ``bytearray`` can be changed."""
    found: np.void = np.frombuffer(state, HEAD, count=1)[0]
    return found


def checkpoint_times(state: bytes | bytearray | memoryview) -> np.ndarray:
    """Race times in ms of the checkpoints of all laps, int32 ``[m]``, or ``NOT_PASSED``: a view."""
    words = np.frombuffer(state, "<i4")
    first = HEAD_BYTES // 4 + int(words[HEAD_BYTES // 4 - 1])
    return words[first + 1 : first + 1 + 2 * int(words[first]) : 2]


def race_time_of(state: bytes | bytearray | memoryview) -> int:
    """Race time in ms; negative in the countdown."""
    return int(_INT.unpack_from(state, _RACE_TIME_AT)[0])


def is_finished(state: bytes | bytearray | memoryview) -> bool:
    """Whether the game considers the race finished."""
    return bool(_INT.unpack_from(state, _IS_FINISHED_AT)[0])


def time_of_last(state: bytes) -> int:
    """When the last checkpoint was passed; the present race time if the state lists none."""
    times = checkpoint_times(state)
    passed = times[times != NOT_PASSED]
    return int(passed[-1]) if len(passed) else race_time_of(state)


def without_last_checkpoint(state: bytes) -> bytearray:
    """The same state with the last checkpoint of the race not passed."""
    patched = bytearray(state)
    checkpoint_times(patched)[-1:] = NOT_PASSED
    head_of(patched)["is_finished"] = 0
    return patched


def row_from_state(state: bytes | bytearray | memoryview, *, out: np.ndarray | None = None) -> np.ndarray:
    """The car row of a state, float32 ``[CAR_ROW.size]``.

    Args:
        state: A state that ``check_state`` accepts.
        out: Array to write the row to.

    Examples:
        >>> row = np.zeros(CAR_ROW.size, np.float32)
        >>> row[CAR_ROW["velocity"]] = 0.1, -2.5, 1e-30
        >>> state = new_state(num_checkpoints=2)
        >>> write_row(state, row)
        >>> bool((row_from_state(state) == row).all())
        True
    """
    row = np.empty(CAR_ROW.size, np.float32) if out is None else out
    ints = np.frombuffer(state, "<i4", count=HEAD_BYTES // 4)
    floats = np.frombuffer(state, "<f4", count=HEAD_BYTES // 4)
    row[_FLOAT_ROW] = floats[_FLOAT_WORDS]
    row[_COUNT_ROW] = ints[_COUNT_WORDS]
    row[_FLAG_ROW] = ints[_FLAG_WORDS] != 0
    row[_MATERIAL_ROW] = ints[_MATERIAL_WORDS] & MATERIAL_MASK
    times = checkpoint_times(state)
    passed = times[times != NOT_PASSED]
    row[_TIME_AT] = passed[-1] if len(passed) else 0.0
    return row


def write_row(state: bytearray, row: np.ndarray) -> None:
    """Write a car row into a state; unknown times of earlier checkpoints become 0."""
    ints = np.frombuffer(state, "<i4", count=HEAD_BYTES // 4)
    floats = np.frombuffer(state, "<f4", count=HEAD_BYTES // 4)
    floats[_FLOAT_WORDS] = row[_FLOAT_ROW]
    ints[_COUNT_WORDS] = row[_COUNT_ROW]
    ints[_FLAG_WORDS] = row[_FLAG_ROW]
    ints[_MATERIAL_WORDS] = row[_MATERIAL_ROW]
    times = checkpoint_times(state)
    count = int(row[_COUNT_AT])
    times[count:] = NOT_PASSED
    if count:
        times[:count] = np.maximum(times[:count], 0)
        times[count - 1] = row[_TIME_AT]
