"""The 12 discrete actions, in the order that the community's networks use."""

from __future__ import annotations

from typing import NamedTuple


class Inputs(NamedTuple):
    """The four keys of the game."""

    gas: bool
    brake: bool
    left: bool
    right: bool


ACTIONS: tuple[Inputs, ...] = tuple(
    Inputs(gas=gas, brake=brake, left=steer < 0, right=steer > 0)
    for gas, brake in ((True, False), (False, False), (False, True), (True, True))
    for steer in (0, -1, 1)
)

NUM_ACTIONS = len(ACTIONS)
MAX_ACTIONS = 360_000  # of a lap in a file: an hour with one action per tick
FORWARD = ACTIONS.index(Inputs(True, False, False, False))
BACKWARD = ACTIONS.index(Inputs(False, True, False, False))

TICK_MS = 10  # the game's physics tick
TICKS_PER_ACTION = 5  # an action is held for 50 ms
