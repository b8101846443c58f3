"""A run that stops and resumes equals one that does not, bit for bit: pairs of settings, each met by some case."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch

from tests.game.ways import served
from tests.trainers.test_training import DRIVE, SMALL, numbers, quiet
from tm_torchrl.data.saving.checkpoint import Checkpoints
from tm_torchrl.tracks import load_track

SLOW = pytest.mark.slow
NAMED = {  # settings that exclude each other share a line
    "uniform": [],
    "prioritized": ["replay=prioritized", "replay.prioritized.beta=[linear,[0,0.4],[480,1.0]]"],
    "rows": [],
    "memmap": ["replay.storage=memmap"],
    "frames": ["env.pixels=true", "network=classic", "objective.network.image.pooling=global_average", *SMALL],
    "embeddings": ["replay.storage=embeddings", "objective.network.frozen=[vision]"],  # beside those of "frames"
    "plain": [],
    "mini_race": ["replay.mini_race={num_actions: 40, oversample_long_term_steps: 10}"],
    "held_out": ["replay.held_out_share=0.3"],
    "one": [],
    "blocks": ["env.action_block=5", "env.num_previous_actions=25"],
    "epsilon": ["exploration.epsilon=[linear,[0,0.9],[480,0.1]]", "exploration.mean_steps=20"],
    "noisy": [
        *("exploration=noisy", "objective.network.linear=noisy", "exploration.epsilon=0.2"),
        *("exploration.per_car=true", "exploration.every=6", "exploration.patience=4"),
    ],
    "boltzmann": ["exploration=boltzmann"],
    "kept": [],
    "soft_reset": [
        "soft_reset={_target_: tm_torchrl.trainers.hooks.soft_reset.SoftReset, every_frames: 120, "
        "extra_transitions: 64}",
    ],
    "stages": ["replay.capacity=[[0,200,64],[240,300,100]]", "replay.learning_starts=0"],
    "fqf": ["objective=fqf", "estimator=double"],
    "generated": ["env.track=null", "env.generated_tracks=3"],
    "laps": ["env.starts.lap=0.1", "env.starts.lost_time=0.1"],
    "single": [],
    "overlap": ["collector=multi_sync", "collector.num_workers=2", "collector.overlap=true", "collector.push_every=2"],
}
GROUPS = [
    ["uniform", "prioritized"],
    ["rows", "memmap", "frames"],
    ["plain", "mini_race", "held_out"],
    ["one", "blocks"],
    ["epsilon", "noisy", "boltzmann"],
    ["kept", "soft_reset", "stages"],
]
CASES = [
    ("uniform", "rows", "held_out", "blocks", "epsilon", "soft_reset"),
    ("prioritized", "rows", "mini_race", "one", "noisy", "stages"),
    ("prioritized", "frames", "held_out", "one", "epsilon", "kept"),
    ("uniform", "memmap", "mini_race", "blocks", "boltzmann", "stages"),
    ("prioritized", "memmap", "held_out", "blocks", "noisy", "soft_reset"),
    ("uniform", "frames", "embeddings", "plain", "one", "boltzmann", "soft_reset"),
    ("uniform", "rows", "mini_race", "one", "epsilon", "laps", "overlap"),
]
ALL = [case for case in itertools.product(*GROUPS) if case not in CASES]
FURTHER = [
    *(("prioritized", kind, "held_out", "blocks", "epsilon", "overlap") for kind in ("rows", "memmap", "frames")),
    ("uniform", "rows", "fqf", "generated", "soft_reset", "overlap"),
]
STEP, END = 40, 480  # frames of a batch and of the run; a row each 128, an evaluation each 256


def saved(run: Path) -> dict[str, Any]:
    """The last checkpoint without clocks, and without numbers that are only compared with each other."""
    state, _ = Checkpoints(run / "checkpoints").load()
    return {name: state[name] for name in ("learner", "policy", "memory", "algorithm", "episodes", "losses")}


def assert_equal(one: Any, other: Any, name: str) -> None:
    if isinstance(one, dict):
        assert one.keys() == other.keys(), name
        for key, value in one.items():
            assert_equal(value, other[key], f"{name}.{key}")
    elif isinstance(one, (list, tuple)):
        assert len(one) == len(other), name
        for i, (value, its) in enumerate(zip(one, other, strict=True)):
            assert_equal(value, its, f"{name}[{i}]")
    elif isinstance(one, torch.Tensor):
        assert torch.equal(torch.nan_to_num(one), torch.nan_to_num(other)), name
    else:
        assert one == other, name


def assert_resumes(settings: list[str], folder: Path, *, stops: tuple[int, ...]) -> None:
    short = ["env.limits.race_s=1.5", "env.evaluation_limits.race_s=0.5", "evaluation.num=1"]
    settings = [*DRIVE, f"collector.frames_per_batch={STEP}", *short, *settings]
    whole, parts = folder / "whole", folder / "parts"
    quiet([*settings, f"total_frames={END}"], whole)
    for number, frames in enumerate((*stops, END)):
        resume = [f"resume='{parts}'"] if number else []
        quiet([*settings, f"total_frames={frames}", *resume], parts)
    assert numbers(parts) == numbers(whole)
    assert_equal(saved(parts), saved(whole), "")


@pytest.mark.parametrize("case", CASES, ids="-".join)
def test_stop_and_resume_equals_an_uninterrupted_run(case: tuple[str, ...], tmp_path: Path) -> None:
    stops = (200,) if "frames" in case or "overlap" in case else (80, 280)
    assert_resumes([word for name in case for word in NAMED[name]], tmp_path, stops=stops)


@SLOW
@pytest.mark.parametrize("case", [*ALL, *FURTHER], ids="-".join)
def test_every_combination_resumes(case: tuple[str, ...], tmp_path: Path) -> None:
    assert_resumes([word for name in case for word in NAMED[name]], tmp_path, stops=(120, 360))


@SLOW
def test_the_emulator_resumes(tmp_path: Path) -> None:
    """The game is in the same place after an evaluation in it, and in a new session."""
    with served(load_track("oval"), countdown_ms=100) as server:
        game = ["env=game", "game=tmi2", f"game.first_address={server.port}", "game.has_evaluation_instance=false"]
        with mock.patch(f"{__name__}.DRIVE", [word for word in DRIVE if "num_envs" not in word]):
            assert_resumes(game, tmp_path, stops=(200,))
