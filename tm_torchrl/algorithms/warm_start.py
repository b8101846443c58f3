"""Training that begins with weights of another run, or of a file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from tm_torchrl.algorithms.algorithm import Algorithm
from tm_torchrl.data.saving.checkpoint import CheckpointError
from tm_torchrl.data.saving.weights import read_tensors, run_weights
from tm_torchrl.modules.freezing import NetworkOfParts
from tm_torchrl.modules.warm_start import MOST_LISTED, load_parts


def warm_start(
    algorithm: Algorithm,
    *,
    source: str | Path,
    parts: Sequence[str] | None = None,
    log: Callable[[str], None] = lambda message: None,
) -> None:
    """Load parts of an algorithm's network, before anything is trained; the target network gets them too.

    Args:
        algorithm: The algorithm.
        source: A run folder, whose best weights are loaded, or a ``.safetensors`` file.
        parts: Names of parts, such as ``["vision", "fusion"]``; ``None`` for all that the source has.
        log: Takes messages.
    """
    path = Path(source)
    weights = weights_of(path)
    network = next((each for each in algorithm.actor.modules() if isinstance(each, NetworkOfParts)), None)
    if network is None:
        raise ValueError(f"source={source}: {type(algorithm.actor).__name__} has no parts to load")
    found = load_parts(network, weights, parts)
    if not any(part.tensors for part in found):
        raise ValueError(
            f"source={source}: has none of the parts {', '.join(part.name for part in found)}; its tensors are "
            f"{', '.join(list(weights)[:MOST_LISTED]) or 'none'}, ..."
        )
    for part in found:
        log(f"warm start from {path}: {part}")
    learner: Any = algorithm.learner
    if learner.target is not None:
        learner.target.init_()


def weights_of(path: Path) -> dict[str, Tensor]:
    """The tensors of a run folder's best actor, or of a ``.safetensors`` file.

    Args:
        path: The folder or the file.
    """
    if path.is_dir():
        try:
            return run_weights(path)[0]
        except CheckpointError as error:
            raise ValueError(f"source={path}: {error}") from error
    if path.suffix != ".safetensors" or not path.is_file():
        raise ValueError(f"source={path}: must be a run folder or a .safetensors file, and it must exist")
    try:
        return read_tensors(path)[0]
    except ValueError as error:
        raise ValueError(f"source={error}") from error
