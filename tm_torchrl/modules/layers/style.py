"""The style that all layers of a network share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from torch import nn

from tm_torchrl.modules.layers.activations import Activation, leaky_relu, make_activation
from tm_torchrl.modules.layers.arguments import maker
from tm_torchrl.modules.layers.initialization import HIDDEN_GAIN, orthogonal_
from tm_torchrl.modules.layers.noisy import NoisyLinear, is_noisy

Initialization = Callable[[nn.Module, float], None] | str
LinearLayer = Callable[[int, int], nn.Module] | str

INITIALIZATIONS: dict[str, Callable[[nn.Module, float], None]] = {"orthogonal": orthogonal_}
LINEAR_LAYERS: dict[str, Callable[[int, int], nn.Module]] = {"linear": nn.Linear, "noisy": NoisyLinear}


@dataclass(frozen=True)
class LayerStyle:
    """How layers are built: one object instead of four arguments.

    Args:
        activation: ``"leaky_relu"``, ``"relu"``, ``"gelu"``, ``"crelu"``, or a function that makes an activation.
        layer_norm: Whether hidden layers are normalised before their activation.
        linear: ``"linear"``, ``"noisy"``, or a function that makes a layer from its sizes, such as ``nn.Linear``.
        initialization: ``"orthogonal"``, or a function of a layer and its gain; ``None`` keeps torch's first weights.

    Examples:
        >>> LayerStyle(linear="noisy").make_linear(4, 2)
        NoisyLinear(in_features=4, out_features=2, bias=True)
    """

    activation: Activation = leaky_relu
    layer_norm: bool = False
    linear: LinearLayer = nn.Linear
    initialization: Initialization | None = "orthogonal"

    @property
    def plain(self) -> LayerStyle:
        """The same style with layers without noise."""
        return replace(self, linear=nn.Linear)

    @property
    def is_noisy(self) -> bool:
        """Whether linear layers are noisy."""
        return self.linear_class is not nn.Linear and is_noisy(self.make_linear(1, 1))

    @property
    def linear_class(self) -> Callable[[int, int], nn.Module]:
        """The function or class that makes a linear layer from its sizes."""
        found: Callable[[int, int], nn.Module] = maker(self.linear, LINEAR_LAYERS, argument="linear")
        return found

    def make_linear(self, num_inputs: int, num_outputs: int) -> nn.Module:
        """A linear layer with its own first weights."""
        return self.linear_class(num_inputs, num_outputs)

    def make_activation(self, *, dim: int = -1, in_place: bool = True) -> nn.Module:
        """An activation.

        Args:
            dim: The dimension of the units: -1, or 1 for images.
            in_place: Whether the activation may overwrite its input, if it is of that kind.
        """
        return make_activation(self.activation, dim=dim, in_place=in_place)

    def initialize(self, layer: nn.Module, gain: float = HIDDEN_GAIN) -> None:
        """Set the first weights of a layer, in place."""
        if self.initialization is not None:
            maker(self.initialization, INITIALIZATIONS, argument="initialization")(layer, gain)


DEFAULT_STYLE = LayerStyle()
