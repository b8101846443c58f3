"""Evaluations for loggers: numbers for all loggers, images and a video for TensorBoard."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from tm_torchrl.evaluation import Laps
from tm_torchrl.record.loggers import TensorBoard, TorchRLLogger
from tm_torchrl.record.plots import driven_line, lap_histogram
from tm_torchrl.sim.camera.views import chase_view
from tm_torchrl.tasks.task import Row
from tm_torchrl.trainers.training import Training
from tm_torchrl.world.car_row import CAR_ROW

MEDALS = (None, "bronze", "silver", "gold", "author")
VIDEO_PICTURES, VIDEO_FPS, VIDEO_SIZE = 120, 12, (320, 180)


class EvaluationLog:
    """A listener of ``Evaluate`` that writes numbers, images of a few tracks in turn, and a video at the end.

    Args:
        loggers: Receive the results.
        num_pictured: Tracks with images per evaluation; the two figures of a track take about 0.3 s.
        log: Takes messages.
    """

    def __init__(
        self,
        loggers: Sequence[TensorBoard | TorchRLLogger],
        *,
        num_pictured: int = 2,
        log: Callable[[str], None] = lambda message: None,
    ) -> None:
        self.loggers = list(loggers)
        self.num_pictured = num_pictured
        self.log = log
        self._next = 0

    def __call__(self, training: Training, rows: list[Row], is_best: bool) -> None:
        """Write the results of an evaluation."""
        values = {name: value for row in rows for name, value in evaluation_values(row).items()}
        pictured = [(row["track"], row["laps"]) for row in rows if "laps" in row]
        count = min(self.num_pictured, len(pictured))
        chosen = [pictured[(self._next + i) % len(pictured)] for i in range(count)]
        self._next += count
        try:
            for logger in self.loggers:
                logger.write(frames=rows[0]["frames"], seconds=rows[0]["seconds"], values=values)
                if isinstance(logger, TensorBoard):
                    for track, laps in chosen:
                        write_pictures(logger, track, laps, frames=rows[0]["frames"])
        except OSError as error:
            self.log(f"an evaluation could not be logged: {error}; training continues")

    def write_video(self, training: Training, rows: Sequence[Row]) -> None:
        """Write a time-lapse of the best lap of an evaluation on the first track; this takes a few seconds."""
        for logger in self.loggers:
            if isinstance(logger, TensorBoard) and rows and "laps" in rows[0]:
                try:
                    pictures = lap_pictures(rows[0]["laps"])
                    logger.write_video(f"lap/{rows[0]['track']}", pictures, frames=training.frames, fps=VIDEO_FPS)
                except OSError as error:
                    self.log(f"a video could not be written: {error}")


def evaluation_values(row: Row) -> dict[str, float]:
    """The numbers of a row by tag; medals are 0 (none) and 1 (bronze) to 4 (author), sectors count from 1.

    >>> evaluation_values({"track": "oval", "median_lap_s": 22.5, "medal_of_median": "silver", "frames": 10})
    {'evaluation/oval/median_lap_s': 22.5, 'evaluation/oval/medal_of_median': 2.0}
    >>> evaluation_values({"track": "oval", "lost_to_author_s": [0.3, -0.02]})
    {'evaluation/oval/lost_in_sector_1_s': 0.3, 'evaluation/oval/lost_in_sector_2_s': -0.02}
    """
    found = {}
    for name, value in row.items():
        if name in ("medal", "medal_of_median"):
            found[name] = float(MEDALS.index(value))
        elif name == "lost_to_author_s":
            found |= {f"lost_in_sector_{number}_s": lost_s for number, lost_s in enumerate(value or (), start=1)}
        elif isinstance(value, (int, float)) and name not in ("frames", "seconds", "cpu_s", "updates", "is_blind"):
            found[name] = float(value)
    return {f"evaluation/{row.get('track', row.get('task'))}/{name}": value for name, value in found.items()}


def write_pictures(logger: TensorBoard, track: str, laps: Laps, *, frames: int) -> None:
    """Write the line of the best lap over the track, coloured by speed, and the times of all laps.

    Args:
        logger: Receives the figures.
        track: Name of the track.
        laps: Laps of one evaluation.
        frames: Frames played.
    """
    speed = np.linalg.norm(laps.rows[:, CAR_ROW["velocity"]], axis=1)
    time = laps.best_lap_s
    result = f"{laps.progress_m.max():.0f} m, not finished" if time is None else f"{time:.2f} s"
    figure = driven_line(laps.track, laps.rows[:, CAR_ROW["position"]], speed, title=f"{track}: {result}")
    logger.write_picture(f"line/{track}", figure, frames=frames)
    if time is not None:
        times = laps.times_s[laps.is_finished]
        logger.write_picture(f"laps/{track}", lap_histogram(times.tolist(), track=track), frames=frames)


def lap_pictures(laps: Laps) -> Iterator[np.ndarray]:
    """At most ``VIDEO_PICTURES`` images of the chase view along the best lap.

    Args:
        laps: Laps of one evaluation.
    """
    width, height = VIDEO_SIZE
    for row in laps.rows[:: -(-len(laps.rows) // VIDEO_PICTURES)]:
        yield chase_view(laps.track, row, width=width, height=height)
