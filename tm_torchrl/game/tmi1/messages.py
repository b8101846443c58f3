"""Messages between TMInterface 1.x and its clients: kinds, error codes, and the layouts of contents."""

from __future__ import annotations

from enum import IntEnum
from struct import Struct


class Kind(IntEnum):
    """Kinds of messages: first those of the game, then, from ``REGISTER`` on, those of the client."""

    RESPONSE = 1
    ON_REGISTERED = 2
    SHUTDOWN = 3
    ON_RUN_STEP = 4
    ON_SIM_BEGIN = 5
    ON_SIM_STEP = 6
    ON_SIM_END = 7
    ON_CHECKPOINT = 8
    ON_LAP = 9
    ON_CUSTOM_COMMAND = 10
    ON_BRUTEFORCE = 11
    REGISTER = 12
    DEREGISTER = 13
    PROCESSED_CALL = 14
    SET_INPUTS = 15
    RESPAWN = 16
    GIVE_UP = 17
    HORN = 18
    REWIND = 19
    GET_STATE = 20
    GET_EVENTS = 21
    GET_CONTEXT = 22
    SET_EVENTS = 23
    SET_TIME_LIMIT = 24
    GET_CHECKPOINTS = 25
    SET_CHECKPOINTS = 26
    SET_SPEED = 27
    EXECUTE = 28
    SET_EXECUTE_COMMANDS = 29
    SET_TIMEOUT = 30
    REMOVE_VALIDATION = 31
    PREVENT_FINISH = 32
    REGISTER_COMMAND = 33
    LOG = 34


FIRST_OF_CLIENT = Kind.REGISTER
ALREADY_REGISTERED, NO_EVENTS, NO_PLAYER = 2, 3, 4  # error codes
RUN_MODE = 1
LEAVE_KEY, LEAVE_STICK = -1, 0x7FFFFFFF
FOREVER_MS = -1
DEFAULT_TIMEOUT_MS = 2000

INT = Struct("<i")
TWO_INTS = Struct("<ii")
DOUBLE = Struct("<d")
INPUTS = Struct("<6i")  # left, right, gas, brake; steer and gas of an analogue stick
