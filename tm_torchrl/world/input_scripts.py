"""Keys over time as TMInterface's scripts say them (``.inputs``, ``.txt``), and as our actions.

A line such as ``1.20-2.50 press left`` holds a key from one race time to another; ``press`` and ``rel`` with one time
begin and end it. Times are seconds with a point, or whole milliseconds.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from tm_torchrl.world.actions import ACTIONS, TICK_MS, TICKS_PER_ACTION, Inputs

KEYS = {"up": "gas", "down": "brake", "left": "left", "right": "right"}  # the script's name, and ours
IGNORED = ("enter", "delete", "horn")  # keys that steer nothing: finish screens, respawns before the start, the horn
MAX_TICKS = 360_000  # an hour; a later time is a mistake in units
_NAMES = tuple(KEYS.values())
_TIMED = re.compile(r"(?P<begin>[\d.:]+)(?:-(?P<end>[\d.:]+))?\s+(?P<command>press|rel|steer|gas)\s+(?P<what>\S+)")
_LEFT_AND_RIGHT = Inputs(gas=False, brake=False, left=True, right=True)


def script_of(actions: np.ndarray) -> str:
    """The script of a drive, one line for each stretch that a key is held.

    Args:
        actions: ``[T]`` held 50 ms each, or ``[T, 5]`` with one a tick.

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
    """The keys of each tick, bool ``[ticks, 4]``: gas, brake, left, right.

    Args:
        actions: ``[T]`` held 50 ms each, or ``[T, 5]`` with one a tick.
    """
    if actions.ndim not in (1, 2) or (actions.ndim == 2 and actions.shape[1] != TICKS_PER_ACTION):
        raise ValueError(f"actions have the shape {list(actions.shape)}; [T], or [T, {TICKS_PER_ACTION}], wanted")
    ticks = np.repeat(actions, TICKS_PER_ACTION) if actions.ndim == 1 else actions.reshape(-1)
    return np.array(ACTIONS, bool)[ticks.astype(np.int64)].reshape(-1, 4)


def parse_script(text: str, *, name: str = "script") -> np.ndarray:
    """The keys of each tick, bool ``[ticks, 4]``, until the last key is let go or last touched.

    Args:
        text: lines of a script; comments and commands without a time change no key and are passed over.
        name: of the file, for messages.

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
                raise ValueError(f"{name}, line {number}: {line!r} is no input; such as 1.20-2.50 press left wanted")
            command, what = found["command"], found["what"].lower()
            if command in ("steer", "gas"):
                raise ValueError(
                    f"{name}, line {number}: {line!r} is of an analogue stick; actions here are keys, such as press up"
                )
            if what in IGNORED:
                continue
            if what not in KEYS:
                raise ValueError(f"{name}, line {number}: key {what!r} is unknown; up, down, left or right wanted")
            begin = _ticks(found["begin"], f"{name}, line {number}")
            events.append((begin, number, what, command == "press"))
            if found["end"] is not None:
                end = _ticks(found["end"], f"{name}, line {number}")
                if end < begin:
                    raise ValueError(f"{name}, line {number}: {line!r} ends before it begins")
                events.append((end, number, what, False))
    if not events:
        raise ValueError(f"{name} holds no inputs; lines such as 0.00-1.50 press up wanted")
    keys = np.zeros((max(at for at, *_ in events), 4), bool)
    for at, _, what, is_pressed in sorted(events, key=lambda event: event[:2]):
        keys[at:, _NAMES.index(KEYS[what])] = is_pressed
    return keys


def actions_of(keys: np.ndarray) -> np.ndarray:
    """The actions of a drive: ``[T]`` if no key changes within 50 ms, else ``[T, 5]`` with one a tick.

    Args:
        keys: bool ``[ticks, 4]``; the last 50 ms are filled up with what is held.

    Examples:
        >>> actions_of(parse_script("0-0.10 press up\\n0.05-0.10 press left"))
        array([0, 1])
        >>> actions_of(parse_script("0-0.05 press up\\n0.02-0.05 press left"))
        array([[0, 0, 1, 1, 1]])
    """
    number = {inputs: i for i, inputs in enumerate(ACTIONS)}
    for gas, brake in ((True, False), (False, False), (False, True), (True, True)):  # both ways at once is straight on
        both = _LEFT_AND_RIGHT._replace(gas=gas, brake=brake)
        number[both] = number[both._replace(left=False, right=False)]
    ticks = np.array([number[Inputs(*map(bool, row))] for row in keys], np.int64)
    missing = -len(ticks) % TICKS_PER_ACTION
    ticks = np.concatenate([ticks, np.repeat(ticks[-1:], missing)]).reshape(-1, TICKS_PER_ACTION)
    held: np.ndarray = ticks[:, 0]
    return held if bool((ticks == held[:, None]).all()) else ticks


def read_script(path: str | Path) -> np.ndarray:
    """The actions of a script file, as ``actions_of`` gives them.

    Args:
        path: of the file.
    """
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no text file ({error.reason} at byte {error.start})") from None
    return actions_of(parse_script(text, name=str(path)))


def _seconds(tick: int) -> str:
    return f"{tick // 100}.{tick % 100:02d}"


def _ticks(time: str, where: str) -> int:
    """A time of a script in ticks; ``1:02.50`` has minutes."""
    parts = time.split(":")
    try:
        seconds = sum(float(part) * 60**i for i, part in enumerate(parts[::-1]))
        milliseconds = int(time) if time.isdigit() else round(1000 * seconds)
    except ValueError:
        raise ValueError(f"{where}: {time!r} is no time; seconds (1.20) or milliseconds (1200) wanted") from None
    if milliseconds % TICK_MS:
        raise ValueError(f"{where}: {time!r} is no whole number of ticks of {TICK_MS} ms")
    if milliseconds // TICK_MS > MAX_TICKS:
        raise ValueError(f"{where}: {time!r} is more than an hour; seconds (1.20) or milliseconds (1200) wanted")
    return milliseconds // TICK_MS
