"""Messages of TMInterface 2's link plugin: little-endian integers of four bytes, with a length only where noted.

The game speaks first and waits until its message's number is sent back; in between it takes requests.
"""

from __future__ import annotations

from enum import IntEnum
from struct import Struct
from typing import Final

from tm_torchrl.game.state_layout import checkpoint_times, without_last_checkpoint
from tm_torchrl.world.actions import Inputs


class Message(IntEnum):
    """Numbers of the messages; the game sends the first five, the client the others."""

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
DEFAULT_TIMEOUT_MS: Final = 2000  # how long the game waits for its number to come back
DEFAULT_PORT: Final = 8478
SETUP: Final = (  # console commands on connecting
    "set unfocused_fps_limit false",
    "set skip_map_load_screens true",
    "set disable_forced_camera true",
    "set autorewind false",
    "set auto_reload_plugins false",
)


def request(message: Message) -> bytes:
    """A request without content, or one of the game's numbers, which lets it go on.

    >>> request(Message.GIVE_UP)
    b'\\x0b\\x00\\x00\\x00'
    """
    return INT.pack(message)


def request_number(message: Message, number: int) -> bytes:
    """A request with one number: ``SET_TIMEOUT``, ``SET_STEP_PERIOD`` or ``TOGGLE_INTERFACE``."""
    return INT.pack(message) + (UINT if message == Message.SET_TIMEOUT else INT).pack(number)


def set_speed(speed: float) -> bytes:
    """Set the speed as a multiple of real time; 0 freezes the game, but pictures still come."""
    return INT.pack(Message.SET_SPEED) + FLOAT.pack(speed)


def set_inputs(inputs: Inputs) -> bytes:
    """Hold these keys from the next tick on."""
    return INT.pack(Message.SET_INPUTS) + KEYS.pack(inputs.left, inputs.right, inputs.gas, inputs.brake)


def rewind_to(state: bytes | bytearray) -> bytes:
    """Go back to a state."""
    return TWO_INTS.pack(Message.REWIND_TO_STATE, len(state)) + state


def execute(command: str) -> bytes:
    """Run a line of the game's console, in UTF-8; its length counts bytes.

    >>> execute("é")
    b'\\x0e\\x00\\x00\\x00\\x02\\x00\\x00\\x00\\xc3\\xa9'
    """
    text = command.encode()
    return TWO_INTS.pack(Message.EXECUTE, len(text)) + text


def request_frame(width: int, height: int) -> bytes:
    """Request a picture, which comes when the game draws next."""
    return INT.pack(Message.REQUEST_FRAME) + TWO_INTS.pack(width, height)


def prevent_finish_at(state: bytes) -> bytes:
    """Keep a finish from ending the race, while the game waits at the finish's state."""
    if len(checkpoint_times(state)):
        return rewind_to(without_last_checkpoint(state))
    return request(Message.PREVENT_FINISH)
