"""One contract for all ways to drive: the same inputs give the same states, floats, rewards and pictures, bit for bit.

The simulator driven directly is what all others are compared with.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torchrl.envs.utils import check_env_specs

from tests.game.drives import author, drive, require_equal_drives
from tests.game.ways import WAYS
from tm_torchrl.world.car_row import CAR_ROW
from tm_torchrl.world.tracker import EndCause, Limits

SHORT = Limits(no_progress_s=0.4)
OTHERS = [name for name in WAYS if name != "simulator"]
WITH_FRAMES = [name for name in OTHERS if WAYS[name].has_frames]


@pytest.mark.parametrize("way", OTHERS)
def test_three_laps_to_the_finish(way: str) -> None:
    actions = author("ring")
    with WAYS[way].open("ring") as env, WAYS["simulator"].open("ring") as yardstick:
        steps = require_equal_drives(env, yardstick, actions)
    last = steps[-2]  # before the reset
    assert last["info.end_cause"].item() == EndCause.FINISHED
    assert last["info.race_time_ms"].item() % 50 != 0, "the finish lies between two steps"
    times = last["info.checkpoint_times_ms"][0].tolist()
    assert times == sorted(set(times)) and min(times) > 0


@pytest.mark.parametrize("way", OTHERS)
def test_random_driving_through_several_episodes(way: str) -> None:
    generator = np.random.default_rng(0)
    actions = np.repeat(generator.choice([0, 0, 1, 2, 6, 6, 9, 10], 30), 5).tolist()
    with WAYS[way].open("hillside", limits=SHORT) as env, WAYS["simulator"].open("hillside", limits=SHORT) as yardstick:
        steps = require_equal_drives(env, yardstick, actions)
    assert sum(step["done"].item() for step in steps if "done" in step.keys()) >= 1  # noqa: SIM118


@pytest.mark.parametrize(("way", "block"), [("emulator1", 1), ("emulator2", 1), ("emulator2", 5)])
def test_full_gas_into_the_wall(way: str, block: int) -> None:
    options, actions = {"action_block": block}, [0 if block == 1 else [0] * block] * 160
    with WAYS[way].open("hillside", **options) as env, WAYS["simulator"].open("hillside", **options) as yardstick:
        require_equal_drives(env, yardstick, actions)
        rows = torch.cat([row for _, row in drive(yardstick, actions)])
    assert rows[:, CAR_ROW.start("has_lateral_contact")].any(), "it touched no wall: the test shows nothing"


@pytest.mark.parametrize("way", OTHERS)
def test_blocks_of_five_actions(way: str) -> None:
    generator = np.random.default_rng(3)
    blocks = generator.choice([0, 0, 0, 1, 2, 9], (60, 5)).tolist()
    options = {"action_block": 5, "num_previous_actions": 25, "limits": SHORT}
    with WAYS[way].open("oval", **options) as env, WAYS["simulator"].open("oval", **options) as yardstick:
        require_equal_drives(env, yardstick, blocks)


@pytest.mark.parametrize("way", WITH_FRAMES)
@pytest.mark.parametrize("image_size", [64, 32])
def test_pictures(way: str, image_size: int) -> None:
    options = {"pixels": True, "image_size": image_size, "limits": SHORT}
    actions = [0] * 30 + [4] * 40 + [0] * 10  # rolls out, and begins anew
    with WAYS[way].open("oval", **options) as env, WAYS["simulator"].open("oval", **options) as yardstick:
        steps = require_equal_drives(env, yardstick, actions)
    assert len({step["pixels"].numpy().tobytes() for step in steps}) > len(steps) // 2


@pytest.mark.parametrize("way", WAYS)
def test_a_restored_state_continues_identically(way: str) -> None:
    actions = author("oval")
    with WAYS[way].open("oval") as env:
        list(drive(env, actions[:60]))
        saved = env.save()
        for action in actions[60:120]:
            env.race.step(torch.tensor([action]))
        wanted = env.world.rows().clone(), env.race.observation.clone()
        env.race.reset()
        with WAYS[way].open("oval") as other:  # another game of the same map
            for again in (env, other):
                again.restore(saved)
                for action in actions[60:120]:
                    again.race.step(torch.tensor([action]))
                assert torch.equal(again.world.rows(), wanted[0])
                assert torch.equal(again.race.observation, wanted[1])


@pytest.mark.parametrize("way", ["simulator", "emulator2"])  # the same world is behind both emulators
def test_a_finish_survives_saving(way: str) -> None:
    with WAYS[way].open("oval") as env:
        for action in author("oval"):
            outcome = env.race.step(torch.tensor([action]))
        assert outcome.terminated.item()
        row = env.world.rows().clone()
        saved = env.save()
        env.race.reset()
        env.restore(saved)
        assert torch.equal(env.world.rows(), row)


@pytest.mark.parametrize("way", WAYS)
def test_a_masked_car_stays_where_it_is(way: str) -> None:
    with WAYS[way].open("oval") as env:
        list(drive(env, [0] * 5))
        before = env.world.rows().clone()
        env.world.reset(torch.tensor([False]))
        assert torch.equal(env.world.rows(), before)
        env.world.reset(torch.tensor([True]))
        assert env.world.rows()[0, CAR_ROW["race_time_ms"]].item() == 0.0


@pytest.mark.parametrize("way", WAYS)
def test_rows_and_tracks_stay_at_one_place_in_memory(way: str) -> None:
    with WAYS[way].open("oval") as env:
        places = env.world.rows().data_ptr(), env.world.track_index.data_ptr()
        list(drive(env, [0, 0, 1]))
        env.world.restore(env.world.save())
        assert places == (env.world.rows().data_ptr(), env.world.track_index.data_ptr())


@pytest.mark.parametrize("way", WAYS)
def test_torchrl_accepts_it(way: str) -> None:
    with WAYS[way].open("oval", pixels=WAYS[way].has_frames) as env:
        check_env_specs(env, seed=0)


@pytest.mark.parametrize("way", WAYS)
def test_invalid_calls_change_nothing(way: str) -> None:
    with WAYS[way].open("oval") as env:
        list(drive(env, [0] * 3))
        before = env.world.rows().clone()
        with pytest.raises(ValueError, match="actions has"):
            env.world.step(torch.tensor([[0, 0, 0]]))
        with pytest.raises(ValueError, match="blob"):
            env.world.restore(torch.zeros(3, 3))
        assert torch.equal(env.world.rows(), before)
        with pytest.raises(RuntimeError, match="image_size=64"):
            env.world.frames()
