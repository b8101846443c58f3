"""Converts between TMInterface's input scripts (``.inputs``, ``.txt``) and actions.

A line such as ``1.20-2.50 press left`` holds a key from one race time to another; ``press`` and ``rel`` with one time
begin and end it. Times are seconds with a decimal point, or whole milliseconds.
"""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import numpy as np

from tm_torchrl.world.actions import ACTIONS, TICK_MS, TICKS_PER_ACTION, Inputs

KEYS = {"up": "gas", "down": "brake", "left": "left", "right": "right"}  # the script's name and ours
IGNORED = ("enter", "delete", "horn")  # keys that do not drive: finish screens, respawns before the start, the horn
MAX_TICKS = 360_000  # an hour; a later time is a mistake in units
_NAMES = tuple(KEYS.values())
_TIMED = re.compile(r"(?P<begin>[\d.:]+)(?:-(?P<end>[\d.:]+))?\s+(?P<command>press|rel|steer|gas)\s+(?P<what>\S+)")
_LEFT_AND_RIGHT = Inputs(gas=False, brake=False, left=True, right=True)


def script_of(actions: np.ndarray) -> str:
    """The script of a drive, one line for each time that a key is held.

    Args:
        actions: ``[T]`` held 50 ms each, or ``[T, 5]`` with one per tick.

    Examples:
        >>> print(script_of(np.array([0, 1, 1])))
        0.00-0.15 press up
        0.05-0.15 press left
    """
    held = keys_of(actions)
    lines = []
    for key, name in KEYS.items():
        column = held[:, _NAMES.index(name)].astype(np.int8)
        edges = np.diff(column, prepend=0, append=0)
        for begin, end in zip(*(np.flatnonzero(edges == edge).tolist() for edge in (1, -1)), strict=True):
            lines.append((begin, f"{_seconds(begin)}-{_seconds(end)} press {key}"))
    return "\n".join(line for _, line in sorted(lines, key=lambda found: found[0]))


def keys_of(actions: np.ndarray) -> np.ndarray:
    """The keys held in each tick, bool ``[ticks, 4]``: gas, brake, left, right.

    Args:
        actions: ``[T]`` held 50 ms each, or ``[T, 5]`` with one per tick.
    """
    if actions.ndim not in (1, 2) or (actions.ndim == 2 and actions.shape[1] != TICKS_PER_ACTION):
        raise ValueError(f"actions has shape {list(actions.shape)}; expected [T] or [T, {TICKS_PER_ACTION}]")
    ticks = np.repeat(actions, TICKS_PER_ACTION) if actions.ndim == 1 else actions.reshape(-1)
    return np.array(ACTIONS, bool)[ticks.astype(np.int64)].reshape(-1, 4)


def parse_script(text: str, *, name: str = "script") -> np.ndarray:
    """The keys held in each tick, bool ``[ticks, 4]``, up to the last press or release.

    Args:
        text: The lines of a script; comments and commands that change no key are skipped.
        name: The file's name, for error messages.

    Examples:
        >>> parse_script("0 press up\\n0.02-0.04 press left\\n50 rel up")[:, 2].tolist()
        [False, False, True, True, False]
    """
    events: list[tuple[int, int, str, bool]] = []
    for number, raw in enumerate(text.splitlines(), 1):
        for part in raw.split("#")[0].split(";"):
            line = part.strip()
            if not line or not line[0].isdigit():
                continue  # an immediate command, such as set speed 10
            found = _TIMED.fullmatch(line)
            if found is None:
                if line.split()[1:2] and line.split()[1] not in ("press", "rel", "steer", "gas"):
                    continue  # a timed command that touches no key
                raise ValueError(
                    f"{name}, line {number}: {line!r} is not an input; expected a line such as 1.20-2.50 press left"
                )
            command, what = found["command"], found["what"].lower()
            if command in ("steer", "gas"):
                raise ValueError(
                    f"{name}, line {number}: {line!r} is analogue input; only keys can be played, such as press up"
                )
            if what in IGNORED:
                continue
            if what not in KEYS:
                raise ValueError(f"{name}, line {number}: key {what!r} must be up, down, left or right")
            begin = _ticks(found["begin"], f"{name}, line {number}")
            events.append((begin, number, what, command == "press"))
            if found["end"] is not None:
                end = _ticks(found["end"], f"{name}, line {number}")
                if end < begin:
                    raise ValueError(f"{name}, line {number}: {line!r} ends before it begins")
                events.append((end, number, what, False))
    if not events:
        raise ValueError(f"{name} has no inputs; expected lines such as 0.00-1.50 press up")
    keys = np.zeros((max(at for at, *_ in events), 4), bool)
    events.sort(key=lambda event: event[:2])
    for column, key in enumerate(_NAMES):
        own = [(at, is_pressed) for at, _, what, is_pressed in events if KEYS[what] == key]
        for (at, is_pressed), (end, _) in itertools.pairwise([*own, (len(keys), False)]):
            keys[at:end, column] = is_pressed
    return keys


def actions_of(keys: np.ndarray) -> np.ndarray:
    """The actions of a drive: ``[T]`` if no key changes within an action's 50 ms, else ``[T, 5]`` with one per tick.

    Args:
        keys: Bool ``[ticks, 4]``; the keys held last fill up the last 50 ms.

    Examples:
        >>> actions_of(parse_script("0-0.10 press up\\n0.05-0.10 press left"))
        array([0, 1])
        >>> actions_of(parse_script("0-0.05 press up\\n0.02-0.05 press left"))
        array([[0, 0, 1, 1, 1]])
    """
    number = {inputs: i for i, inputs in enumerate(ACTIONS)}
    for gas, brake in ((True, False), (False, False), (False, True), (True, True)):  # left and right cancel out
        both = _LEFT_AND_RIGHT._replace(gas=gas, brake=brake)
        number[both] = number[both._replace(left=False, right=False)]
    ticks = np.array([number[Inputs(*map(bool, row))] for row in keys], np.int64)
    missing = -len(ticks) % TICKS_PER_ACTION
    ticks = np.concatenate([ticks, np.repeat(ticks[-1:], missing)]).reshape(-1, TICKS_PER_ACTION)
    held: np.ndarray = ticks[:, 0]
    return held if bool((ticks == held[:, None]).all()) else ticks


def read_script(path: str | Path) -> np.ndarray:
    """The actions of a script file, as ``actions_of`` gives them."""
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not a text file ({error.reason} at byte {error.start})") from None
    return actions_of(parse_script(text, name=str(path)))


def _seconds(tick: int) -> str:
    return f"{tick // 100}.{tick % 100:02d}"


def _ticks(time: str, where: str) -> int:
    """Ticks of a script's time, such as ``1200``, ``1.20`` or ``1:02.50``."""
    parts = time.split(":")
    try:
        seconds = sum(float(part) * 60**i for i, part in enumerate(parts[::-1]))
        milliseconds = int(time) if time.isdigit() else round(1000 * seconds)
    except (ValueError, OverflowError):  # hundreds of colons, or too many digits
        raise ValueError(
            f"{where}: {time[:40]!r} is not a time; expected seconds (1.20) or milliseconds (1200)"
        ) from None
    if milliseconds % TICK_MS:
        raise ValueError(f"{where}: {time!r} is not a whole number of ticks of {TICK_MS} ms")
    if milliseconds // TICK_MS > MAX_TICKS:
        raise ValueError(f"{where}: {time!r} is more than an hour; expected seconds (1.20) or milliseconds (1200)")
    return milliseconds // TICK_MS
