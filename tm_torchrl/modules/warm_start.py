"""Weights of single parts from another network of the same shape."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from tm_torchrl.modules.freezing import PARTS, modules_of_part, parts_of

PREFIXES = ("", "quantile_module.network.", "network.")  # of a network in the weights of an actor
MOST_LISTED = 8


class LoadedPart(NamedTuple):
    """What became of one part."""

    name: str
    tensors: int  # loaded
    absent: list[str]  # tensors of the part that the weights do not have
    place: str | None  # where the weights have it; ``None`` if they do not

    def __str__(self) -> str:
        if self.place is None:
            return f"{self.name}: not loaded, because the weights have no such part"
        text = f"{self.name}: {self.tensors} tensors loaded from {self.place or 'the whole file'}"
        return f"{text}; not loaded, because absent: {_listed(self.absent)}" if self.absent else text


def load_parts(
    network: nn.Module, weights: Mapping[str, Tensor], parts: Sequence[str] | None = None
) -> list[LoadedPart]:
    """Copy the weights of parts into a network; nothing is copied if one of them does not fit.

    The weights may be those of an actor, of a network or, for one part, of that part alone. Those of a policy fit a
    quantile network, and the other way round.

    Args:
        network: The network.
        weights: Tensors by name.
        parts: Names of parts, which the weights must have; ``None`` for all that they have.

    Examples:
        >>> from tm_torchrl.modules import MLPIQNetwork, PolicyValueNetwork
        >>> found = load_parts(MLPIQNetwork(4, 2), PolicyValueNetwork(4, 2).state_dict())
        >>> [part.name for part in found if part.place is not None]
        ['floats', 'advantage', 'value']
    """
    found, copies, misfits = [], [], []
    for name in list(parts_of(network)) if parts is None else parts:
        for path, module in modules_of_part(network, name, argument="parts").items():
            own = module.state_dict(keep_vars=True)
            place, theirs = _find(name, path, own, weights, may_be_alone=parts is not None and len(parts) == 1)
            if place is None and parts is not None:
                raise ValueError(
                    f"parts={name!r}: the weights have no {path}; they have {_listed(_tops(weights)) or 'nothing'}"
                )
            both = [key for key in own if key in theirs]
            misfits += [
                f"{path}.{key} is {list(own[key].shape)} here, {list(theirs[key].shape)} there"
                for key in both
                if own[key].shape != theirs[key].shape
            ]
            misfits += [f"{path}.{key} is {theirs[key].dtype}" for key in both if not theirs[key].is_floating_point()]
            misfits += [f"{path}.{key} is not finite" for key in both if not theirs[key].isfinite().all()]
            copies += [(own[key], theirs[key]) for key in both]
            found.append(LoadedPart(name, len(both), [key for key in own if key not in theirs], place))
    if misfits:
        raise ValueError(
            f"parts: {len(misfits)} tensors do not fit: {_listed(misfits)}; use finite weights and the sizes of the "
            "network that they are of, or leave the part out"
        )
    with torch.no_grad():
        for target, value in copies:
            target.copy_(value)
    return found


def _find(
    name: str, path: str, own: Mapping[str, Tensor], weights: Mapping[str, Tensor], *, may_be_alone: bool
) -> tuple[str | None, dict[str, Tensor]]:
    """The place of a part in the weights, and its tensors by their names inside the part."""
    others = [] if name == "fractions" else [each for each in (*PARTS[name], "encoder") if each != path]
    places = [f"{prefix}{place}" for place in (path, *others) for prefix in PREFIXES]
    for place in [*places, ""] if may_be_alone else places:
        start = f"{place}." if place else ""
        theirs = {key[len(start) :]: value for key, value in weights.items() if key.startswith(start)}
        if own.keys() & theirs.keys():
            return place, theirs
    return None, {}


def _tops(weights: Mapping[str, Tensor]) -> list[str]:
    return list(dict.fromkeys(".".join(key.split(".")[:-2]) or key for key in weights))


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - MOST_LISTED} more" if len(names) > MOST_LISTED else ""
    return ", ".join(names[:MOST_LISTED]) + more
