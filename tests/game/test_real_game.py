"""Tests in the game itself: ``pytest -m game``, with a map open in the game.

``TM_PORT`` is the port (8478), ``TM_TRACK`` the map's reference line (a .npz file, or a built-in name for an emulator).
The game is compared with itself, not with the simulator.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from tm_torchrl.envs import TrackManiaEnv
from tm_torchrl.game import GameWorld, TMInterface2Client
from tm_torchrl.tracks import load_track
from tm_torchrl.world.car_row import CAR_ROW
from tm_torchrl.world.tracker import Limits

pytestmark = pytest.mark.game
ACTIONS = [0] * 60 + [1] * 10 + [0] * 20 + [2] * 10


@pytest.fixture
def env() -> Iterator[TrackManiaEnv]:
    if "TM_TRACK" not in os.environ:
        pytest.skip("TM_TRACK is not set: the map's reference line is needed")
    client = TMInterface2Client(port=int(os.environ.get("TM_PORT", "8478")))
    world = GameWorld(client, load_track(os.environ["TM_TRACK"]), image_size=64)
    yield TrackManiaEnv(1, world=world, pixels=True, limits=Limits(no_progress_s=60.0, overturned_s=60.0))
    world.close()


def drive(env: TrackManiaEnv) -> tuple[torch.Tensor, torch.Tensor]:
    """All rows and observations of a drive from the start."""
    env.race.reset()
    rows, observations = [env.world.rows().clone()], [env.race.observation]
    for action in ACTIONS:
        env.race.step(torch.tensor([action]))
        rows.append(env.world.rows().clone())
        observations.append(env.race.observation)
    return torch.cat(rows), torch.cat(observations)


def test_the_clock_runs_and_the_car_drives(env: TrackManiaEnv) -> None:
    rows, _ = drive(env)
    assert rows[:, CAR_ROW["race_time_ms"]].view(-1).tolist() == [50.0 * i for i in range(len(ACTIONS) + 1)]
    speed = rows[:, CAR_ROW["velocity"]].norm(dim=1)
    assert speed[0] < 1.0 and speed[60] > 10.0
    rotation = rows[:, CAR_ROW["rotation"]].view(-1, 3, 3).numpy()
    np.testing.assert_allclose(
        rotation @ rotation.transpose(0, 2, 1), np.broadcast_to(np.eye(3), rotation.shape), atol=1e-4
    )
    forward = torch.einsum("bij,bi->bj", rows[:, CAR_ROW["rotation"]].view(-1, 3, 3), rows[:, CAR_ROW["velocity"]])
    assert forward[40, 2] > 0.9 * speed[40], "z is forward in the car's frame"
    assert set(rows[:, CAR_ROW["input_gas"]].view(-1).tolist()[1:]) == {1.0}


def test_the_same_keys_give_the_same_bits(env: TrackManiaEnv) -> None:
    first, second = drive(env), drive(env)
    assert torch.equal(first[0], second[0]) and torch.equal(first[1], second[1])


def test_a_restored_state_continues_identically(env: TrackManiaEnv) -> None:
    drive(env)
    saved = env.save()
    ends = []
    for _ in range(2):
        env.restore(saved)
        for action in ACTIONS[:40]:
            env.race.step(torch.tensor([action]))
        ends.append(env.world.rows().clone())
    assert torch.equal(*ends)


def test_pictures_come_and_change_nothing(env: TrackManiaEnv) -> None:
    without = drive(env)[0]
    env.race.reset()
    pictures = []
    for action in ACTIONS:
        env.race.step(torch.tensor([action]))
        pictures.append(env.world.frames().clone())
    assert torch.equal(env.world.rows()[0], without[-1])
    assert len({picture.numpy().tobytes() for picture in pictures}) > len(ACTIONS) // 2
    assert min(picture.float().std().item() for picture in pictures) > 3.0, "pictures without contrast: a black window?"
