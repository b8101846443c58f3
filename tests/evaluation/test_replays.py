"""Replays: a kept lap, and its script, give the same rows to the last bit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.conftest import Script
from tests.game.ways import served
from tm_torchrl.evaluation import drive_laps, evaluation_env
from tm_torchrl.evaluation.replays import replay
from tm_torchrl.record.run_folder import save_lap, save_script
from tm_torchrl.sim import Simulator
from tm_torchrl.sim.state import STATE
from tm_torchrl.tracks import load_track
from tm_torchrl.tracks.medals import author_actions, medals_of
from tm_torchrl.world.input_scripts import actions_of, parse_script, script_of
from tm_torchrl.world.tracker import Limits


@pytest.mark.parametrize("action_block", [1, 5])
def test_a_lap_from_a_perturbed_start_is_driven_again(action_block: int) -> None:
    env = evaluation_env("oval", num_cars=3, seed=4, action_block=action_block, limits=Limits(race_s=3.0))
    generator = torch.Generator().manual_seed(1)
    shape = (3,) if action_block == 1 else (3, action_block)

    def policy(observation: torch.Tensor) -> torch.Tensor:
        return torch.randint(3, shape, generator=generator)  # gas, left or right

    laps = drive_laps(env, policy, num_laps=3)
    world = Simulator(load_track("oval"), num_cars=1)
    again = replay(world, laps.actions, start=laps.start)
    assert np.array_equal(again.rows, laps.rows)
    assert again.time_s is None
    actions = actions_of(parse_script(script_of(np.concatenate([laps.actions, np.zeros_like(laps.actions[:1])]))))
    assert np.array_equal(replay(world, actions[:-1], start=laps.start).rows, laps.rows)
    assert not np.array_equal(replay(world, laps.actions).rows, laps.rows), "from the line it is another drive"


@pytest.mark.parametrize(
    ("actions", "start", "message"),
    [
        (np.array([-1, 99, 5]), None, "actions: int64"),
        (np.array([0, 12]), None, "actions: int64"),
        (np.array([0.5, np.nan]), None, "actions: float64"),
        (np.array(["0", "1"]), None, "actions: <U1"),
        (np.zeros((1, 1, 5), np.int64), None, r"actions: int64 \[1, 1, 5\]"),
        (np.zeros(360_001, np.int64), None, "actions: 360,001"),
        (np.zeros(2, np.int64), np.array(["a"]), "start: <U1"),
        (np.zeros(2, np.int64), np.full(80, np.nan, np.float32), "start: float32"),
    ],
)
def test_laps_that_nobody_drove(actions: np.ndarray, start: np.ndarray | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replay(Simulator(load_track("oval"), num_cars=1), actions, start=start)


@pytest.mark.parametrize("field", ["checkpoint_count", "is_finished", "last_checkpoint_time_ms"])
def test_a_lap_does_not_begin_in_the_middle(field: str) -> None:
    world = Simulator(load_track("oval"), num_cars=1)
    world.reset()
    start = world.save()[0].numpy().copy()
    start[STATE.start(field)] = 1.0
    with pytest.raises(ValueError, match="start:"):
        replay(world, np.zeros(2, np.int64), start=start)


def test_a_finish_is_timed() -> None:
    track = load_track("oval")
    medals, actions = medals_of("oval"), author_actions("oval")
    assert replay(Simulator(track, num_cars=1), actions).time_s == medals.author_s
    assert replay(Simulator(track, num_cars=1), np.zeros(4, np.int64)).time_s is None
    with pytest.raises(ValueError, match="world has 2 cars"):
        replay(Simulator(track, num_cars=2), np.zeros(4, np.int64))


def test_the_author_s_lap_by_the_script_in_the_simulator_and_in_a_running_game(tmp_path: Path, script: Script) -> None:
    actions, time_s = author_actions("oval"), medals_of("oval").author_s
    keys, taken = script_of(actions), actions.astype(np.int64)
    save_lap(tmp_path, "oval", time_s, rows=np.zeros(1), actions=taken)
    path = save_script(tmp_path, "oval", time_s, keys)
    text = f"oval: finished in {time_s:.2f} s"
    done = script("scripts/replay_inputs.py", tmp_path)
    assert done.stdout.strip() == f"{text} (kept as {time_s:.2f} s)", done.stderr
    with served(load_track("oval")) as server:
        words = [path, "--track", "oval", "--port", server.port]
        assert script("scripts/replay_inputs.py", *words).stdout.strip() == text
