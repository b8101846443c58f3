"""Frames of a driving video: chase view, map, speed, gear and keys."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib import font_manager
from PIL import Image, ImageDraw, ImageFont

from tm_torchrl.sim.camera.views import chase_view, top_view
from tm_torchrl.tracks import Track
from tm_torchrl.world.car_row import CAR_ROW

HEIGHT, CHASE_WIDTH, MAP_WIDTH = 360, 640, 300
INK, DIM, LIT = (240, 244, 248), (70, 80, 92), (255, 209, 63)
MAP_GROUND = (40, 68, 38)


class Dashboard:
    """Draws one frame for each step of a drive on a track."""

    def __init__(self, track: Track) -> None:
        self.track = track
        picture = top_view(track, pixel_m=1.0)
        self._scale = min(MAP_WIDTH / picture.shape[1], HEIGHT / picture.shape[0])
        size = (round(picture.shape[1] * self._scale), round(picture.shape[0] * self._scale))
        self._corner = ((MAP_WIDTH - size[0]) // 2, (HEIGHT - size[1]) // 2)
        self._map = Image.new("RGB", (MAP_WIDTH, HEIGHT), MAP_GROUND)
        self._map.paste(Image.fromarray(picture).resize(size, Image.Resampling.LANCZOS), self._corner)
        self._drawn = 0
        font = font_manager.findfont("DejaVu Sans")  # a font that matplotlib contains
        self._big, self._small = ImageFont.truetype(font, 30), ImageFont.truetype(font, 13)

    def _on_map(self, row: np.ndarray) -> tuple[float, float]:
        x, _, z = row[CAR_ROW["position"]]
        x0, z0 = self.track.raster.origin
        return self._corner[0] + (x - x0) * self._scale, self._corner[1] + (z - z0) * self._scale

    def frame(self, rows: Sequence[np.ndarray]) -> np.ndarray:
        """The frame after the last of ``rows``, uint8 ``[H, W, 3]``; each call continues the rows of the last."""
        row = rows[-1]
        trail = ImageDraw.Draw(self._map)
        for before, after in zip(rows[max(self._drawn - 1, 0) :], rows[max(self._drawn, 1) :], strict=False):
            trail.line([self._on_map(before), self._on_map(after)], fill=(255, 240, 150), width=2)
        self._drawn = len(rows)
        image = Image.new("RGB", (CHASE_WIDTH + MAP_WIDTH, HEIGHT))
        image.paste(Image.fromarray(chase_view(self.track, row, width=CHASE_WIDTH, height=HEIGHT)), (0, 0))
        image.paste(self._map, (CHASE_WIDTH, 0))
        draw = ImageDraw.Draw(image, "RGBA")
        x, z = self._on_map(row)
        draw.ellipse(
            [CHASE_WIDTH + x - 5, z - 5, CHASE_WIDTH + x + 5, z + 5], fill=(230, 50, 50), outline=(255, 255, 255)
        )
        self._draw_readings(draw, row)
        return np.asarray(image)

    def _draw_readings(self, draw: ImageDraw.ImageDraw, row: np.ndarray) -> None:
        speed = 3.6 * float(np.linalg.norm(row[CAR_ROW["velocity"]]))
        time_s = row[CAR_ROW.start("race_time_ms")] / 1000.0
        if row[CAR_ROW.start("is_finished")]:
            time_s = row[CAR_ROW.start("last_checkpoint_time_ms")] / 1000.0
        draw.rectangle([10, 10, 214, 88], fill=(16, 22, 30, 170))
        draw.text((20, 14), f"{speed:3.0f}", font=self._big, fill=INK)
        draw.text((84, 27), "km/h", font=self._small, fill=INK)
        draw.text((128, 14), f"{row[CAR_ROW.start('gear')]:.0f}", font=self._big, fill=INK)
        draw.text((152, 27), "gear", font=self._small, fill=INK)
        draw.text((20, 58), f"{time_s:6.2f} s", font=self._small, fill=INK)
        rpm = min(float(row[CAR_ROW.start("engine_rpm")]) / 10000.0, 1.0)
        draw.rectangle([96, 62, 200, 74], fill=DIM)
        draw.rectangle([96, 62, 96 + round(104 * rpm), 74], fill=LIT if rpm < 0.93 else (230, 66, 56))
        gas, brake = row[CAR_ROW.start("input_gas")], row[CAR_ROW.start("input_brake")]
        steer = row[CAR_ROW.start("input_steer")]
        keys = (("◀", 20, steer < 0), ("▲", 56, gas > 0), ("▼", 92, brake > 0), ("▶", 128, steer > 0))
        for letter, x, is_down in keys:
            draw.rounded_rectangle([x, 96, x + 30, 122], 5, fill=(*(LIT if is_down else DIM), 220))
            draw.text((x + 9, 101), letter, font=self._small, fill=(20, 24, 30) if is_down else INK)
