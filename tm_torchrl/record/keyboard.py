"""Drive with the arrow keys in a window that shows the chase view."""

from __future__ import annotations

import time

import torch
from PIL import Image
from torch import Tensor

from tm_torchrl.sim.camera.views import chase_view
from tm_torchrl.tracks import Track
from tm_torchrl.world.actions import ACTIONS, Inputs
from tm_torchrl.world.tracker import Tracker

STEP_S = 0.05


class Keyboard:
    """A driver whose actions are the arrow keys that are held; it also shows the car, in real time.

    Raises a ``RuntimeError`` if there is no display, or if Python lacks tkinter.
    """

    def __init__(self, track: Track) -> None:
        try:
            import tkinter as tk

            from PIL import ImageTk

            self._window = tk.Tk()
        except ImportError as error:
            raise RuntimeError("the keyboard driver needs tkinter (Debian: apt install python3-tk)") from error
        except tk.TclError as error:
            raise RuntimeError(f"the keyboard driver needs a display: {error}") from error
        self._track = track
        self._to_photo = ImageTk.PhotoImage
        self._window.title(f"{track.name}: arrow keys drive")
        self._label = tk.Label(self._window)
        self._label.pack()
        self._held: set[str] = set()
        self._window.bind("<KeyPress>", lambda event: self._held.add(event.keysym))
        self._window.bind("<KeyRelease>", lambda event: self._held.discard(event.keysym))
        self._due = time.perf_counter()

    def __call__(self, rows: Tensor, tracker: Tracker) -> Tensor:
        """Show the car, wait until the next step is due, and read the keys."""
        picture = Image.fromarray(chase_view(self._track, rows[0].numpy(), width=640, height=360))
        self._photo = self._to_photo(picture)
        self._label.configure(image=self._photo)
        self._due = max(self._due + STEP_S, time.perf_counter() - STEP_S)
        while (wait := self._due - time.perf_counter()) > 0:
            self._window.update()
            time.sleep(min(wait, 0.005))
        self._window.update()
        left, right = "Left" in self._held, "Right" in self._held
        keys = Inputs("Up" in self._held, "Down" in self._held, left and not right, right and not left)
        return torch.tensor([ACTIONS.index(keys)])
