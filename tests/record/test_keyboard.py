"""Races with the arrow keys, in a window that a program plays."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

import numpy as np
import pytest

from tm_torchrl.evaluation.replays import replay
from tm_torchrl.record import keyboard
from tm_torchrl.record.keyboard import race_with_keys
from tm_torchrl.sim import Simulator
from tm_torchrl.tracks import load_track
from tm_torchrl.tracks.medals import author_actions, medals_of
from tm_torchrl.world.actions import ACTIONS

NAMES = ("Up", "Down", "Left", "Right")


class Played:
    """A window whose keys are those of a list of events: held keys, or a key that is pressed."""

    def __init__(self, events: Iterator[set[str] | str]) -> None:
        self.events = events
        self.held: set[str] = set()
        self.pressed: deque[str] = deque()
        self.is_closed = False
        self.texts: list[str] = []

    def show(self, picture: np.ndarray, text: str) -> None:
        self.texts.append(text)

    def wait(self, seconds: float) -> None:
        event = next(self.events, "Escape")
        if isinstance(event, str):
            self.pressed.append(event)
        else:
            self.held = event


def author_keys(track: str) -> Iterator[set[str]]:
    actions = author_actions(track)
    assert actions is not None
    for action in actions:
        yield {name for name, is_down in zip(NAMES, ACTIONS[action], strict=True) if is_down}


def test_a_race_waits_for_the_first_key_restarts_and_keeps_the_best(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keyboard, "STEP_S", 0.0)  # no pictures while driving, no waiting

    def events() -> Iterator[set[str] | str]:
        yield from [set(), set(), set(), {"Up"}]  # nothing, then the race begins
        yield from [{"Up"}, {"Up"}, "r"]  # given up; the next race begins at once, since a key is held
        yield from author_keys("oval")

    window = Played(events())
    lap = race_with_keys(load_track("oval"), window)
    medals = medals_of("oval")
    assert lap is not None and medals is not None
    assert lap.time_s == medals.author_s
    assert replay(Simulator(load_track("oval"), num_cars=1), lap.actions).time_s == lap.time_s
    assert window.texts[0].startswith("Press an arrow key to start. bronze 24.79 s, silver 22.89 s")
    assert window.texts[-1] == "Finished in 20.56 s, author medal. R: again, Esc: end"


def test_escape_ends_without_a_lap() -> None:
    assert race_with_keys(load_track("oval"), Played(iter([]))) is None
