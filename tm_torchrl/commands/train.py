"""The command line of training: Hydra's, with messages that name the nearest right setting."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from pathlib import Path
from typing import NoReturn

import hydra
from omegaconf import DictConfig

from tm_torchrl.settings.construct import ConfigError
from tm_torchrl.settings.tree import (
    compose_config,
    config_folder,
    resolved,
    resumed_settings,
    without_leftovers,
)


def main() -> None:
    """``tm-torchrl train``."""
    run_command("train_iqn")


def run_command(config_name: str) -> None:
    """Check the overrides of the command line, then hand over to Hydra (help, multirun, sweeps).

    Args:
        config_name: File in ``configs/``, without ``.yaml``.
    """
    overrides = [word for word in sys.argv[1:] if not word.startswith("-")]
    is_sweep = any(word in ("-m", "--multirun") for word in sys.argv[1:])
    asks = any(word in ("--help", "-h", "--hydra-help", "--cfg", "-c", "--info", "-i") for word in sys.argv[1:])
    if not is_sweep and not asks:
        try:
            compose_config(overrides, config_name=config_name)
        except ConfigError as error:
            fail(str(error))
    try:
        hydra.main(config_path=str(config_folder()), config_name=config_name, version_base="1.3")(_run)()
        sys.stdout.flush()
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        raise SystemExit(130) from None  # as shells say it
    except BrokenPipeError:  # whoever read the help has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _run(config: DictConfig) -> None:
    from hydra.core.hydra_config import HydraConfig

    from tm_torchrl.algorithms.learner import NonFiniteLossError
    from tm_torchrl.collectors.supervised import WorkerError
    from tm_torchrl.game.errors import GameError
    from tm_torchrl.record.folder_claim import FolderTakenError
    from tm_torchrl.settings.stored import run_settings
    from tm_torchrl.trainers.run import train
    from tm_torchrl.trainers.summary import summary_text

    logging.getLogger("torchrl").setLevel(logging.WARNING)  # torchrl sets its level when it is imported
    hydra_config = HydraConfig.get()
    asked, folder = list(hydra_config.overrides.task), Path(hydra_config.runtime.output_dir)
    is_named = any(word.startswith(("hydra.run.dir=", "hydra.sweep.")) for word in hydra_config.overrides.hydra)
    try:
        settings = without_leftovers(resolved(config), asked, config_name=str(hydra_config.job.config_name))
        if settings["resume"] is not None:
            settings = resumed_settings(settings, asked, run_settings(settings["resume"], trust=settings["trust"]))
        summary = train(settings, folder=folder, is_folder_fixed=is_named)
    except (ConfigError, FolderTakenError, GameError, NonFiniteLossError, WorkerError, OSError) as error:
        if not is_named:
            _remove_empty(folder)
        fail(str(error))  # of OSError: a folder that is missing, unwritable or full
    except KeyboardInterrupt:
        if not is_named:
            _remove_empty(folder)
        raise
    if not is_named:
        _remove_empty(folder)  # of a resumed run, which has its own
    sys.stdout.write(summary_text(summary) + "\n")


def _remove_empty(folder: Path) -> None:
    """A folder that Hydra has made and nobody has used; one that the user named stays."""
    with contextlib.suppress(OSError):  # there is something in it
        folder.rmdir()
        folder.parent.rmdir()


def fail(message: str) -> NoReturn:
    """Say what is wrong and end."""
    sys.stderr.write(f"error: {message}\n")
    raise SystemExit(2)
