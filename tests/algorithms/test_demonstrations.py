"""Recorded laps in the replay: a run has them from its start, resumes with them, and refuses those that do not fit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.trainers.test_training import SMALL, numbers, quiet, weights
from tm_torchrl.algorithms import make_algorithm
from tm_torchrl.algorithms.author_laps import author_steps
from tm_torchrl.algorithms.recorded_laps import recorded_steps
from tm_torchrl.data import DemonstrationFolder, DemonstrationWriter
from tm_torchrl.data.demonstrations.description import Description
from tm_torchrl.envs import TrackManiaEnv
from tm_torchrl.evaluation.recording import STARTS, Disturbances, record_attempts
from tm_torchrl.settings import ConfigError, compose_settings
from tm_torchrl.tasks.task import make_task
from tm_torchrl.tracks import blocks
from tm_torchrl.tracks.medals import medals_of
from tm_torchrl.world.drivers import Pursuit

TRACK = blocks("SSLSS", name="short")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a short track and laps on it."""
    folder = tmp_path_factory.mktemp("place")
    TRACK.save(folder / "short.npz")
    env = TrackManiaEnv(4, track=TRACK, starts=STARTS["perturbed"], seed=0)
    driver = Pursuit([TRACK], env.world.track_index)

    def act() -> Tensor:
        return driver(env.world.rows(), env.race.tracker)

    laps = record_attempts(env, act, first=0, disturbances=Disturbances(0.1))
    description = Description.of(TRACK, driver="scripted", state_size=env.world.save().shape[1])
    DemonstrationWriter(folder / "laps", description).add([lap for lap in laps if lap is not None], num_attempts=4)
    return folder


def settings(place: Path, *more: str) -> list[str]:
    share = "{_target_: tm_torchrl.data.DemonstrationShare, data: '" + str(place / "laps") + "', share: 0.5}"
    return [
        *SMALL,
        f"env.track='{place / 'short.npz'}'",
        "env.num_envs=4",
        "env.evaluation_limits.race_s=0.5",
        "evaluation.num=1",
        "evaluation.every_frames=192",
        "log.every_frames=64",
        "collector.frames_per_batch=64",
        "replay.learning_starts=64",
        "replay.batch_size=16",
        "replay.uses_per_transition=1",
        f"replay.demonstrations={share}",
        *more,
    ]


MARGIN = "+objective.loss.margin={_target_: tm_torchrl.objectives.DemonstrationMargin, size: 0.05}"


def test_laps_are_driven_again_under_the_limits_that_they_had(place: Path) -> None:
    short = settings(place, "replay.num_steps=1", "env.limits.race_s=0.2", "env.limits.no_progress_s=0.2")
    composed = compose_settings(short)
    algorithm = make_algorithm(composed, make_task(composed))
    assert len(algorithm.memory.demonstrations) == len(DemonstrationFolder(place / "laps"))


def test_half_of_a_batch_is_what_was_driven(place: Path) -> None:
    """A lap's discounted rewards are those of the run: 0.01 for each metre, and -0.0012 for each millisecond."""
    composed = compose_settings(settings(place, "replay.num_steps=1"))
    algorithm = make_algorithm(composed, make_task(composed))
    laps = DemonstrationFolder(place / "laps")
    assert len(algorithm.memory.demonstrations) == len(laps)
    shown = algorithm.memory.demonstrations.buffer[:]
    frames = np.arange(laps.lap_frames[0] - 1)
    seen = torch.from_numpy(laps.rows("observation", frames))
    assert torch.equal(shown["observation"][: len(frames)], seen)
    metres = seen[:-1, -2] - seen[1:, -2]  # to the finish
    reward = shown["next", "reward"][: len(frames) - 1, 0]
    far = seen[1:, -2] < 699.0  # the floats tell at most 700 m
    assert far.sum() > 20
    torch.testing.assert_close(reward[far], (0.01 * metres - 0.0012 * 50)[far], rtol=0.0, atol=0.02)
    assert int(shown["next", "terminated"].sum()) == laps.num_laps


