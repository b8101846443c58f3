"""Parts of a network by name, and freezing them: they keep their weights while the others learn."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from tm_torchrl.modules.encoders.floats import FloatEncoder
from tm_torchrl.modules.encoders.images import ImageEncoder
from tm_torchrl.settings.nearest import nearest_name

Self = TypeVar("Self", bound="NetworkOfParts")

EMBEDDED_AT_ONCE = 32  # images: batches of one size, on which the last bits of results depend

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


def frozen_vision(network: NetworkOfParts) -> Callable[[Tensor], Tensor] | None:
    """What a network's frozen vision part makes of images ``[M, C, H, W]``, which the network takes in their place.

    ``None`` if the part is not frozen, or its encoder does not take embeddings instead of images.

    Args:
        network: The network, whose device computes; results are on the images' device.
    """
    if "vision" not in network.frozen:
        return None
    encoder: Any = network.encoder
    part = encoder if isinstance(encoder, ImageEncoder) else encoder.pixels
    if not isinstance(part, ImageEncoder):
        return None
    of_images: Callable[[Tensor], Tensor] = getattr(encoder, "embed", part)

    @torch.no_grad()
    def embed(images: Tensor) -> Tensor:
        device = next(part.parameters()).device
        missing = -len(images) % EMBEDDED_AT_ONCE
        full = torch.cat([images, images[:1].expand(missing, *images.shape[1:])])
        found = [of_images(some.to(device)).to(images.device) for some in torch.split(full, EMBEDDED_AT_ONCE)]
        return torch.cat(found)[: len(images)]

    return embed


def _parameters(module: nn.Module | None) -> Iterable[nn.Parameter]:
    return () if module is None else module.parameters()
