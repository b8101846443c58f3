"""The weights of a run's actor, which its checkpoints hold."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, Literal

from torch import Tensor

from tm_torchrl.data.saving.checkpoint import CheckpointError, Checkpoints, NoBestError

_LOG = logging.getLogger("tm_torchrl")


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
