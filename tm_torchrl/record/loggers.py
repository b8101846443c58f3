"""Where metrics go besides the run folder's files: TensorBoard, and W&B or MLflow through TorchRL's loggers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tm_torchrl.record.run_folder import RunFolder


class TensorBoard:
    """Scalars, figures and videos for TensorBoard, with grouped tags.

    Args:
        folder: of the event files.
    """

    def __init__(self, folder: str) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.writer: Any = SummaryWriter(folder)

    def write(self, *, frames: int, seconds: float, values: Mapping[str, float]) -> None:
        """A row."""
        for name, value in values.items():
            self.writer.add_scalar(name, value, frames)

    def close(self) -> None:
        """Write what is left."""
        self.writer.close()


class Foreign:
    """One of TorchRL's loggers.

    Args:
        logger: W&B's or MLflow's.
    """

    def __init__(self, logger: Any) -> None:
        self.logger = logger

    def write(self, *, frames: int, seconds: float, values: Mapping[str, float]) -> None:
        """A row."""
        for name, value in values.items():
            self.logger.log_scalar(name, value, step=frames)

    def close(self) -> None:
        """Nothing to do."""


def make_loggers(
    run: RunFolder, *, tensorboard: bool = True, wandb: str | None = None, mlflow: str | None = None
) -> list[TensorBoard | Foreign]:
    """The loggers that were asked for.

    Args:
        run: whose metrics they take.
        tensorboard: event files in the run folder.
        wandb: a project of Weights & Biases.
        mlflow: an experiment of MLflow.
    """
    found: list[TensorBoard | Foreign] = [TensorBoard(str(run.tensorboard))] if tensorboard else []
    if wandb:
        _require("wandb")
        from torchrl.record.loggers.wandb import WandbLogger

        found.append(Foreign(WandbLogger(exp_name=run.path.name, project=wandb, save_dir=str(run.path))))
    if mlflow:
        _require("mlflow")
        from torchrl.record.loggers.mlflow import MLFlowLogger

        found.append(Foreign(MLFlowLogger(exp_name=mlflow, tracking_uri=(run.path / "mlflow").resolve().as_uri())))
    return found


def _require(package: str) -> None:
    import importlib.util

    if importlib.util.find_spec(package) is None:
        raise ImportError(f"log.{package}: it is not installed; pip install {package}, or leave log.{package} at null")
