"""From a weights file of Linesight or rulka to a run folder that can be evaluated, watched and resumed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml
from torch import Tensor

from tm_torchrl.data.saving.checkpoint import Checkpoints
from tm_torchrl.linesight.constants import find_constants, num_previous_actions, read_constants
from tm_torchrl.linesight.weights import (
    LinesightShape,
    WeightsError,
    greatest_difference,
    linesight_shape,
    make_network,
    read_linesight,
    to_our_weights,
)
from tm_torchrl.modules import Normalize
from tm_torchrl.record.run_folder import RunFolder
from tm_torchrl.settings.tree import compose_settings
from tm_torchrl.tasks.driving import IMAGE_SHAPE
from tm_torchrl.tasks.task import make_task
from tm_torchrl.trainers.run import make_training
from tm_torchrl.world.actions import NUM_ACTIONS

LARGEST_DIFFERENCE = 1e-4  # share of the values' spread; another order of summation differs by 1e-6
RESUMED = ("exploration.epsilon=0.03", "exploration.perturbed=0.03", "learning_rate=5e-5", "gamma=1.0")
_NETWORK = "quantile_module.network."
_TARGET = "target_value_network_params."


@dataclass(frozen=True)
class Imported:
    """The result of an import.

    Args:
        folder: The run folder.
        shape: Sizes of the network.
        difference: Greatest difference of our values from the original's, as a share of their spread.
        constants: The file of constants that normalise the floats; ``None`` for this project's own.
    """

    folder: Path
    shape: LinesightShape
    difference: float
    constants: Path | None


def import_linesight(
    weights: str | Path,
    *,
    folder: str | Path,
    target: str | Path | None = None,
    constants: str | Path | None = None,
    with_own_constants: bool = False,
    image_size: tuple[int, int] | None = None,
    settings: Sequence[str] = (),
) -> Imported:
    """Write a run folder whose network has the weights of a file; no code in the file is run.

    Training can continue there (``resume=FOLDER``) with little exploration and the last learning rate of the original;
    optimiser and replay are new.

    Args:
        weights: The file ``weights1.torch``.
        folder: The run folder to write; must not exist.
        target: The file ``weights2.torch`` of the target network; ``None`` for the weights of the online network.
        constants: ``state_normalization.py`` or ``config_snapshot.yaml``; ``None`` to search near the weights.
        with_own_constants: Whether to use this project's own constants instead.
        image_size: (H, W) of images of unusual size.
        settings: Further settings of the run, such as ``["env.track=oval"]``.
    """
    if Path(folder).exists():
        raise WeightsError(f"{folder}: exists; give a new folder")
    found = read_linesight(weights)
    shape = linesight_shape(found, image_size=image_size)
    if shape.num_actions != NUM_ACTIONS:
        raise WeightsError(f"A_head.2.weight: has {shape.num_actions} actions; must have {NUM_ACTIONS}")
    other = found if target is None else read_linesight(target)
    if target is not None and linesight_shape(other, image_size=image_size) != shape:
        raise WeightsError(f"{target}: has other sizes than {weights}; give two files of the same run")
    path = Path(constants) if constants is not None else None if with_own_constants else find_constants(weights)
    if path is None and not with_own_constants:
        raise WeightsError(
            f"{weights}: found no constants near it: state_normalization.py (Linesight) or config_snapshot.yaml "
            "(rulka); give --constants FILE, or --own-constants to use this project's, which are similar"
        )
    normalize = read_constants(path, num_inputs=shape.num_inputs)
    network = make_network(shape, normalize=normalize)
    network.load_state_dict({**_normalizers(shape, normalize), **to_our_weights(found)})
    difference = greatest_difference(network, found, shape)
    if not difference < LARGEST_DIFFERENCE:
        raise WeightsError(
            f"{weights}: our values differ from the original's by {difference:.1e} of their spread; no run was written"
        )
    if shape.image_size not in (None, IMAGE_SHAPE[1:]):
        raise WeightsError(
            f"{weights}: reads images of {shape.image_size[0]} x {shape.image_size[1]}, but environments here have "
            f"{IMAGE_SHAPE[1]} x {IMAGE_SHAPE[2]}; train the original with w_downsized and h_downsized of "
            f"{IMAGE_SHAPE[1]}, as rulka does (its values equal the original's, to {difference:.0e})"
        )
    overrides = [*_settings(shape), *RESUMED, *settings]
    _write(Path(folder), overrides, dict(network.state_dict()), to_our_weights(other), source=Path(weights))
    return Imported(folder=Path(folder), shape=shape, difference=difference, constants=path)


def _normalizers(shape: LinesightShape, normalize: Normalize) -> dict[str, Tensor]:
    part = "encoder" if shape.image_size is None else "encoder.floats"
    return {f"{part}.normalize.{name}": value for name, value in normalize.state_dict().items()}


def _settings(shape: LinesightShape) -> list[str]:
    """Settings of the run for the sizes of the network."""
    image = ["network=classic"] if shape.image_size is not None else ["network=mlp", "env.pixels=false"]
    return [
        "experiment=linesight",
        *image,
        f"env.num_previous_actions={num_previous_actions(shape.num_inputs)}",
        f"objective.network.num_cosines={shape.num_cosines}",
        f"objective.network.hidden_sizes=[{shape.hidden_size},{shape.hidden_size}]",
        f"objective.network.head_size={shape.head_size}",
    ]


def _write(
    folder: Path, overrides: Sequence[str], online: dict[str, Tensor], target: dict[str, Tensor], *, source: Path
) -> None:
    """Write settings, a checkpoint to resume, and the best weights, which evaluations use."""
    composed = compose_settings(overrides)
    task = make_task(composed)
    training = make_training({**composed, "precision": "float32"}, task)
    try:
        weights = training.algorithm.actor.state_dict()
        ours = {name.removeprefix(_NETWORK): value.shape for name, value in weights.items()}
        wrong = [name for name in ours if name not in online or online[name].shape != ours[name]]
        if wrong or len(ours) != len(online):
            shown = ", ".join(wrong) or ", ".join(online.keys() - ours.keys())
            raise WeightsError(
                f"settings: make another network than that of the weights ({shown}); do not change network, "
                "objective.network and env.pixels"
            )
        training.algorithm.actor.load_state_dict({_NETWORK + name: value for name, value in online.items()})
        state = training.state_dict()
        loss = state["learner"]["loss"]
        for name, value in {**online, **target}.items():
            loss[_TARGET + _NETWORK + name] = value
        run = RunFolder(folder)
        run.write_config(yaml.safe_dump(composed, sort_keys=False, allow_unicode=True))
        run.write_facts({"seed": composed["seed"], "imported_from": str(source), "precision": "float32"})
        checkpoints = Checkpoints(run.checkpoints, keep=composed["checkpoint"]["keep"])
        facts = {"frames": 0, "imported_from": source.name}
        checkpoints.save(state, frames=0, facts={**facts, "seconds": 0.0})
        checkpoints.save_best(dict(training.algorithm.actor.state_dict()), facts=facts)
    finally:
        training.source.shutdown()
