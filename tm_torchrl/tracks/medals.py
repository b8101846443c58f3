"""Medals and records of the built-in tracks: bronze, silver and gold from a scripted driver, author from a search.

The author's time stays, since scores count against it; the record is the fastest lap known, whoever found it. All
depend on the simulator's physics; ``scripts/optimize_lap.py`` and ``scripts/make_medals.py`` make them again.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

import numpy as np

DATA = Path(__file__).parent / "data"
ACTION_LETTERS = "0123456789ab"  # one per 50 ms


@dataclass(frozen=True)
class Record:
    """The fastest lap known of a track.

    Args:
        time_s: Its time.
        actions: Its inputs, one letter of ``ACTION_LETTERS`` per 50 ms.
        found_by: ``"search alone"``, ``"policy with search"`` or ``"policy alone"``.
        cpu_minutes: How long the search has run.
        is_settled: Whether the search's last 30 CPU minutes improved the lap by less than 0.2 %.
    """

    time_s: float
    actions: str
    found_by: str
    cpu_minutes: float
    is_settled: bool


@dataclass(frozen=True)
class Medals:
    """Race times in seconds to reach or beat.

    Args:
        bronze_s: Time of a careful scripted driver.
        silver_s: Time of a faster one.
        gold_s: Time of the fastest scripted driver.
        author_s: Time of the best lap that a first search of some minutes found.
        author_actions: The inputs of that lap, one letter of ``ACTION_LETTERS`` per 50 ms.
        search_cpu_minutes: How long that search has run.
        record: The fastest lap known.
    """

    bronze_s: float
    silver_s: float
    gold_s: float
    author_s: float
    author_actions: str
    search_cpu_minutes: float
    record: Record

    def won_by(self, time_s: float) -> str | None:
        """The best medal that a race time earns.

        >>> medals = medals_of("hillside")
        >>> medals.won_by(medals.gold_s), medals.won_by(medals.bronze_s + 1.0)
        ('gold', None)
        """
        for name in ("author", "gold", "silver", "bronze"):
            if time_s <= getattr(self, f"{name}_s"):
                return name
        return None


@cache
def medals_of(track_name: str) -> Medals | None:
    """The medals of a built-in track; None for other tracks.

    >>> medals_of("hillside").author_s < medals_of("hillside").gold_s
    True
    """
    path = DATA / f"{track_name}.json"
    if not path.is_file():
        return None
    stored = json.loads(path.read_text())
    return Medals(**stored | {"record": Record(**stored["record"])})


def author_actions(track_name: str) -> np.ndarray | None:
    """The actions of a built-in track's author lap, int8, one per 50 ms; None for other tracks."""
    medals = medals_of(track_name)
    return None if medals is None else decode_actions(medals.author_actions)


def shipped_lap(track_name: str, name: str = "author", *, option: str, advice: str) -> np.ndarray:
    """The actions of a track's author lap or record; raises ``ValueError`` if it has none.

    Args:
        track_name: The track.
        name: ``"author"`` or ``"record"``.
        option: What asks for the lap, for the message.
        advice: What to do instead, for the message.
    """
    medals = medals_of(track_name)
    if medals is None:
        raise ValueError(f"{option}: track {track_name!r} has no {name} lap; {advice}")
    return decode_actions({"author": medals.author_actions, "record": medals.record.actions}[name])


def write_medals(track_name: str, medals: Medals) -> Path:
    """Store a track's medals in the package's data."""
    path = DATA / f"{track_name}.json"
    unfinished = path.with_suffix(".tmp")
    unfinished.write_text(json.dumps(asdict(medals), indent=2) + "\n")
    unfinished.replace(path)
    medals_of.cache_clear()
    return path


def encode_actions(actions: np.ndarray) -> str:
    """Action indices as letters.

    >>> encode_actions(np.array([0, 0, 7, 11])), decode_actions("007b").tolist()
    ('007b', [0, 0, 7, 11])
    """
    return "".join(ACTION_LETTERS[action] for action in actions.tolist())


def decode_actions(letters: str) -> np.ndarray:
    """The inverse of :func:`encode_actions`."""
    return np.array([ACTION_LETTERS.index(letter) for letter in letters], np.int8)
