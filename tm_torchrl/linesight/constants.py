"""The constants that normalise the floats of a Linesight or rulka network; its weights do not hold them."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from tm_torchrl.linesight.weights import WeightsError
from tm_torchrl.modules import Normalize
from tm_torchrl.world.observation import observation_constants, observation_layout

RULKA_DAMPER_SCALE = 0.5  # Linesight has 0.06
NUM_OTHERS = 164  # floats besides those of previous actions, which are 4 per action
_NAMES = ("float_inputs_mean", "float_inputs_std")
_TABLES = ("waypoint_mean_40cp", "waypoint_std_40cp")


def num_previous_actions(num_inputs: int) -> int:
    """The number of previous actions in a vector of so many floats.

    >>> num_previous_actions(184), num_previous_actions(264)
    (5, 25)
    """
    num, rest = divmod(num_inputs - NUM_OTHERS, 4)
    if rest or num < 1:
        raise WeightsError(
            f"float_feature_extractor.0.weight: reads {num_inputs} floats; must be {NUM_OTHERS} + 4n, such as 184 or "
            "264, for 40 points ahead and n previous actions"
        )
    return num


def find_constants(weights: str | Path) -> Path | None:
    """The file of constants of a weights file, in the places where Linesight and rulka keep it; ``None`` if absent."""
    folder = Path(weights).resolve().parent
    places = [folder / "config_snapshot.yaml"]
    places += [parent / "config_files" / "state_normalization.py" for parent in folder.parents]
    return next((place for place in places if place.is_file()), None)


def read_constants(path: str | Path | None, *, num_inputs: int) -> Normalize:
    """The first layer of the network, which normalises the floats.

    Args:
        path: Linesight's ``state_normalization.py`` (parsed, never run) or rulka's ``config_snapshot.yaml``;
            ``None`` for this project's own constants, whose values for the points ahead are linear fits of theirs.
        num_inputs: Number of floats F.
    """
    if path is None:
        mean, scale = observation_constants(num_previous_actions(num_inputs))
        return Normalize(torch.from_numpy(mean), torch.from_numpy(scale))
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise WeightsError(f"{path}: cannot be read ({error}); give state_normalization.py or its YAML") from None
    is_python = Path(path).suffix == ".py"
    mean, scale = _linesight(text, path) if is_python else _rulka(text, path, num_inputs)
    for name, values in zip(_NAMES, (mean, scale), strict=True):
        if len(values) != num_inputs:
            raise WeightsError(f"{path}: {name} has {len(values)} numbers, but the network reads {num_inputs} floats")
        if not np.isfinite(values).all():
            raise WeightsError(f"{path}: {name} has numbers that are not finite")
    if not (scale > 0).all():
        raise WeightsError(f"{path}: {_NAMES[1]}[{int(np.argmin(scale))}]={scale.min():g}: must be positive")
    return Normalize(torch.from_numpy(mean), torch.from_numpy(scale))


def _linesight(text: str, path: str | Path) -> tuple[np.ndarray, np.ndarray]:
    """The two lists of numbers, read from the syntax tree of the file."""
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError) as error:
        raise WeightsError(f"{path}: is not a Python file ({error})") from None
    found: dict[str, np.ndarray] = {}
    for node in tree.body:
        if not isinstance(node, ast.Assign) or not isinstance(node.targets[0], ast.Name):
            continue
        name = node.targets[0].id
        if name in _NAMES:
            value = node.value.args[0] if isinstance(node.value, ast.Call) and node.value.args else node.value
            try:
                found[name] = _vector(ast.literal_eval(value), f"{path}: {name}")
            except (ValueError, TypeError, SyntaxError):
                raise WeightsError(f"{path}: {name} is not a list of plain numbers; write the numbers out") from None
    missing = [name for name in _NAMES if name not in found]
    if missing:
        raise WeightsError(f"{path}: does not set {' and '.join(missing)}; give Linesight's state_normalization.py")
    return found[_NAMES[0]], found[_NAMES[1]]


def _rulka(text: str, path: str | Path, num_inputs: int) -> tuple[np.ndarray, np.ndarray]:
    """The constants of the points ahead from the configuration; all others are fixed."""
    try:
        settings: Any = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise WeightsError(f"{path}: is not a YAML file ({' '.join(str(error).split())})") from None
    table = settings.get("state_normalization") if isinstance(settings, dict) else None
    if not isinstance(table, dict) or any(name not in table for name in _TABLES):
        raise WeightsError(f"{path}: no state_normalization with {' and '.join(_TABLES)}; give config_snapshot.yaml")
    num = num_previous_actions(num_inputs)
    layout = observation_layout(num)
    ahead = layout["zones_ahead"]
    vectors = []
    for values, name in zip(observation_constants(num), _TABLES, strict=True):
        found = _vector(table[name], f"{path}: {name}")
        if len(found) != ahead.stop - ahead.start:
            raise WeightsError(f"{path}: {name} has {len(found)} numbers; must have {ahead.stop - ahead.start}")
        values[ahead] = found
        vectors.append(values)
    vectors[1][layout["wheel_damper"]] = RULKA_DAMPER_SCALE
    return vectors[0], vectors[1]


def _vector(values: Sequence[float], name: str) -> np.ndarray:
    try:
        found = np.asarray(values, np.float32)
    except (ValueError, TypeError):
        raise WeightsError(f"{name} is not a list of numbers") from None
    if found.ndim != 1:
        raise WeightsError(f"{name} is not a list of numbers")
    return found
