"""The weights of a run's actor: in its checkpoints, or, of an agent that was shared, in a ``.safetensors`` file."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from tm_torchrl.data.saving.checkpoint import CheckpointError, Checkpoints, NoBestError
from tm_torchrl.lazy import import_extra

MODEL = "model.safetensors"
_LOG = logging.getLogger("tm_torchrl")


def run_weights(
    run: str | Path, *, which: Literal["best", "latest"] = "best"
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Weights by name, and a manifest with their ``frames`` and ``facts``.

    Args:
        run: A run folder, or the folder of an agent that was shared, which has only the best weights.
        which: Of the best evaluation, or the latest.
    """
    model, checkpoints = Path(run) / MODEL, Path(run) / "checkpoints"
    if not model.is_file() or checkpoints.is_dir():
        return actor_weights(Checkpoints(checkpoints), which=which)
    try:
        weights, notes = read_tensors(model)
        manifest = json.loads(notes.get("manifest", "{}"))
    except (ValueError, RecursionError) as error:
        raise CheckpointError(str(error)) from error
    facts, frames = (manifest.get(key) if isinstance(manifest, dict) else None for key in ("facts", "frames"))
    has_kinds = isinstance(facts, dict) and (frames is None or isinstance(frames, int))
    return weights, {"frames": frames, "facts": facts} if has_kinds else {"frames": None, "facts": {}}


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors of a ``.safetensors`` file by name, and its notes.

    Args:
        path: The file.
    """
    try:
        with import_extra("safetensors").safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # it is no mapping
            return tensors, dict(file.metadata() or {})
    except ModuleNotFoundError:
        raise
    except Exception as error:  # of a class that the package does not promise
        raise ValueError(f"{path}: is not a whole .safetensors file ({error})") from error


def write_tensors(path: Path, tensors: Mapping[str, Tensor], *, notes: Mapping[str, str]) -> None:
    """Write a ``.safetensors`` file.

    Args:
        path: The file.
        tensors: Tensors by name.
        notes: Texts by name.
    """
    writer = import_extra("safetensors.torch")
    writer.save_file({name: value.detach().cpu().clone() for name, value in tensors.items()}, path, dict(notes))


def actor_weights(
    checkpoints: Checkpoints, *, which: Literal["best", "latest"] = "best"
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Weights by name, and the manifest of their checkpoint.

    Args:
        checkpoints: Those of the run.
        which: Of the best evaluation, or the latest; the latest too as long as there is no best one, and with a warning
            in the log if the best one is damaged.
    """
    if which == "best":
        try:
            weights, manifest = checkpoints.load_best()
            return _tensors(weights, manifest), manifest
        except NoBestError:
            pass
        except CheckpointError as problem:
            _LOG.warning("the best network cannot be read, so the latest one is taken: %s", problem)
    state, manifest = checkpoints.load()
    return _tensors(state.get("actor") if isinstance(state, Mapping) else None, manifest), manifest


def _tensors(weights: Any, manifest: Mapping[str, Any]) -> dict[str, Tensor]:
    if not isinstance(weights, Mapping) or not all(isinstance(value, Tensor) for value in weights.values()):
        raise CheckpointError(f"{manifest['path']} does not hold the weights of a network, which are tensors by name")
    return dict(weights)
