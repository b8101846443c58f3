"""Messages of TMInterface 2's link plugin: whole numbers of four bytes, little-endian, no lengths but where told.

The game speaks first and waits until its number is sent back; in between it takes requests.
"""

from __future__ import annotations

from enum import IntEnum
from struct import Struct
from typing import Final

from tm_torchrl.game.state_layout import checkpoint_times, taken_back
from tm_torchrl.world.actions import Inputs


class Message(IntEnum):
    """Who sends what; the game's are the first five."""

    RUN_STEP = 1  # race time ms
    CHECKPOINT = 2  # count, total
    LAP = 3  # count, total
    FRAME = 4  # width * height pixels of blue, green, red, alpha
    ON_CONNECT = 5
    SET_SPEED = 6  # float32
    REWIND_TO_STATE = 7  # length, state
    REWIND_TO_CURRENT = 8
    GET_STATE = 9  # answered by length, state
    SET_INPUTS = 10  # four bytes: left, right, gas, brake
    GIVE_UP = 11
    PREVENT_FINISH = 12
    SHUTDOWN = 13
    EXECUTE = 14  # length, UTF-8
    SET_TIMEOUT = 15  # uint32 ms
    IS_FINISHED = 16  # answered by 0 or 1
    REQUEST_FRAME = 17  # width, height
    RESET_CAMERA = 18
    SET_STEP_PERIOD = 19  # ms
    UNREQUEST_FRAME = 20
    TOGGLE_INTERFACE = 21  # 0 or 1
    IS_IN_MENUS = 22  # answered by 0 or 1
    GET_INPUTS = 23  # answered by length, UTF-8


INT: Final = Struct("<i")
TWO_INTS: Final = Struct("<2i")
UINT: Final = Struct("<I")
FLOAT: Final = Struct("<f")
KEYS: Final = Struct("<4B")
DEFAULT_TIMEOUT_MS: Final = 2000  # how long the game waits for its number
DEFAULT_PORT: Final = 8478
SETUP: Final = (  # console commands on connecting
    "set unfocused_fps_limit false",
    "set skip_map_load_screens true",
    "set disable_forced_camera true",
    "set autorewind false",
    "set auto_reload_plugins false",
)


def request(message: Message) -> bytes:
    """A request without content, or the number that lets the game go on.

    >>> request(Message.GIVE_UP)
    b'\\x0b\\x00\\x00\\x00'
    """
    return INT.pack(message)


def request_number(message: Message, number: int) -> bytes:
    """``SET_TIMEOUT``, ``SET_STEP_PERIOD`` or ``TOGGLE_INTERFACE``."""
    return INT.pack(message) + (UINT if message == Message.SET_TIMEOUT else INT).pack(number)


def set_speed(speed: float) -> bytes:
    """Times the race's own; 0 freezes the game, and pictures still come."""
    return INT.pack(Message.SET_SPEED) + FLOAT.pack(speed)


def set_inputs(inputs: Inputs) -> bytes:
    """Keys held from the next tick on."""
    return INT.pack(Message.SET_INPUTS) + KEYS.pack(inputs.left, inputs.right, inputs.gas, inputs.brake)


def rewind_to(state: bytes | bytearray) -> bytes:
    """Go back to a state."""
    return TWO_INTS.pack(Message.REWIND_TO_STATE, len(state)) + state


def execute(command: str) -> bytes:
    """A line of the game's console; its length counts bytes, so any language is meant.

    >>> execute("é")
    b'\\x0e\\x00\\x00\\x00\\x02\\x00\\x00\\x00\\xc3\\xa9'
    """
    text = command.encode()
    return TWO_INTS.pack(Message.EXECUTE, len(text)) + text


def request_frame(width: int, height: int) -> bytes:
    """A picture, when the game draws next."""
    return INT.pack(Message.REQUEST_FRAME) + TWO_INTS.pack(width, height)


def load_map(path: str) -> bytes:
    """The console's command to load a map.

    >>> load_map("a b.Gbx")[8:]
    b'map "a b.Gbx"'
    """
    return execute(f'map "{path}"' if " " in path else f"map {path}")


def without_finish(state: bytes) -> bytes:
    """What keeps a finish, at whose state the game waits, from ending the race."""
    return rewind_to(taken_back(state)) if len(checkpoint_times(state)) else request(Message.PREVENT_FINISH)
