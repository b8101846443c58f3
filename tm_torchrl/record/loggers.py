"""Loggers of metrics: TensorBoard, and W&B or MLflow through TorchRL's loggers."""

from __future__ import annotations

import importlib
import os
import tempfile
import threading
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from tm_torchrl.record.run_folder import RunFolder
from tm_torchrl.record.video import write_video


class TensorBoard:
    """Scalars, pictures and videos for TensorBoard, which groups tags by the part before ``/``.

    If the folder holds event files already, the run is resumed: their entries from the first new step on are hidden, so
    that nothing shows twice.

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
        """Log values by name."""
        writer = self._opened(frames)
        for name, value in values.items():
            writer.add_scalar(name, value, frames)

    def write_picture(self, tag: str, picture: np.ndarray | Figure, *, frames: int) -> None:
        """Log a figure, or a picture uint8 ``[H, W, 3]``."""
        if not isinstance(picture, np.ndarray):
            canvas: Any = FigureCanvasAgg(picture)
            canvas.draw()
            picture = np.asarray(canvas.buffer_rgba())[..., :3]
        self._opened(frames).add_image(tag, picture, frames, dataformats="HWC")

    def write_video(self, tag: str, pictures: Iterable[np.ndarray], *, frames: int, fps: int = 20) -> None:
        """Log a video of pictures uint8 ``[H, W, 3]``, which TensorBoard shows as a GIF among the images."""
        from tensorboard.compat.proto.summary_pb2 import Summary  # type: ignore[import-untyped]

        with tempfile.TemporaryDirectory() as folder:
            path = write_video(pictures, Path(folder) / "video.gif", fps=fps)
            image = Summary.Image(encoded_image_string=path.read_bytes(), colorspace=3)
        self._opened(frames).file_writer.add_summary(Summary(value=[Summary.Value(tag=tag, image=image)]), frames)

    def _opened(self, frames: int) -> Any:
        if self._writer is None:
            from torch.utils.tensorboard import SummaryWriter

            hide_failing_writers()
            is_resumed = any(self.folder.glob("events.out.tfevents.*"))
            self._writer = SummaryWriter(str(self.folder), purge_step=frames if is_resumed else None)
        return self._writer

    def close(self) -> None:
        """Write what is pending."""
        if self._writer is not None:
            self._writer.close()


def hide_failing_writers() -> None:
    """Let TensorBoard's thread not print a traceback when the disk is full: its writer raises the error once more."""
    before = threading.excepthook
    if getattr(before, "hides_writers", False):
        return

    def hook(arguments: threading.ExceptHookArgs) -> None:
        if type(arguments.thread).__name__ != "_AsyncWriterThread" or not isinstance(arguments.exc_value, OSError):
            before(arguments)

    hook.hides_writers = True  # type: ignore[attr-defined]
    threading.excepthook = hook


class TorchRLLogger:
    """One of TorchRL's loggers, such as ``WandbLogger`` or ``MLFlowLogger``."""

    def __init__(self, logger: Any) -> None:
        self.logger = logger

    def write(self, *, frames: int, seconds: float, values: Mapping[str, float]) -> None:
        """Log values by name, in one call."""
        self.logger.log_metrics(dict(values), step=frames)

    def close(self) -> None:
        """Write what is pending."""
        self.logger.close()


def make_loggers(
    run: RunFolder, *, tensorboard: bool = True, wandb: str | None = None, mlflow: str | None = None
) -> list[TensorBoard | TorchRLLogger]:
    """Make the requested loggers; raises an ``ImportError`` if a package is missing.

    Args:
        run: Folder of the run that is logged.
        tensorboard: Whether to write event files into the run folder.
        wandb: Project of Weights & Biases.
        mlflow: Experiment of MLflow, in ``mlflow.db`` of the run folder unless ``MLFLOW_TRACKING_URI`` is set.
    """
    require_loggers(wandb=wandb, mlflow=mlflow)
    found: list[TensorBoard | TorchRLLogger] = []
    if tensorboard:
        found.append(TensorBoard(run.tensorboard))
    if wandb:
        from torchrl.record.loggers.wandb import WandbLogger

        found.append(TorchRLLogger(WandbLogger(exp_name=run.path.name, project=wandb, save_dir=str(run.path))))
    if mlflow:
        from torchrl.record.loggers.mlflow import MLFlowLogger

        folder = run.path.resolve()
        own = f"sqlite:///{(folder / 'mlflow.db').as_posix()}"  # MLflow 3 refuses plain folders
        uri = os.environ.get("MLFLOW_TRACKING_URI", own)
        artifacts = (folder / "mlflow").as_uri() if uri == own else None
        found.append(TorchRLLogger(MLFlowLogger(exp_name=mlflow, tracking_uri=uri, artifact_location=artifacts)))
    return found


def require_loggers(*, wandb: str | None = None, mlflow: str | None = None) -> None:
    """Import what the loggers need; raises an ``ImportError`` that says how to install what is missing.

    Args:
        wandb: Project of Weights & Biases.
        mlflow: Experiment of MLflow; the package ``mlflow-skinny`` is not enough, since it lacks the database.
    """
    for name, wanted, packages in (("wandb", wandb, ("wandb",)), ("mlflow", mlflow, ("mlflow", "sqlalchemy"))):
        for package in packages if wanted else ():
            try:
                importlib.import_module(package)
            except ImportError as error:
                hint = f"pip install {name}, or leave log.{name} at null"
                raise ImportError(f"log.{name}={wanted}: {error}; {hint}") from error
