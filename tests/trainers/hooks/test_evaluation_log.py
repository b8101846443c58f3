"""Evaluations reach the loggers: numbers at every evaluation, pictures that can be read again, a video at the end."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image

from tests.trainers.test_training import CARTPOLE, DRIVE, quiet
from tm_torchrl.evaluation import drive_laps, evaluation_env
from tm_torchrl.evaluation.laps import Laps
from tm_torchrl.record.loggers import TensorBoard
from tm_torchrl.record.run_folder import read_evaluations
from tm_torchrl.trainers.hooks.evaluation_log import VIDEO_PICTURES, EvaluationLog, evaluation_values, lap_pictures
from tm_torchrl.world import Limits

accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")


def events(folder: Path) -> Any:
    found = accumulator.EventAccumulator(str(folder), size_guidance={"scalars": 0, "images": 0})
    found.Reload()
    return found


def picture(event: Any) -> Image.Image:
    return Image.open(io.BytesIO(event.encoded_image_string))


def test_a_run_shows_its_evaluations(tmp_path: Path) -> None:
    run = quiet([*DRIVE, "log.tensorboard=true", "total_frames=512"], tmp_path / "run").folder
    found = events(run / "tensorboard")
    rows = read_evaluations(run)
    for name in ("finish_rate", "action_swaps", "return_mean"):
        shown = [(event.step, event.value) for event in found.Scalars(f"evaluation/oval/{name}")]
        assert shown == [(row["frames"], pytest.approx(row[name])) for row in rows]
    assert [event.value for event in found.Scalars("evaluation/oval/medal_of_median")] == [0.0, 0.0]
    assert [event.step for event in found.Images("line/oval")] == [256, 512]
    colours = np.asarray(picture(found.Images("line/oval")[-1]).convert("RGB"))
    assert colours.shape[0] > 500 and colours.std() > 20
    video = picture(found.Images("lap/oval")[0])
    assert video.format == "GIF" and video.size == (320, 180) and 1 < video.n_frames <= VIDEO_PICTURES  # type: ignore[attr-defined]


def test_without_tensorboard_nothing_is_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*given: object, **named: object) -> None:
        raise AssertionError("a picture was drawn")

    monkeypatch.setattr("tm_torchrl.trainers.hooks.evaluation_log.driven_line", never)
    monkeypatch.setattr("tm_torchrl.trainers.hooks.evaluation_log.chase_view", never)
    quiet([*DRIVE, "total_frames=256"], tmp_path / "run")


def test_a_task_without_tracks_has_numbers_only(tmp_path: Path) -> None:
    run = quiet([*CARTPOLE, "log.tensorboard=true", "total_frames=512"], tmp_path / "run").folder
    found = events(run / "tensorboard")
    assert [event.step for event in found.Scalars("evaluation/CartPole-v1/return_mean")] == [512]
    assert found.Tags()["images"] == []


def test_medals_are_numbers_and_lists_are_left_out() -> None:
    row = {"track": "oval", "medal": "author", "medal_of_median": None, "best_lap_s": None, "splits_s": [1.0]}
    assert evaluation_values(row) == {"evaluation/oval/medal": 4.0, "evaluation/oval/medal_of_median": 0.0}
    assert json.dumps(evaluation_values({"task": "CartPole-v1", "return_mean": np.float64(3.0), "num_episodes": 2}))


@pytest.fixture(scope="module")
def laps() -> Laps:
    """Two drives of half a second, called finished."""
    env = evaluation_env("oval", num_cars=2, limits=Limits(race_s=0.5))
    found = drive_laps(env, lambda observation: torch.zeros(2, dtype=torch.int64), num_laps=2)
    found.times_s[:] = [20.25, 21.75]
    return found


def cpu_seconds(work: Callable[[], None]) -> float:
    begin = time.thread_time()
    work()
    return time.thread_time() - begin


def write_empty_figures(log: TensorBoard, *, count: int) -> None:
    for _ in range(count):
        figure = Figure(layout="constrained")
        figure.subplots()
        log.write_picture("empty", figure, frames=0)


def test_tracks_have_their_pictures_in_turn_and_quickly(tmp_path: Path, laps: Laps) -> None:
    training: Any = None
    log = TensorBoard(tmp_path)
    listener = EvaluationLog([log], num_pictured=2)
    rows = [{"track": name, "laps": laps, "frames": 0, "seconds": 0.0} for name in ("a", "b", "c")]
    listener(training, rows, False)  # draws the scenery
    pictures_s = cpu_seconds(lambda: listener(training, [{**row, "frames": 1} for row in rows], False))
    empty_s = min(cpu_seconds(lambda: write_empty_figures(log, count=4)) for _ in range(2))
    assert pictures_s < 5 * empty_s, "measured 1.7 times"
    log.close()
    found = events(tmp_path)
    steps = {tag: [event.step for event in found.Images(tag)] for tag in found.Tags()["images"]}
    del steps["empty"]
    assert {tag: steps[tag] for tag in steps if tag.startswith("line/")} == {
        "line/a": [0, 1],
        "line/b": [0],
        "line/c": [1],
    }
    assert sorted(steps) == ["laps/a", "laps/b", "laps/c", "line/a", "line/b", "line/c"]


def test_a_video_is_a_time_lapse(laps: Laps) -> None:
    long = np.repeat(laps.rows[:1], 301, axis=0)
    pictures = list(lap_pictures(Laps(**{**vars(laps), "rows": long})))
    assert len(pictures) == 101  # every third of 301
    assert pictures[0].shape == (180, 320, 3)
