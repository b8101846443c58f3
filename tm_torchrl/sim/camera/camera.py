"""The chase camera: small greyscale pictures of many cars at once, as input of a network."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import warp as wp

from tm_torchrl.sim.camera.kernel import HEIGHT_STEP_M, Lens, Panorama, render
from tm_torchrl.sim.camera.scenery import CELL_M, HAZE_GREY, SKY_GREY, Scenery, paint_track
from tm_torchrl.tracks import Track
from tm_torchrl.world.car_row import CAR_ROW
from tm_torchrl.world.warp_arrays import warp_device

NUM_LEVELS = 4
NEAR_M = 4.0
FAR_M = 220.0
FOCAL_SHARE = 44.0 / 64.0  # of the picture's width
HORIZON_SHARE = 14.0 / 64.0  # from the top
MIN_SIZE, MAX_SIZE = 16, 256


class Camera:
    """Renders cars on tracks from 9 m behind and 5 m above.

    Args:
        tracks: The tracks; ``track_index`` refers to them.
        image_size: Height and width in pixels, an even number from 16 to 256.
        device: ``"cpu"`` or a CUDA device.
    """

    def __init__(self, tracks: Sequence[Track], *, image_size: int = 64, device: torch.device | str = "cpu") -> None:
        if not isinstance(image_size, int) or not MIN_SIZE <= image_size <= MAX_SIZE or image_size % 2:
            raise ValueError(f"image_size={image_size!r}: must be an even number from {MIN_SIZE} to {MAX_SIZE}")
        self.image_size = image_size
        self.device = torch.device(device)
        self._warp_device = warp_device(self.device)
        self._panorama = build_panorama([paint_track(track) for track in tracks], device=self._warp_device)
        self._lens = build_lens(self.image_size, device=self._warp_device)

    def render(self, rows: torch.Tensor, track_index: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
        """Draw ``rows`` float32 ``[B, CAR_ROW.size]`` into ``out`` uint8 ``[B, 1, H, W]`` and return it."""
        count = rows.shape[0]
        size = self.image_size
        if out.shape != (count, 1, size, size) or out.dtype != torch.uint8 or not out.is_contiguous():
            raise ValueError(
                f"out is {out.dtype} {list(out.shape)}: must be a contiguous uint8 tensor [{count}, 1, {size}, {size}]"
            )
        wp.launch(
            render,
            dim=(count, size),
            inputs=[
                self._panorama,
                self._lens,
                wp.from_torch(rows),
                CAR_ROW.start("position"),
                CAR_ROW.start("rotation"),
                wp.from_torch(track_index),
            ],
            outputs=[wp.from_torch(out.view(-1))],
            device=self._warp_device,
        )
        return out


def build_panorama(sceneries: Sequence[Scenery], *, device: str) -> Panorama:
    """Pack painted tracks at all levels of detail into one array on a device."""
    cells, offsets, widths, lowest = [], [], [], []
    start = 0
    for scenery in sceneries:
        low = float(scenery.height.min())
        lowest.append(low)
        for height, tone in _levels(scenery):
            word = np.rint((height - low) / HEIGHT_STEP_M).astype(np.uint32) << 8 | np.rint(tone).astype(np.uint32)
            cells.append(word.reshape(-1))
            offsets.append(start)
            widths.append(word.shape[1])
            start += word.size
    extents = [
        (widths[k * NUM_LEVELS] * CELL_M, cells[k * NUM_LEVELS].size / widths[k * NUM_LEVELS] * CELL_M)
        for k in range(len(sceneries))
    ]
    panorama = Panorama()
    panorama.cells = wp.array(np.concatenate(cells), dtype=wp.uint32, device=device)
    panorama.offset = wp.array(offsets, dtype=wp.int32, device=device)
    panorama.width = wp.array(widths, dtype=wp.int32, device=device)
    panorama.origin = wp.array(np.array([s.origin for s in sceneries], np.float32), dtype=wp.vec2, device=device)
    panorama.extent = wp.array(np.array(extents, np.float32), dtype=wp.vec2, device=device)
    panorama.lowest = wp.array(lowest, dtype=wp.float32, device=device)
    panorama.highest = wp.array([float(s.height.max()) for s in sceneries], dtype=wp.float32, device=device)
    return panorama


def _levels(scenery: Scenery) -> list[tuple[np.ndarray, np.ndarray]]:
    """Height and tone at each level of detail, each with half the cells of the one before."""
    multiple = 2 ** (NUM_LEVELS - 1)
    depth, width = (n - n % multiple for n in scenery.height.shape)
    height, tone = scenery.height[:depth, :width], scenery.tone[:depth, :width, 0]
    levels = [(height, tone)]
    for _ in range(NUM_LEVELS - 1):
        height, tone = _halve(height), _halve(tone)
        levels.append((height, tone))
    return levels


def _halve(field: np.ndarray) -> np.ndarray:
    """Means of 2 x 2 cells."""
    return (field[0::2, 0::2] + field[1::2, 0::2] + field[0::2, 1::2] + field[1::2, 1::2]) * np.float32(0.25)


def build_lens(image_size: int, *, device: str) -> Lens:
    """Distances of the samples: near ones one pixel row apart on flat road, far ones in growing steps."""
    focal = FOCAL_SHARE * image_size
    distances = [NEAR_M]
    while distances[-1] < FAR_M:
        t = distances[-1]
        distances.append(t + min(t * t / (focal * 5.0), 0.085 * t))
    t = np.array(distances)
    pixel_m = t / focal
    level = np.clip(np.floor(np.log2(pixel_m * 1.5 / CELL_M)), 0, NUM_LEVELS - 1).astype(int)
    lens = Lens()
    lens.focal = focal
    lens.horizon = HORIZON_SHARE * image_size
    lens.size = image_size
    lens.num_levels = NUM_LEVELS
    lens.level_end = wp.array(
        np.searchsorted(level, np.arange(NUM_LEVELS), side="right"), dtype=wp.int32, device=device
    )
    lens.inverse_cell = wp.array(1.0 / (CELL_M * 2.0 ** np.arange(NUM_LEVELS)), dtype=wp.float32, device=device)
    lens.samples = wp.array(np.stack([t, 1.0 / t], -1).astype(np.float32), dtype=wp.vec2, device=device)
    lens.sky = SKY_GREY
    lens.haze = HAZE_GREY
    return lens