def test_laps_that_do_not_finish_are_left_out(place: Path, tmp_path: Path) -> None:
    """The scripted driver's laps, cut after 1 s, alone and after two that finish."""
    env = TrackManiaEnv(4, track=TRACK, starts=STARTS["perturbed"], seed=0)
    driver = Pursuit([TRACK], env.world.track_index)

    def act() -> Tensor:
        return driver(env.world.rows(), env.race.tracker)

    options = {"first": 0, "disturbances": Disturbances(0.0)}
    cut, whole = (record_attempts(env, act, num_steps=steps, **options) for steps in (20, None))
    description = Description.of(TRACK, driver="scripted", state_size=env.world.save().shape[1])
    assert [len(lap.action) for lap in cut if lap is not None] == [20] * 4
    DemonstrationWriter(tmp_path / "cut", description).add(cut, num_attempts=4)
    DemonstrationWriter(tmp_path / "both", description).add([*cut, *whole[:2]], num_attempts=6)
    task = make_task(compose_settings(settings(place)))
    assert [lap.numel() for lap in recorded_steps([tmp_path / "both"], task)] == [len(lap.action) for lap in whole[:2]]
    with pytest.raises(ConfigError, match="none of its laps finishes"):
        recorded_steps([tmp_path / "cut"], task)


@pytest.mark.parametrize("more", [[], [MARGIN]])
def test_it_resumes_bit_for_bit(place: Path, tmp_path: Path, more: list[str]) -> None:
    quiet(settings(place, *more, "total_frames=384"), tmp_path / "whole")
    quiet(settings(place, *more, "total_frames=192"), tmp_path / "parts")
    quiet(["total_frames=384", f"resume='{tmp_path / 'parts'}'"], tmp_path / "ignored")
    assert numbers(tmp_path / "parts") == numbers(tmp_path / "whole")
    whole, parts = weights(tmp_path / "whole"), weights(tmp_path / "parts")
    assert all(torch.equal(value, parts[name]) for name, value in whole.items())


def test_a_margin_without_recorded_laps_is_refused(place: Path) -> None:
    composed = compose_settings([*settings(place, MARGIN), "replay.demonstrations=null"])
    with pytest.raises(ConfigError, match=r"objective.loss.margin: needs recorded laps"):
        make_algorithm(composed, make_task(composed))


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("env.track=oval", "holds laps on short, not on oval"),
        ("replay.demonstrations.data=nowhere", "data=nowhere: does not exist"),
        ("replay.demonstrations.share=1", r"replay.demonstrations.share=1"),
        ("env.num_previous_actions=25", "env.num_previous_actions=25: must be 5"),
    ],
)
def test_laps_that_do_not_fit_are_refused(place: Path, tmp_path: Path, more: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        quiet(settings(place, more), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("action_block", [1, 5])
def test_laps_like_the_author_s_are_driven_without_a_recording(action_block: int) -> None:
    """A lap's rewards sum to 0.01 for each metre less 1.2 for each second."""
    settings = ["env.track=oval", f"env.action_block={action_block}", "env.num_previous_actions=25"]
    task = make_task(compose_settings(settings))
    laps = author_steps(task, num_laps=2)
    assert len(laps) == 2 and laps[0].numel() != laps[1].numel(), "perturbed, each in its own way"
    author_s, length_m = medals_of("oval").author_s, 1183.0
    for lap in laps:
        time_s = 0.05 * lap.numel()
        assert author_s - 0.5 < time_s < author_s + 3.0
        total = lap["next", "reward"].sum().item()
        assert total == pytest.approx(0.01 * length_m - 1.2 * time_s, abs=0.15)
        assert lap["action"].shape == ((1, lap.numel()) if action_block == 1 else (1, lap.numel(), 5))
        assert 0.85 < lap["is_greedy"].float().mean() < 1.0


def test_a_track_without_an_author_lap_is_refused() -> None:
    task = make_task(compose_settings(["env.generated_tracks=1"]))
    with pytest.raises(ValueError, match="data=author: track 'circuit-0' has no author lap"):
        recorded_steps(["author"], task)
