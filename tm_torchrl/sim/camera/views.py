"""Pictures for people: the track from above, and the car from behind in colour."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike
from PIL import Image, ImageDraw

from tm_torchrl.sim.camera.scenery import COLOUR, Scenery, paint_track
from tm_torchrl.tracks import Track
from tm_torchrl.world.car_row import CAR_ROW

BACK_M, UP_M = 9.5, 3.6
FOCAL = 0.80  # of the picture's width
HORIZON = 0.36  # of its height, for a level car
NEAREST_M, FURTHEST_M, GROWTH = 1.5, 420.0, 1.012
SKY_TOP, SKY_LOW = np.array([92.0, 150.0, 214.0]), np.array([206.0, 224.0, 238.0])
CAR_SIZE = np.array([1.0, 0.55, 2.1])  # half extents: left, up, forward
BODY, CABIN, TYRE = (214, 44, 52), (34, 40, 54), (28, 28, 30)
WHEELS = [([side, -0.25, along], [0.22, 0.33, 0.36], TYRE) for along in (1.45, -1.30) for side in (0.9, -0.9)]
BOXES = [  # centre, half extents, colour
    *WHEELS,
    ([0.0, 0.0, 0.0], (CAR_SIZE * [0.85, 0.55, 1.0]).tolist(), BODY),
    ([0.0, 0.42, -0.25], [0.6, 0.26, 0.8], CABIN),
    ([0.0, 0.55, -1.9], [0.95, 0.06, 0.25], BODY),
]
RING = [(-1, -1), (-1, 1), (1, 1), (1, -1)]
FACES = [(box, axis, sign) for box in BOXES for axis in range(3) for sign in (-1, 1)]
_AXES, _SIGNS = np.array([axis for _, axis, _ in FACES]), np.array([sign for *_, sign in FACES])
_COLOURS = np.array([colour for (*_, colour), _, _ in FACES], np.float64)
_CORNERS = np.array(  # of each face, from the car
    [
        [np.add(centre, np.multiply(half, [*pair[:axis], sign, *pair[axis:]])) for pair in RING]
        for (centre, half, _), axis, sign in FACES
    ]
)


@lru_cache(maxsize=32)
def _colour_scenery(track: Track) -> Scenery:
    return paint_track(track, palette=COLOUR)


def top_view(track: Track, *, pixel_m: float = 1.0) -> np.ndarray:
    """The track from above, uint8 ``[H, W, 3]``: x to the right, z downwards, so that the map is not mirrored.

    Args:
        track: The track to show.
        pixel_m: Metres per pixel, at least the scenery's cell size.
    """
    scenery = _colour_scenery(track)
    size = (
        round(scenery.tone.shape[1] * scenery.cell_m / pixel_m),
        round(scenery.tone.shape[0] * scenery.cell_m / pixel_m),
    )
    picture = Image.fromarray(scenery.tone.astype(np.uint8))
    return np.asarray(picture.resize(size, Image.Resampling.BOX))


@dataclass(frozen=True)
class _View:
    """A level camera: ``ahead`` and ``left`` are unit vectors on the map, ``focal`` and ``horizon`` are pixels."""

    eye: np.ndarray
    ahead: np.ndarray
    left: np.ndarray
    focal: float
    horizon: float


def chase_view(track: Track, row: ArrayLike, *, width: int = 480, height: int = 270) -> np.ndarray:
    """The car and the road from behind it, uint8 ``[height, width, 3]``.

    Args:
        track: The track that the car is on.
        row: The car row.
        width: Width of the picture in pixels.
        height: Height of the picture in pixels.
    """
    values = np.asarray(row, np.float64)
    position = values[CAR_ROW["position"]]
    rotation = values[CAR_ROW["rotation"]].reshape(3, 3)
    ahead = rotation[(0, 2), 2]
    ahead = ahead / max(float(np.sqrt((ahead**2).sum())), 1e-6)
    left = np.array([ahead[1], -ahead[0]])
    eye = np.array([position[0] - BACK_M * ahead[0], position[1] + UP_M, position[2] - BACK_M * ahead[1]])
    scenery = _colour_scenery(track)
    ground = _lookup(scenery, scenery.height, eye[(0, 2),])
    eye[1] = max(eye[1], ground + 1.5)
    focal, horizon = FOCAL * width, HORIZON * height

    distance = NEAREST_M * GROWTH ** np.arange(int(np.log(FURTHEST_M / NEAREST_M) / np.log(GROWTH)))
    across = (0.5 * width - 0.5 - np.arange(width)) / focal
    x = eye[0] + distance[:, None] * (ahead[0] + across * left[0])
    z = eye[2] + distance[:, None] * (ahead[1] + across * left[1])
    j, i = _cells(scenery, x, z)
    line = horizon + focal * (eye[1] - scenery.height[j, i]) / distance[:, None]  # picture row of each sample
    covered = np.minimum.accumulate(line, axis=0)
    # The first sample that reaches up to a picture row: as many samples as stay below the row come before it.
    reached = np.clip(np.ceil(covered - 0.5), 0, height).astype(np.int64)
    counts = np.bincount((reached * width + np.arange(width)).ravel(), minlength=(height + 1) * width)
    first = len(distance) - counts.reshape(height + 1, width)[:height].cumsum(axis=0)
    rows, columns = np.nonzero(first < len(distance))
    index = first[rows, columns]
    tone = scenery.tone[j[index, columns], i[index, columns]]
    haze = (0.75 * np.minimum(distance / FURTHEST_M, 1.0) ** 1.5)[index, None]
    picture = _sky(width, height, horizon)
    picture[rows, columns] = tone + haze * (SKY_LOW - tone)
    image = Image.fromarray(picture.astype(np.uint8))
    _draw_car(image, position, rotation, _View(eye, ahead, left, focal, horizon))
    return np.asarray(image)


def _cells(scenery: Scenery, x: np.ndarray, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    depth, width = scenery.height.shape
    i = np.clip((x - scenery.origin[0]) / scenery.cell_m, 0, width - 1).astype(int)
    j = np.clip((z - scenery.origin[1]) / scenery.cell_m, 0, depth - 1).astype(int)
    return j, i


def _lookup(scenery: Scenery, field: np.ndarray, at: np.ndarray) -> float:
    j, i = _cells(scenery, at[:1], at[1:])
    return float(field[j, i][0])


def _sky(width: int, height: int, horizon: float) -> np.ndarray:
    share = np.clip(np.arange(height) / max(horizon, 1.0), 0.0, 1.0)[:, None]
    column = SKY_TOP + share * (SKY_LOW - SKY_TOP)
    return np.repeat(column[:, None, :], width, axis=1)


def _draw_car(image: Image.Image, position: np.ndarray, rotation: np.ndarray, view: _View) -> None:
    """Draw boxes for wheels, body and cabin, far faces first."""
    draw = ImageDraw.Draw(image)
    corners = position + _CORNERS @ rotation.T  # [faces, 4, 3]
    offsets = corners - view.eye
    depth = np.maximum(offsets[..., (0, 2)] @ view.ahead, 0.3)
    across = 0.5 * image.width - view.focal * (offsets[..., (0, 2)] @ view.left) / depth
    down = view.horizon - view.focal * offsets[..., 1] / depth
    points = np.stack([across, down], -1).reshape(len(corners), -1).tolist()
    light = 0.75 + 0.25 * _SIGNS * rotation[1, _AXES] - 0.12 * (_AXES == 0)
    shades = np.minimum(255.0, _COLOURS * light[:, None]).astype(int).tolist()
    furthest_first = np.argsort(-(offsets.mean(1) ** 2).sum(-1), kind="stable")
    for face in furthest_first.tolist():
        draw.polygon(points[face], fill=tuple(shades[face]))
