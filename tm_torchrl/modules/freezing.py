"""Parts of a network by name, and freezing them: they keep their weights while the others learn."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeVar

from torch import nn

from tm_torchrl.modules.encoders.floats import FloatEncoder
from tm_torchrl.modules.encoders.images import ImageEncoder
from tm_torchrl.settings.nearest import nearest_name

Self = TypeVar("Self", bound="NetworkOfParts")

PARTS: dict[str, tuple[str, ...]] = {  # names of submodules, in quantile networks and in networks with a policy
    "vision": ("encoder.pixels",),
    "floats": ("encoder.floats",),
    "fusion": ("encoder.fusion",),
    "trunk": ("trunk",),
    "core": ("core",),
    "fractions": ("source", "head.embedding", "head.conditioning"),
    "advantage": ("head.decoder.advantage", "policy.advantage"),
    "value": ("head.decoder.value", "value"),
}


class NetworkOfParts(nn.Module):
    """A network whose parts have names and can be frozen: the base of the quantile and the policy networks.

    Attributes:
        frozen: Names of the parts that are frozen.
    """

    frozen: tuple[str, ...] = ()

    def freeze(self, parts: Iterable[str]) -> None:
        """Freeze parts: no gradients, no optimiser state, no soft resets, and always the evaluation mode.

        Args:
            parts: Some of ``"vision"``, ``"floats"``, ``"fusion"``, ``"trunk"``, ``"core"``, ``"fractions"``,
                ``"advantage"`` and ``"value"``.
        """
        names = (parts,) if isinstance(parts, str) else tuple(parts)
        frozen = [module for name in names for module in modules_of_part(self, name, argument="frozen").values()]
        for module in frozen:
            module.requires_grad_(False)
        self.frozen = names
        if not any(parameter.requires_grad for parameter in self.parameters()):
            raise ValueError(f"frozen={list(names)}: nothing is left to learn; leave one of them out")
        self.train(self.training)

    def train(self: Self, mode: bool = True) -> Self:
        """Set the training mode of all parts that are not frozen."""
        super().train(mode)
        for name in self.frozen:
            for module in modules_of_part(self, name).values():
                module.eval()
        return self


def parts_of(network: nn.Module) -> dict[str, dict[str, nn.Module]]:
    """The parts that a network has: for each the names and modules of its submodules.

    Examples:
        >>> from tm_torchrl.modules import MLPIQNetwork
        >>> {name: list(modules) for name, modules in parts_of(MLPIQNetwork(4, 2)).items()}["value"]
        ['head.decoder.value']
    """
    names = {name: list(paths) for name, paths in PARTS.items()}
    encoder = getattr(network, "encoder", None)
    if isinstance(encoder, ImageEncoder):
        names["vision"].append("encoder")
    elif isinstance(encoder, FloatEncoder):
        names["floats"].append("encoder")
    modules: dict[str, Any] = dict(network.named_modules())
    found = {
        name: {path: modules[path] for path in paths if any(True for _ in _parameters(modules.get(path)))}
        for name, paths in names.items()
    }
    return {name: part for name, part in found.items() if part}


def modules_of_part(network: nn.Module, name: str, *, argument: str = "part") -> dict[str, nn.Module]:
    """The submodules of one part.

    Args:
        network: The network.
        name: The part's name.
        argument: The argument's name, for the message.
    """
    found = parts_of(network)
    if name in found:
        return found[name]
    what = "this network has no such part" if name in PARTS else f"unknown{nearest_name(str(name), PARTS)}"
    raise ValueError(f"{argument}={name!r}: {what}; its parts are {', '.join(found)}")


def _parameters(module: nn.Module | None) -> Iterable[nn.Parameter]:
    return () if module is None else module.parameters()
