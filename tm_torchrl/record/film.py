"""A lap as a video and a picture."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from rich.progress import track as progress

from tm_torchrl.data.saving.atomic_files import without_link
from tm_torchrl.record.dashboard import Dashboard
from tm_torchrl.record.plots import driven_line
from tm_torchrl.record.video import write_video
from tm_torchrl.tracks import Track
from tm_torchrl.world.car_row import CAR_ROW


def film_lap(track: Track, rows: np.ndarray, path: Path, *, result: str) -> tuple[Path, Path]:
    """Write a video of the chase view beside the map, and a PNG of the line coloured by speed; returns their paths.

    Args:
        track: The track.
        rows: Car rows ``[T + 1, row]``.
        path: The video, ``.mp4`` or ``.gif``; the PNG stands beside it.
        result: The result as text, for the picture's title.
    """
    dashboard, seen = Dashboard(track), list(rows)

    def frames() -> Iterator[np.ndarray]:
        for step in progress(range(len(seen)), description="drawing"):
            yield dashboard.frame(seen[: step + 1])

    video, picture = write_video(frames(), path), without_link(path.with_suffix(".png"))
    speed = np.linalg.norm(rows[:, CAR_ROW["velocity"]], axis=1)
    figure = driven_line(track, rows[:, CAR_ROW["position"]], speed, title=f"{track.name}: {result}")
    figure.savefig(picture, dpi=90)
    return video, picture
