"""Folders of laps for all formats, and what must be equal after they have gone there and back."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tests.data.demonstrations import made_laps
from tm_torchrl.data import DemonstrationFolder, DemonstrationWriter


def write(folder: Path, *, image_size: int | None = 8, block: int = 1) -> DemonstrationFolder:
    """Three laps in two parts, with images of noise; the last one did not finish. Single actions are weighed."""
    random = np.random.default_rng(0)
    facts = made_laps.description(image_size=image_size, action_block=block, weighs_actions=block == 1)
    writer = DemonstrationWriter(folder, facts)
    for part in ([7, 5], [6]):
        laps = []
        for number, length in enumerate(part):
            pixels = (
                None if image_size is None else random.integers(0, 256, (length, 1, image_size, image_size), np.uint8)
            )
            lap = made_laps.lap(10 * number, length, block=block, image_size=image_size)
            lap = made_laps.replaced(
                lap,
                pixels=pixels,
                regret=random.random((length, 12)).astype(np.float16) if block == 1 else None,
                observation=random.normal(size=(length, 184)).astype(np.float32),
                start=random.normal(size=made_laps.STATE_SIZE).astype(np.float32),
                time_s=float("nan") if len(part) == 1 else 0.35 + number / 3,
            )
            laps.append(lap)
        writer.add(laps, num_attempts=len(laps))
    return DemonstrationFolder(folder)


def assert_equal(one: DemonstrationFolder, two: DemonstrationFolder) -> None:
    """Each array of both folders has the same bytes."""
    assert one.description == two.description
    frames = np.arange(len(one))
    for name in one.description.frame_arrays:
        np.testing.assert_array_equal(one.rows(name, frames), two.rows(name, frames), err_msg=name)
    for name in ("lap_frames", "lap_time_s", "lap_start", "lap_zone"):
        np.testing.assert_array_equal(getattr(one, name), getattr(two, name), err_msg=name)
