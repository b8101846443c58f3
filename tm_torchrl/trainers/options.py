"""Settings of a run as a whole."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from tm_torchrl.settings.construct import construct_as

LARGEST_SEED = 2**31 - 1
MOST_THREADS = 1024
LARGEST_PORT = 65535
SCHEDULE_SPEEDS = (1e-6, 1e6)  # beyond them frames cannot be counted


@dataclass(frozen=True)
class RunOptions:
    """The settings at the top that belong to no part.

    Args:
        total_frames: Frames after which training ends.
        max_minutes: Minutes of training after which it ends at the latest; ``None`` for no limit.
        seed: Seeds everything that is random.
        num_threads: Threads of the learner.
        schedule_speed: Multiplies the frames of all schedules but gamma's.
        device: ``"auto"``, ``"cpu"`` or ``"cuda"``.
        name: Name of the run; ``None`` for that of the track or the task.
        resume: A run folder to continue; ``None`` for a new one.
        live: Whether a page shows the run while it trains; or the port of that page.
    """

    total_frames: int
    max_minutes: float | None
    seed: int
    num_threads: int
    schedule_speed: float
    device: str
    name: str | None
    resume: str | None
    live: bool | int = False  # absent from older runs

    def __post_init__(self) -> None:
        if self.total_frames < 1:
            raise ValueError(f"total_frames={self.total_frames}: must be at least 1")
        if self.max_minutes is not None and not self.max_minutes > 0:
            raise ValueError(f"max_minutes={self.max_minutes}: must be positive, or null")
        if not 0 <= self.seed <= LARGEST_SEED:
            raise ValueError(f"seed={self.seed}: must be between 0 and {LARGEST_SEED}")
        if not 1 <= self.num_threads <= MOST_THREADS:
            raise ValueError(f"num_threads={self.num_threads}: must be between 1 and {MOST_THREADS}")
        low, high = SCHEDULE_SPEEDS
        if not low <= self.schedule_speed <= high:
            raise ValueError(f"schedule_speed={self.schedule_speed}: must be between {low:g} and {high:g}")
        if self.resume == "":
            raise ValueError("resume='': must be a run folder, or null")
        if not isinstance(self.live, bool) and not 1 <= self.live <= LARGEST_PORT:
            raise ValueError(f"live={self.live}: must be true, false, or a port between 1 and {LARGEST_PORT}")

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> RunOptions:
        """The options among the settings of a run.

        Args:
            settings: A whole configuration.
        """
        own = {entry.name: settings[entry.name] for entry in fields(cls) if entry.name in settings}
        resume = own.get("resume")
        if isinstance(resume, os.PathLike) or (isinstance(resume, int) and not isinstance(resume, bool)):
            own["resume"] = str(resume)  # several runs at once have folders named 0, 1, ...
        options: RunOptions = construct_as(cls, own, name="")
        return options
