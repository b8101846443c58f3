"""Activations, by name or as a function that makes one."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from tm_torchrl.modules.layers.arguments import maker
from tm_torchrl.modules.layers.initialization import LEAKY_SLOPE

Activation = Callable[[], nn.Module] | str


class CReLU(nn.Module):
    """The positive and the negative part side by side: two outputs for each input (Shang et al. 2016).

    It keeps networks plastic (Abbas et al. 2023). A layer in front of it has half as many outputs of its own, so that
    sizes stay what they are with other activations.

    Args:
        dim: The dimension of the units.

    Examples:
        >>> CReLU()(torch.tensor([[1.0, -2.0]]))
        tensor([[1., 0., 0., 2.]])
    """

    growth = 2

    def __init__(self, dim: int = -1) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, inputs: Tensor) -> Tensor:
        """Twice the size along ``dim``."""
        return torch.relu(torch.cat([inputs, -inputs], self.dim))


def leaky_relu() -> nn.Module:
    """The default activation. It works in place, because nothing else uses the tensor that it overwrites."""
    return nn.LeakyReLU(LEAKY_SLOPE, inplace=True)


ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "leaky_relu": leaky_relu,
    "relu": nn.ReLU,
    "gelu": nn.GELU,
    "crelu": CReLU,
}


def make_activation(activation: Activation, *, dim: int = -1, in_place: bool = True) -> nn.Module:
    """One activation.

    Args:
        activation: ``"leaky_relu"``, ``"relu"``, ``"gelu"``, ``"crelu"``, or a function that makes one.
        dim: The dimension of the units: -1, or 1 for images.
        in_place: Whether the activation may overwrite its input, if it is of that kind.

    Examples:
        >>> make_activation("crelu", dim=1)(torch.zeros(2, 8, 4, 4)).shape
        torch.Size([2, 16, 4, 4])
    """
    made: nn.Module = maker(activation, ACTIVATIONS, argument="activation")()
    if isinstance(made, CReLU):
        made.dim = dim
    if not in_place and getattr(made, "inplace", False):
        made.inplace = False  # type: ignore[assignment]
    return made


def outputs_before(activation: nn.Module, size: int) -> int:
    """The number of outputs that a layer needs for ``size`` outputs after its activation.

    >>> outputs_before(CReLU(), 64), outputs_before(nn.ReLU(), 64)
    (32, 64)
    """
    growth = growth_of(activation)
    if size % growth:
        raise ValueError(
            f"activation={type(activation).__name__}: the size of a layer must be a multiple of {growth}, not {size}"
        )
    return size // growth


def growth_of(activation: nn.Module) -> int:
    """The number of outputs for each input: 2 for ``CReLU``, otherwise 1."""
    return int(getattr(activation, "growth", 1))
