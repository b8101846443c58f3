"""The command line of training: Hydra's, with messages that name the nearest right setting."""

from __future__ import annotations

import contextlib
import logging
import sys
from pathlib import Path
from typing import Any, NoReturn

import hydra
from omegaconf import DictConfig, OmegaConf

from tm_torchrl.trainers.configuration import compose_config, config_folder, resumed_settings
from tm_torchrl.trainers.construct import ConfigError


def run_command(config_name: str) -> None:
    """``python scripts/train_iqn.py OVERRIDES``: check, then hand over to Hydra (help, multirun, sweeps)."""
    overrides = [word for word in sys.argv[1:] if not word.startswith("-")]
    is_sweep = any(word in ("-m", "--multirun") for word in sys.argv[1:])
    asks = any(word in ("--help", "-h", "--hydra-help", "--cfg", "-c", "--info", "-i") for word in sys.argv[1:])
    if not is_sweep and not asks:
        try:
            compose_config(overrides, config_name=config_name)
        except ConfigError as error:
            fail(str(error))
    hydra.main(config_path=str(config_folder()), config_name=config_name, version_base="1.3")(_run)()


def _run(config: DictConfig) -> None:
    from hydra.core.hydra_config import HydraConfig

    from tm_torchrl.trainers.agent import run_settings
    from tm_torchrl.trainers.collection import WorkerError
    from tm_torchrl.trainers.learner import NonFiniteLossError
    from tm_torchrl.trainers.start import summary_text, train

    logging.getLogger("torchrl").setLevel(logging.WARNING)  # torchrl sets its level when it is imported
    settings: dict[str, Any] = OmegaConf.to_container(config, resolve=True)  # type: ignore[assignment]
    folder = Path(HydraConfig.get().runtime.output_dir)
    try:
        if settings["resume"]:
            asked = list(HydraConfig.get().overrides.task)
            settings = resumed_settings(settings, asked, run_settings(settings["resume"]))
        summary = train(settings, folder=folder)
    except (ConfigError, OSError) as error:  # OSError: a folder that is missing, unwritable or full
        with contextlib.suppress(OSError):
            folder.rmdir()  # Hydra made it; if there is something in it, it stays
        fail(str(error))
    except (NonFiniteLossError, WorkerError) as error:
        fail(f"{error}\nThe run ended; its checkpoints are whole: resume={folder} goes on from the last one")
    sys.stdout.write(summary_text(summary) + "\n")


def fail(message: str) -> NoReturn:
    """Say what is wrong and end."""
    sys.stderr.write(f"error: {message}\n")
    raise SystemExit(2)
