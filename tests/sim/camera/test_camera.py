"""The camera's picture says where the road is."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.sim.worlds import plain
from tm_torchrl.sim import Simulator
from tm_torchrl.sim.camera.camera import Camera
from tm_torchrl.sim.camera.scenery import GREY, SKY_GREY, Paint
from tm_torchrl.tracks import Surface, load_track
from tm_torchrl.world.car_row import CAR_ROW

ROAD = plain(length=600, half_width=9.0)


def picture(
    track=ROAD,
    *,
    x: float = 0.0,
    z: float = 200.0,
    yaw: float = 0.0,
    pitch: float = 0.0,
    roll: float = 0.0,
    size: int = 64,
) -> np.ndarray:
    """The camera's image of a car at a place; pitch lifts the nose, roll lifts the left side."""
    row = torch.zeros(1, CAR_ROW.size)
    cy, sy, cp, sp, cr, sr = (f(a) for a in (yaw, pitch, roll) for f in (np.cos, np.sin))
    turn = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    lift = np.array([[1, 0, 0], [0, cp, sp], [0, -sp, cp]])
    lean = np.array([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]])
    row[0, CAR_ROW["rotation"]] = torch.from_numpy((turn @ lift @ lean).astype(np.float32).ravel())
    row[0, CAR_ROW["position"]] = torch.tensor([x, 0.48, z])
    camera = Camera([track], image_size=size)
    out = torch.zeros(1, 1, size, size, dtype=torch.uint8)
    return camera.render(row, torch.zeros(1, dtype=torch.int32), out)[0, 0].numpy().astype(int)


def horizon(image: np.ndarray, column: int = 32) -> int:
    return int(np.argmax(image[:, column] != SKY_GREY))


def test_a_straight_road_is_symmetric():
    image = picture()
    difference = np.abs(image - image[:, ::-1])
    assert np.mean(difference > 40) < 0.03


def test_sky_above_road_below():
    image = picture()
    assert (image[:8] == SKY_GREY).all()
    assert abs(image[60, 20] - GREY[Paint.ASPHALT]) < 12
    assert horizon(image) == horizon(image, 5)


def test_wall_grass_line_and_road_differ():
    rows = picture(x=5.0)[20:40]
    seen = [GREY[paint] for paint in (Paint.WALL, Paint.GRASS, Paint.LINE, Paint.ASPHALT)]
    for shade in seen:
        assert np.abs(rows - shade).min() < 30
    assert min(abs(a - b) for i, a in enumerate(seen) for b in seen[:i]) > 40


def test_turning_left_moves_the_road_to_the_right():
    def middle(image: np.ndarray) -> float:
        bright = np.nonzero(image[30] > 200)[0]
        return float(bright.mean()) if len(bright) else np.nan

    assert middle(picture(yaw=0.15)) > middle(picture()) + 3
    assert middle(picture(yaw=-0.15)) < middle(picture()) - 3


def test_beside_the_road_the_view_shifts():
    left, right = picture(x=6.0), picture(x=-6.0)
    assert np.abs(left - right[:, ::-1]).mean() < 8, "mirror images"
    assert np.abs(left - right).mean() > 10


def test_pitch_shifts_and_roll_shears_the_horizon():
    level = horizon(picture())
    assert horizon(picture(pitch=0.15)) > level + 3, "nose up: more sky"
    assert horizon(picture(pitch=-0.15)) < level - 3
    leaning = picture(roll=0.2)
    assert abs(horizon(leaning, 4) - horizon(leaning, 59)) > 5
    assert (horizon(leaning, 4) - horizon(leaning, 59)) * (
        horizon(picture(roll=-0.2), 4) - horizon(picture(roll=-0.2), 59)
    ) < 0


def test_surfaces_differ():
    shades = []
    for surface in (Surface.ASPHALT, Surface.DIRT, Surface.TURBO, Surface.TURBO2):
        shades.append(int(np.median(picture(plain(length=400, half_width=9.0, surface=surface))[52:])))
    assert min(abs(a - b) for i, a in enumerate(shades) for b in shades[:i]) > 25


def test_a_hill_ahead_is_seen():
    z = np.arange(600.0)
    hill = plain(length=600, half_width=9.0, height=14.0 / (1.0 + np.exp(-(z - 260.0) / 6.0)))
    assert horizon(picture(hill)) < horizon(picture())


@pytest.mark.parametrize("size", [16, 32, 84, 256])
def test_sizes_show_the_same(size: int):
    image, reference = picture(size=size), picture(size=64)
    assert image.shape == (size, size)
    assert abs(horizon(image, size // 2) / size - horizon(reference) / 64) < 0.05


@pytest.mark.parametrize("size", [0, 15, 63, 258, 64.0, "64"])
def test_bad_sizes(size: object):
    with pytest.raises((ValueError, TypeError), match="image_size"):
        Camera([ROAD], image_size=size)


def test_absurd_positions_read_inside_the_picture():
    world = Simulator(load_track("oval"), num_cars=6, image_size=32)
    state = world.save()
    where = CAR_ROW["position"]
    state[0, where] = float("nan")
    state[1, where] = 1e30
    state[2, where] = -1e30
    state[3, CAR_ROW["rotation"]] = float("nan")
    state[4, CAR_ROW["rotation"]] = 0.0
    world.restore(state)
    assert world.frames().shape == (6, 1, 32, 32)
    fresh = Simulator(load_track("oval"), num_cars=6, image_size=32)
    assert torch.equal(world.frames()[5], fresh.frames()[5]), "others are not touched"


def test_a_world_without_camera_says_so():
    with pytest.raises(RuntimeError, match="image_size=64"):
        Simulator(ROAD, num_cars=1).frames()
