"""Where metrics go besides the run folder's files: TensorBoard, and W&B or MLflow through TorchRL's loggers."""

from __future__ import annotations

import importlib
import os
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from tm_torchrl.record.run_folder import RunFolder
from tm_torchrl.record.video import write_video


class TensorBoard:
    """Scalars, pictures and videos for TensorBoard; a tag's group is what stands before its ``/``.

    A folder that has event files already belongs to a run that goes on: what they hold from the first new step onwards
    is hidden, so that nothing shows twice.

    Args:
        folder: of the event files.

    Examples:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     log = TensorBoard(folder)
        ...     log.write(frames=512, seconds=1.5, values={"train/loss": 0.25})
        ...     log.close()
        ...     len(list(Path(folder).glob("events.*")))
        1
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self._writer: Any = None

    def write(self, *, frames: int, seconds: float, values: Mapping[str, float]) -> None:
        """A row."""
        writer = self._opened(frames)
        for name, value in values.items():
            writer.add_scalar(name, value, frames)

    def write_picture(self, tag: str, picture: np.ndarray | Figure, *, frames: int) -> None:
        """A figure, or uint8 ``[H, W, 3]``."""
        if not isinstance(picture, np.ndarray):
            canvas: Any = FigureCanvasAgg(picture)
            canvas.draw()
            picture = np.asarray(canvas.buffer_rgba())[..., :3]
        self._opened(frames).add_image(tag, picture, frames, dataformats="HWC")

    def write_video(self, tag: str, pictures: Iterable[np.ndarray], *, frames: int, fps: int = 20) -> None:
        """A moving picture of uint8 ``[H, W, 3]``: TensorBoard shows a GIF among the images."""
        from tensorboard.compat.proto.summary_pb2 import Summary  # type: ignore[import-untyped]

        with tempfile.TemporaryDirectory() as folder:
            path = write_video(pictures, Path(folder) / "video.gif", fps=fps)
            image = Summary.Image(encoded_image_string=path.read_bytes(), colorspace=3)
        self._opened(frames).file_writer.add_summary(Summary(value=[Summary.Value(tag=tag, image=image)]), frames)

    def _opened(self, frames: int) -> Any:
        if self._writer is None:
            from torch.utils.tensorboard import SummaryWriter

            goes_on = any(self.folder.glob("events.out.tfevents.*"))
            self._writer = SummaryWriter(str(self.folder), purge_step=frames if goes_on else None)
        return self._writer

    def close(self) -> None:
        """Write what is left."""
        if self._writer is not None:
            self._writer.close()


class Foreign:
    """One of TorchRL's loggers.

    Args:
        logger: W&B's or MLflow's.
    """

    def __init__(self, logger: Any) -> None:
        self.logger = logger

    def write(self, *, frames: int, seconds: float, values: Mapping[str, float]) -> None:
        """A row, in one call."""
        self.logger.log_metrics(dict(values), step=frames)

    def close(self) -> None:
        """Write what is left."""
        self.logger.close()


def make_loggers(
    run: RunFolder, *, tensorboard: bool = True, wandb: str | None = None, mlflow: str | None = None
) -> list[TensorBoard | Foreign]:
    """The loggers that were asked for.

    Args:
        run: whose metrics they take.
        tensorboard: event files in the run folder.
        wandb: a project of Weights & Biases.
        mlflow: an experiment of MLflow; in ``mlflow.db`` of the run folder unless ``MLFLOW_TRACKING_URI`` says where.

    Raises:
        ImportError: one that is not installed.
    """
    require_loggers(wandb=wandb, mlflow=mlflow)
    found: list[TensorBoard | Foreign] = []
    if tensorboard:
        found.append(TensorBoard(run.tensorboard))
    if wandb:
        from torchrl.record.loggers.wandb import WandbLogger

        found.append(Foreign(WandbLogger(exp_name=run.path.name, project=wandb, save_dir=str(run.path))))
    if mlflow:
        from torchrl.record.loggers.mlflow import MLFlowLogger

        folder = run.path.resolve()
        own = f"sqlite:///{(folder / 'mlflow.db').as_posix()}"  # MLflow 3 refuses plain folders
        uri = os.environ.get("MLFLOW_TRACKING_URI", own)
        artifacts = (folder / "mlflow").as_uri() if uri == own else None
        found.append(Foreign(MLFlowLogger(exp_name=mlflow, tracking_uri=uri, artifact_location=artifacts)))
    return found


def require_loggers(*, wandb: str | None = None, mlflow: str | None = None) -> None:
    """Import what the loggers need; ``ImportError`` says what is missing and how it is installed.

    Args:
        wandb: a project of Weights & Biases.
        mlflow: an experiment of MLflow, whose small edition lacks the database.
    """
    for name, wanted, packages in (("wandb", wandb, ("wandb",)), ("mlflow", mlflow, ("mlflow", "sqlalchemy"))):
        for package in packages if wanted else ():
            try:
                importlib.import_module(package)
            except ImportError as error:
                hint = f"pip install {name}, or leave log.{name} at null"
                raise ImportError(f"log.{name}={wanted}: {error}; {hint}") from error
