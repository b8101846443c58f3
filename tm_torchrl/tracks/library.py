"""The built-in tracks, by name."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from functools import cache, partial
from pathlib import Path
from types import MappingProxyType

from tm_torchrl.tracks.building.blocks import blocks
from tm_torchrl.tracks.building.generate import generate_track
from tm_torchrl.tracks.building.pieces import arc, lay, straight
from tm_torchrl.tracks.track import Track

DEFAULT_TRACK = "hillside"

_COURSES: Mapping[str, str] = MappingProxyType(
    {
        "hillside": "SSSuSSuLdSrrSdRlSuLEEUDJSSSSLSSRSuLSSSSLSS",  # hills, sharp corners, one jump, a dirt piece
        "quarry": "SSSELEEREERELEEREELEEELuEEEERSSSS",  # mostly dirt
        "leaps": "SSSSSLSSRSJSSrSSllJSSRJSSRSJSSSSRSJSSSJSSSS",  # six jumps
        "booster": "SSSTSSSSRlTSSTSSlSSRSXSSrrlrTSSTSSSXSSrllrllSS",  # turbo and red turbo between wide curves
        "alley": "SSSNNRNNSSNNSCNNRNNSCNNNNRNNNNNNRSSLSS",  # narrow, two chicanes
        "mountain": "SSSDDUUSSRDRDDULrUUlULDRlULDRSSRSSSdlSSRSSLULSdUUUUUUSSRDDDDUUlrSSRDDDDSS",  # 56 m of height
        "marathon": (
            "SSSSSRlllSSRuSNNuSdSuSuSJSSSSRSSRSSLSSRdSuSllSSRSSRSSLSREElJSSlSSNNSSSClrTSSdSSSLSSLdSSSRrTSSSSLrEEEESSRuSSSLSS"
        ),
    }
)


def _oval() -> Track:
    """Flat: two straights, two half turns."""
    half = (straight(400.0), arc(60.0, 180.0))
    return lay("oval", half + half, num_laps=1)


def _bowl() -> Track:
    """Two laps of banked half turns and straights: the car may keep its speed."""
    pieces = (straight(160.0), arc(80.0, 180.0, bank=0.25), straight(160.0), arc(80.0, 180.0, bank=0.25))
    return lay("bowl", pieces, num_laps=2, half_width_m=11.0)


def _ring() -> Track:
    """Three laps of a small circuit."""
    pieces = (
        straight(90.0), arc(30.0, 90.0), straight(50.0, rise_m=3.0), arc(30.0, 90.0),
        straight(90.0), arc(30.0, 90.0), straight(50.0, rise_m=-3.0), arc(30.0, 90.0),
    )  # fmt: skip
    return lay("ring", pieces, num_laps=3)


_MAKERS: Mapping[str, Callable[[], Track]] = MappingProxyType(
    {
        "oval": _oval,
        "bowl": _bowl,
        "ring": _ring,
        **{name: partial(blocks, spec, name=name) for name, spec in _COURSES.items()},
        "valley": lambda: generate_track(3, name="valley", length_m=1500.0),
        "meadow": lambda: generate_track(12, name="meadow", length_m=1900.0, kind="course", features=["jump", "dirt"]),
    }
)
BUILTIN_TRACKS: tuple[str, ...] = (DEFAULT_TRACK, *(name for name in _MAKERS if name != DEFAULT_TRACK))


@cache
def _builtin(name: str) -> Track:
    return _MAKERS[name]()


def load_track(name_or_path: str | Path) -> Track:
    """A built-in track by name, or a track file by its path, which ends in ``.npz``.

    Raises:
        ValueError: No built-in track has this name; the message shows the nearest names.

    >>> load_track("oval").is_circuit
    True
    """
    name = str(name_or_path)
    if name in _MAKERS:
        return _builtin(name)
    if name.endswith(".npz"):
        return Track.load(name)
    near = difflib.get_close_matches(name, BUILTIN_TRACKS, n=3, cutoff=0.4)
    hint = f"did you mean {' or '.join(near)}? " if near else ""
    raise ValueError(
        f"track {name!r} is not a built-in track; {hint}Built-in are {', '.join(BUILTIN_TRACKS)}; files end in .npz"
    )
