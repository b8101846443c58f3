"""Small grey images side by side, in rows with names, as one PNG."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from tm_torchrl.data.saving.atomic_files import replacing

SCALE, GAP, NAME_WIDTH = 2, 6, 100


def write_picture_table(path: Path, rows: Mapping[str, np.ndarray]) -> None:
    """Write the picture.

    Args:
        path: The file.
        rows: By name, images in -1..1, each ``[N, H, W]``.
    """
    _, height, width = (first := next(iter(rows.values()))).shape
    high, wide = SCALE * height + GAP, SCALE * width + GAP
    sheet = Image.new("L", (NAME_WIDTH + wide * len(first), GAP + high * len(rows)), 255)
    draw = ImageDraw.Draw(sheet)
    for row, (name, images) in enumerate(rows.items()):
        draw.text((GAP, GAP + row * high + high // 2 - 8), name, fill=0)
        for column, image in enumerate(images):
            grey = np.clip(128.0 + 128.0 * np.asarray(image, np.float32), 0.0, 255.0).astype(np.uint8)
            large = Image.fromarray(grey).resize((SCALE * width, SCALE * height), Image.Resampling.NEAREST)
            sheet.paste(large, (NAME_WIDTH + column * wide, GAP + row * high))
    with replacing(path) as partial:
        sheet.save(partial, format="PNG")
