"""Folders of demonstrations whose numbers say where they stand: no simulator has driven them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tm_torchrl.data.demonstrations.description import Description
from tm_torchrl.data.demonstrations.writer import DemonstrationWriter, DrivenLap
from tm_torchrl.tracks import load_track

STATE_SIZE = 3
SETTINGS = {"starts": "line", "seed": 0}


def description(**changes: Any) -> Description:
    """Laps on the oval."""
    found = Description.of(load_track("oval"), driver="nobody", state_size=STATE_SIZE, settings=SETTINGS)
    return dataclasses.replace(found, **changes)


def lap(first: int, length: int, *, block: int = 1, image_size: int | None = None) -> DrivenLap:
    """Frame f has floats f, action f and choice f + 1 modulo 12; all numbers of its start are f of the first frame.

    Args:
        first: Number of the lap's first frame.
        length: Frames.
        block: Actions in a frame; slot s has action f + s modulo 12.
        image_size: Of images of the brightness f modulo 256; ``None`` for none.
    """
    frames = np.arange(first, first + length)
    actions = frames % 12 if block == 1 else (frames[:, None] + np.arange(block)) % 12
    images = None
    if image_size is not None:
        images = np.broadcast_to((frames % 256)[:, None, None, None], (length, 1, image_size, image_size))
    return DrivenLap(
        observation=np.repeat(frames[:, None], 184, 1).astype(np.float32),
        action=actions,
        chosen=(actions + 1) % 12,
        time_s=float(length),
        start=np.full(STATE_SIZE, first, np.float32),
        zone=first,
        pixels=images,
    )


def write(folder: Path, lengths: Sequence[Sequence[int]], **changes: Any) -> DemonstrationWriter:
    """A folder with a part for each sequence of lengths of laps."""
    given = description(**changes)
    writer, first = DemonstrationWriter(folder, given), 0
    for part in lengths:
        laps = []
        for length in part:
            size = given.image_size
            made = lap(first, length, block=given.action_block, image_size=size)
            if given.weighs_actions:  # action a costs a seconds more than the cheapest, 0
                made = replaced(made, regret=np.tile(np.arange(12.0), (length, 1)))
            laps.append(made)
            first += length
        writer.add(laps, num_attempts=len(laps) + 1)
    return writer


def replaced(lap: DrivenLap, **changes: Any) -> DrivenLap:
    """A lap with other arrays."""
    return dataclasses.replace(lap, **changes)
