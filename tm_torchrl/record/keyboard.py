"""Races driven with the arrow keys, in a window with the chase view, a map, speed, clock and medals."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from tm_torchrl.record.dashboard import Dashboard
from tm_torchrl.sim import Simulator
from tm_torchrl.tracks import Track
from tm_torchrl.tracks.medals import medals_of
from tm_torchrl.world.actions import ACTIONS, Inputs
from tm_torchrl.world.drivers import drive
from tm_torchrl.world.tracker import EndCause, Limits, Tracker

STEP_S = 0.05
ARROWS = frozenset({"Up", "Down", "Left", "Right"})
NO_LIMITS = Limits(race_s=1e6, no_progress_s=1e6, overturned_s=1e6, airborne_s=1e6)


@dataclass
class DrivenLap:
    """A lap that reached the finish.

    Args:
        time_s: Its race time.
        rows: Car rows ``[T + 1, row]``.
        actions: Actions ``[T]``.
    """

    time_s: float
    rows: np.ndarray
    actions: np.ndarray


class Window(Protocol):
    """Shows pictures and knows the keys.

    Attributes:
        held: Names of the keys that are down.
        pressed: Names of the keys that were pressed, oldest first; readers remove them.
        is_closed: Whether the window has been closed.
    """

    held: set[str]
    pressed: deque[str]
    is_closed: bool

    def show(self, picture: np.ndarray, text: str) -> None:
        """Show a picture with a line of text below it."""
        ...

    def wait(self, seconds: float) -> None:
        """Wait, and receive keys meanwhile."""
        ...


class TkWindow:
    """A window of tkinter; raises ``RuntimeError`` if there is no display, or if Python lacks tkinter.

    Args:
        title: Title of the window.
    """

    def __init__(self, title: str) -> None:
        try:
            import tkinter as tk

            from PIL import ImageTk

            self._window = tk.Tk()
        except ImportError as error:
            raise RuntimeError("the keyboard driver needs tkinter (Debian: apt install python3-tk)") from error
        except tk.TclError as error:
            raise RuntimeError(f"the keyboard driver needs a display: {error}") from error
        self.held: set[str] = set()
        self.pressed: deque[str] = deque()
        self.is_closed = False
        self._to_photo = ImageTk.PhotoImage
        self._window.title(title)
        self._label = tk.Label(self._window, compound="top", font=("DejaVu Sans", 12), pady=6)
        self._label.pack()
        self._window.bind("<KeyPress>", self._press)
        self._window.bind("<KeyRelease>", lambda event: self.held.discard(event.keysym))
        self._window.protocol("WM_DELETE_WINDOW", self._close)

    def _press(self, event: object) -> None:
        name = str(event.keysym)  # type: ignore[attr-defined]
        if name not in self.held:  # held keys repeat
            self.pressed.append(name)
        self.held.add(name)

    def _close(self) -> None:
        self.is_closed = True
        self._window.destroy()

    def show(self, picture: np.ndarray, text: str) -> None:
        """Show a picture with a line of text below it."""
        if not self.is_closed:
            self._photo = self._to_photo(Image.fromarray(picture))
            self._label.configure(image=self._photo, text=text)

    def wait(self, seconds: float) -> None:
        """Wait, and receive keys meanwhile."""
        end = time.perf_counter() + seconds
        while not self.is_closed:
            self._window.update()
            if (left := end - time.perf_counter()) <= 0:
                return
            time.sleep(min(left, 0.005))


class _Ended(Exception):
    """The race was given up: R restarts it, Escape or closing the window ends the session."""


class _Keys:
    """The driver of one race: shows the car in real time, and drops pictures rather than slowing down."""

    def __init__(self, track: Track, window: Window, text: str) -> None:
        self.dashboard, self.window, self.text = Dashboard(track), window, text
        self.rows: list[np.ndarray] = []
        self.actions: list[int] = []
        self.due = 0.0

    def wait_for_start(self, row: np.ndarray) -> None:
        self.rows.append(row)
        self.window.show(self.dashboard.frame(self.rows), f"Press an arrow key to start. {self.text}")
        self.window.pressed.clear()
        while not ARROWS & set(self.window.pressed) and not self.window.held & ARROWS:
            self.window.wait(0.01)
            _check_end(self.window)
        self.due = time.perf_counter()

    def __call__(self, rows: Tensor, tracker: Tracker) -> Tensor:
        self.due += STEP_S
        if time.perf_counter() < self.due:
            self.window.show(self.dashboard.frame(self.rows), self.text)
        self.window.wait(max(0.0, self.due - time.perf_counter()))
        _check_end(self.window)
        held = self.window.held
        left, right = "Left" in held, "Right" in held
        keys = Inputs("Up" in held, "Down" in held, left and not right, right and not left)
        self.actions.append(ACTIONS.index(keys))
        return torch.tensor([self.actions[-1]])


def _check_end(window: Window) -> None:
    pressed = {name.lower() for name in window.pressed}
    if window.is_closed or pressed & {"r", "escape"}:
        raise _Ended


def race_with_keys(track: Track, window: Window) -> DrivenLap | None:
    """Race until the window is closed or Escape is pressed; returns the fastest lap that finished.

    The clock starts with the first arrow key, R restarts, and nothing ends a race but its finish.

    Args:
        track: The track.
        window: Shows the race and receives the keys.
    """
    world = Simulator(track, num_cars=1, seed=0)
    medals = medals_of(track.name)
    goals = ""
    if medals is not None:
        times = {"bronze": medals.bronze_s, "silver": medals.silver_s, "gold": medals.gold_s, "author": medals.author_s}
        goals = ", ".join(f"{name} {time_s:.2f} s" for name, time_s in times.items()) + ". "
    best: DrivenLap | None = None
    while not window.is_closed and "Escape" not in window.pressed:
        record = "" if best is None else f"Best {best.time_s:.2f} s. "
        keys = _Keys(track, window, f"{record}{goals}R restarts, Esc ends.")
        try:
            for tracker in drive(world, keys, limits=NO_LIMITS):  # noqa: B007  (used below)
                row = world.rows()[0].numpy().copy()
                if keys.rows:
                    keys.rows.append(row)
                else:
                    keys.wait_for_start(row)
            lap = DrivenLap(_finish_s(tracker), np.stack(keys.rows), np.array(keys.actions))
            if best is None or lap.time_s < best.time_s:
                best = lap
            won = medals.won_by(lap.time_s) if medals is not None else None
            medal = f", {won} medal" if won else ""
            window.show(keys.dashboard.frame(keys.rows), f"Finished in {lap.time_s:.2f} s{medal}. R: again, Esc: end")
            window.pressed.clear()
            while True:
                window.wait(0.02)
                _check_end(window)
        except _Ended:
            continue
    return best


def _finish_s(tracker: Tracker) -> float:
    assert int(tracker["end_cause"].item()) == EndCause.FINISHED
    return float(tracker["race_time_ms"].item()) / 1000.0
