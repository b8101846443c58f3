"""Durations as people read them."""

from __future__ import annotations


def clock(seconds: float) -> str:
    """A duration as minutes and seconds, with hours if there are any.

    >>> clock(75), clock(3700)
    ('1:15', '1:01:40')
    """
    whole = int(seconds)
    hours, minutes, rest = whole // 3600, whole // 60 % 60, whole % 60
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
