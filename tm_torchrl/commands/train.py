"""The command line of training: Hydra's, with messages that name the nearest right setting."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import hydra
from omegaconf import DictConfig

from tm_torchrl.collectors.processes import start_server
from tm_torchrl.settings.construct import ConfigError
from tm_torchrl.settings.folder import config_folder
from tm_torchrl.settings.stored import run_settings
from tm_torchrl.settings.tree import (
    ROOT,
    complete_settings,
    compose_config,
    resolved,
    resumed_settings,
    typed_overrides,
    without_leftovers,
)

if TYPE_CHECKING:
    from tm_torchrl.trainers.summary import Summary

HYDRA_OPTIONS = (
    *("-h", "--help", "--hydra-help", "-m", "--multirun", "-c", "--cfg", "-i", "--info", "-p", "--package"),
    "--config-dir",
)
OTHER_TREES = ("-cn", "--config-name", "-cp", "--config-path")


def main() -> None:
    """Train with the overrides of the command line; Hydra's own options and settings are left to Hydra."""
    words = typed_overrides(sys.argv[1:])
    if any(word.startswith(("-", "hydra", "+hydra")) for word in words):
        _by_hydra(words)
        return
    with _explained():
        settings = complete_settings(words)
        with contextlib.suppress(OSError):  # an output that is closed ends the display only
            print("starting ...", flush=True)  # imports take seconds
        if settings["collector"].get("kind") != "single":
            start_server()
        from tm_torchrl.trainers.run import train

        _end(train(settings))


def _by_hydra(words: Sequence[str]) -> None:
    options = [word.partition("=")[0] for word in words if word.startswith("-")]
    if other := [option for option in options if option in OTHER_TREES]:
        fail(
            f"{other[0]}: there is one configuration; write your own preset as FOLDER/experiment/NAME.yaml and give "
            "--config-dir FOLDER experiment=NAME"
        )
    if strange := [option for option in options if option not in HYDRA_OPTIONS]:
        fail(f"{strange[0]}: no such option; settings are written name=value, such as seed=1 or env.track=oval")
    if not options:
        with _explained():
            compose_config(words)
    sys.argv[1:] = words
    with _explained():
        hydra.main(config_path=str(config_folder()), config_name=ROOT, version_base="1.3")(_run)()
        sys.stdout.flush()


def _run(config: DictConfig) -> None:
    """One run of Hydra, which has made the folder."""
    from hydra.core.hydra_config import HydraConfig

    from tm_torchrl.trainers.run import train

    hydra_config = HydraConfig.get()
    asked, folder = list(hydra_config.overrides.task), Path(hydra_config.runtime.output_dir)
    is_named = any(word.startswith(("hydra.run.dir=", "hydra.sweep.")) for word in hydra_config.overrides.hydra)
    try:
        with _explained():
            settings = without_leftovers(resolved(config), asked)
            if settings["resume"] is not None:
                settings = resumed_settings(settings, asked, run_settings(settings["resume"], trust=settings["trust"]))
            _end(train(settings, folder=folder, is_folder_fixed=is_named))
    finally:
        if not is_named:
            with contextlib.suppress(OSError):  # unless there is something in it; a resumed run has its own folder
                folder.rmdir()
                folder.parent.rmdir()


@contextlib.contextmanager
def _explained() -> Iterator[None]:
    """Errors that a user can mend, as one line instead of a traceback."""
    try:
        yield
    except BrokenPipeError:
        raise
    except (ConfigError, OSError) as error:
        fail(str(error))  # of OSError: a folder that is missing, unwritable or full
    except RuntimeError as error:
        from tm_torchrl.algorithms.learner import NonFiniteLossError
        from tm_torchrl.collectors.supervised import WorkerError
        from tm_torchrl.data.sharded.shards import ReplayLostError
        from tm_torchrl.game.errors import GameError
        from tm_torchrl.record.folder_claim import FolderLinksError, FolderTakenError

        known = (FolderLinksError, FolderTakenError, GameError, NonFiniteLossError, ReplayLostError, WorkerError)
        if not isinstance(error, known):
            raise
        fail(str(error))


def _end(summary: Summary) -> None:
    if summary.problem:
        fail(f"the end of the run is not saved: {summary.problem}")


def fail(message: str) -> NoReturn:
    """Say what is wrong and end."""
    sys.stderr.write(f"error: {message}\n")
    raise SystemExit(2)
