"""TensorBoard shows every row once; other loggers get rows in one call, or a clear message."""

from __future__ import annotations

import io
import sys
import time
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from tm_torchrl.record import loggers
from tm_torchrl.record.loggers import TensorBoard, TorchRLLogger, make_loggers, require_loggers
from tm_torchrl.record.run_folder import RunFolder

accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")


def events(folder: Path) -> Any:
    found = accumulator.EventAccumulator(str(folder), size_guidance={"scalars": 0, "images": 0})
    found.Reload()
    return found


def test_scalars_and_pictures_can_be_read_again(tmp_path: Path):
    log = TensorBoard(tmp_path)
    log.write(frames=512, seconds=1.0, values={"train/loss": 0.5, "schedule/epsilon": 0.25})
    log.write(frames=1024, seconds=2.0, values={"train/loss": 0.125})
    figure = Figure(figsize=(2, 1), dpi=50, facecolor="#ff0000")
    log.write_picture("laps/traces", figure, frames=1024)
    log.write_picture("laps/camera", np.full((6, 8, 3), 77, np.uint8), frames=1024)
    log.write_video("laps/drive", [np.full((6, 8, 3), 60 * i, np.uint8) for i in range(4)], frames=1024)
    log.close()
    found = events(tmp_path)
    assert [(e.step, e.value) for e in found.Scalars("train/loss")] == [(512, 0.5), (1024, 0.125)]
    pictures = {
        tag: Image.open(io.BytesIO(found.Images(tag)[0].encoded_image_string)) for tag in found.Tags()["images"]
    }
    assert pictures["laps/traces"].size == (100, 50) and pictures["laps/traces"].getpixel((0, 0)) == (255, 0, 0)
    assert pictures["laps/camera"].size == (8, 6) and pictures["laps/camera"].getpixel((3, 3)) == (77, 77, 77)
    assert pictures["laps/drive"].format == "GIF" and pictures["laps/drive"].n_frames == 4


def test_a_resumed_run_shows_no_row_twice(tmp_path: Path):
    first = TensorBoard(tmp_path)
    for frames in (10, 20, 30, 40):
        first.write(frames=frames, seconds=0.0, values={"train/loss": 1.0})
    first.close()
    time.sleep(1.1)  # the names of event files hold the second in which they began
    second = TensorBoard(tmp_path)
    second.write(frames=30, seconds=0.0, values={"train/loss": 2.0})
    second.close()
    found = [(e.step, e.value) for e in events(tmp_path).Scalars("train/loss")]
    assert found == [(10, 1.0), (20, 1.0), (30, 2.0)]


def test_nothing_is_made_before_the_first_row(tmp_path: Path):
    log = TensorBoard(tmp_path / "tensorboard")
    log.close()
    assert list(tmp_path.iterdir()) == []


def test_torchrls_logger_gets_a_row_in_one_call():
    calls: list[Any] = []
    logger = types.SimpleNamespace(
        log_metrics=lambda values, *, step: calls.append((values, step)), close=lambda: calls.append("closed")
    )
    log = TorchRLLogger(logger)
    log.write(frames=512, seconds=1.0, values={"a": 1.0, "b": 2.0})
    log.close()
    assert calls == [({"a": 1.0, "b": 2.0}, 512), "closed"]


def test_mlflow_writes_into_a_database_of_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    made: list[dict[str, Any]] = []
    home = types.ModuleType("torchrl.record.loggers.mlflow")
    home.MLFlowLogger = lambda **arguments: made.append(arguments)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torchrl.record.loggers.mlflow", home)
    monkeypatch.setattr(loggers, "require_loggers", lambda **wanted: None)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    run = RunFolder(tmp_path / "run")
    make_loggers(run, tensorboard=False, mlflow="laps")
    assert made[-1]["tracking_uri"].startswith("sqlite:///") and made[-1]["tracking_uri"].endswith("/run/mlflow.db")
    assert made[-1]["artifact_location"].startswith("file:///") and made[-1]["exp_name"] == "laps"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:5000")
    make_loggers(run, tensorboard=False, mlflow="laps")
    assert made[-1]["tracking_uri"] == "http://127.0.0.1:5000" and made[-1]["artifact_location"] is None


def test_a_missing_package_is_named_before_anything_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "wandb", None)  # which makes importing it fail
    run = RunFolder(tmp_path)
    with pytest.raises(
        ImportError, match=r"log\.wandb=project: .*wandb.*; pip install wandb, or leave log\.wandb at null"
    ):
        make_loggers(run, wandb="project")
    assert not run.tensorboard.exists()
    assert [type(log) for log in make_loggers(run)] == [TensorBoard]
    assert make_loggers(run, tensorboard=False) == []


def test_mlflow_without_its_database_is_not_enough(monkeypatch: pytest.MonkeyPatch):
    """MLflow's small edition has no database."""
    monkeypatch.setitem(sys.modules, "mlflow", types.ModuleType("mlflow"))
    monkeypatch.setitem(sys.modules, "sqlalchemy", None)
    with pytest.raises(ImportError, match=r"log\.mlflow=laps: .*sqlalchemy.*; pip install mlflow"):
        require_loggers(mlflow="laps")
