"""Evaluation of a quantile network under given parameters."""

from __future__ import annotations

import torch
from tensordict import NestedKey, TensorDictBase
from tensordict.nn import TensorDictModuleBase
from torch import Tensor, nn

from tm_torchrl.modules.actor import QuantileActor, QuantileModule
from tm_torchrl.modules.layers.noisy import is_noisy, reset_noise
from tm_torchrl.modules.quantiles.fractions import FractionSource
from tm_torchrl.modules.quantiles.network import Quantiles
from tm_torchrl.objectives.parameter_swap import ParameterSwap


class NetworkPass:
    """Evaluates a network on a batch of states ``[*B]``, at fractions from a source; the quantiles are flat.

    A network is a ``QuantileActor``, a ``QuantileModule``, or any TensorDict module that writes ``quantile_values``
    and, if its values depend on fractions, reads ``fractions``.

    Args:
        network: The loss's network, whose parameters are exchanged.
        source: Draws the fractions; ``None`` leaves them to the network.
        quantile_values_key: The key of the values that a foreign module writes.
        fractions_key: The key of the fractions that a foreign module reads.
    """

    def __init__(
        self,
        network: TensorDictModuleBase,
        *,
        source: FractionSource | None,
        quantile_values_key: NestedKey,
        fractions_key: NestedKey,
    ) -> None:
        self.network = network
        self.swap = ParameterSwap(network)
        self.source = source
        self.quantile_values_key = quantile_values_key
        self.fractions_key = fractions_key
        self.is_noisy = is_noisy(network)

    @property
    def in_keys(self) -> list[NestedKey]:
        """The keys of the observations."""
        return [key for key in self.network.in_keys if key != self.fractions_key]

    @property
    def takes_fractions(self) -> bool:
        """Whether the network's values depend on the fractions that are given to it."""
        module = quantile_module(self.network)
        return module.takes_fractions if module is not None else self.fractions_key in self.network.in_keys

    def draw_noise(self, *params: TensorDictBase) -> None:
        """Draw new noise in the noisy layers of each network, once for all passes of a loss."""
        if self.is_noisy:
            for own in params:
                with self.swap.using(own):
                    reset_noise(self.network)

    def __call__(self, params: TensorDictBase, observations: TensorDictBase, num_fractions: int) -> Quantiles:
        """Quantiles of all states ``[*B]``, one after the other; ``values`` are float32 or float64.

        The network sees the states in their shape, so that one with memory can read sequences ``[B, T]``.
        """
        fractions = None
        if self.source is not None:
            device = observations.get(self.in_keys[0]).device
            fractions = self.source(torch.Size([observations.numel()]), num_fractions, device=device)
        with self.swap.using(params):
            quantiles = self._evaluate(observations, fractions)
        return quantiles._replace(
            values=quantiles.values.float() if quantiles.values.element_size() < 4 else quantiles.values
        )

    def _evaluate(self, observations: TensorDictBase, fractions: Tensor | None) -> Quantiles:
        module = quantile_module(self.network)
        if module is not None:
            return module.evaluate(observations, fractions if module.takes_fractions else None)
        inputs = observations.select(*self.in_keys)
        shape, num = inputs.batch_size, inputs.ndim
        if fractions is not None:
            inputs.set(self.fractions_key, fractions if num == 1 else fractions.reshape(*shape, -1))
        values, fractions = self.network(inputs).get(self.quantile_values_key), inputs.get(self.fractions_key)
        if num > 1:
            values, fractions = values.flatten(0, num - 1), fractions.flatten(0, num - 1)
        return Quantiles(values, fractions, values)


def quantile_module(network: nn.Module) -> QuantileModule | None:
    """The quantile module inside one of our own modules; ``None`` for a foreign module."""
    if isinstance(network, QuantileActor):
        return network.quantile_module
    return network if isinstance(network, QuantileModule) else None
