"""Why an episode is over."""

from enum import IntEnum


class EndCause(IntEnum):
    """Why an episode is over; the tracker row holds the number."""

    NONE = 0
    FINISHED = 1
    TIME_LIMIT = 2
    NO_PROGRESS = 3
    OVERTURNED = 4
    AIRBORNE = 5
    OUT_OF_WORLD = 6
    INVALID = 7
