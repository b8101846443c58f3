"""Surfaces and the game's material ids."""

from __future__ import annotations

from enum import IntEnum


class Surface(IntEnum):
    """What a wheel stands on; the values are the game's contact material ids.

    >>> int(Surface.ASPHALT), Surface(26).name
    (16, 'TURBO2')
    """

    GRASS = 2
    DIRT = 6
    TURBO = 7
    ASPHALT = 16
    TURBO2 = 26
    FREEWHEELING = 29
