"""Evaluation of a quantile network under given parameters."""

from __future__ import annotations

import contextlib

import torch
from tensordict import NestedKey, TensorDictBase
from tensordict.nn import TensorDictModuleBase, TensorDictSequential
from torch import Tensor, nn

from tm_torchrl.modules.actor import QuantileActor, QuantileModule
from tm_torchrl.modules.layers.noisy import NoisyLinear, draw_factors, is_noisy, reset_noise, row_noise
from tm_torchrl.modules.quantiles.fractions import FractionSource
from tm_torchrl.modules.quantiles.network import Quantiles
from tm_torchrl.objectives.parameter_swap import ParameterSwap


class NetworkPass:
    """Evaluates a network on a batch of states ``[*B]``, at fractions from a source; the quantiles are flat.

    A network is a ``QuantileActor``, a ``QuantileModule``, a ``TensorDictSequential`` with one of them behind other
    modules, or any TensorDict module that writes ``quantile_values`` and, if its values depend on fractions, reads
    ``fractions``.

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
        self.is_noisy = any(isinstance(layer, NoisyLinear) for layer in network.modules())
        self.has_foreign_noise = is_noisy(network) and not self.is_noisy

    @property
    def in_keys(self) -> list[NestedKey]:
        """The keys of the observations."""
        return [key for key in self.network.in_keys if key != self.fractions_key]

    @property
    def state_keys(self) -> list[NestedKey]:
        """The keys of a state, as estimators see it."""
        return self.in_keys

    def batch_keys(self, keys: list[NestedKey]) -> list[NestedKey]:
        """The keys that a batch must have, for those that an estimator reads."""
        return keys

    @property
    def is_init_key(self) -> NestedKey | None:
        """The key that tells a recurrent network where sequences start; ``None`` for other networks."""
        return next((key for key in self.in_keys if "is_init" in (key, key[-1])), None)

    @property
    def reads_time(self) -> bool:
        """Whether the network reads sequences, of which a batch ``[T]`` is one."""
        module = quantile_module(self.network)
        return self.is_init_key is not None or (module is not None and module.reads_time)

    @property
    def takes_fractions(self) -> bool:
        """Whether the network's values depend on the fractions that are given to it."""
        module = quantile_module(self.network)
        return module.takes_fractions if module is not None else self.fractions_key in self.network.in_keys

    def draw_noise(self, *params: TensorDictBase) -> None:
        """Draw new noise in TorchRL's own noisy layers, once for all passes of a loss; ours draw in each pass."""
        if self.has_foreign_noise:
            for own in params:
                with self.swap.using(own):
                    reset_noise(self.network)

    def _noise_of_rows(self, num_rows: int) -> contextlib.AbstractContextManager[None]:
        """Own noise for each state in ``NoisyLinear`` layers.

        One draw for a whole batch moves the values of all its states the same way. With it, and with noise in the value
        too, the default drive was not learnt (docs/ablations.md).
        """
        if not self.is_noisy:
            return contextlib.nullcontext()
        return row_noise(self.network, draw_factors(self.network, num_rows))

    def __call__(self, params: TensorDictBase, observations: TensorDictBase, num_fractions: int) -> Quantiles:
        """Quantiles of all states ``[*B]``, one after the other; ``values`` are float32 or float64.

        The network sees the states in their shape, so that one with memory can read sequences ``[B, T]``.
        """
        if observations.ndim == 0:
            observations = observations.unsqueeze(0)
        fractions = None
        if self.source is not None:
            device = observations.get(self.in_keys[0]).device
            fractions = self.source(torch.Size([observations.numel()]), num_fractions, device=device)
        with self.swap.using(params), self._noise_of_rows(observations.numel()):
            quantiles = self._evaluate(observations, fractions)
        return quantiles._replace(
            values=quantiles.values.float() if quantiles.values.element_size() < 4 else quantiles.values
        )

    def _evaluate(self, observations: TensorDictBase, fractions: Tensor | None) -> Quantiles:
        before, module = split_at_quantiles(self.network)
        if module is not None:
            if before:
                observations = observations.select(*self.in_keys)
                for each in before:
                    observations = each(observations)
            return module.evaluate(observations, fractions if module.takes_fractions else None)
        inputs = observations.select(*self.in_keys)
        shape, num = inputs.batch_size, inputs.ndim
        if fractions is not None:
            inputs.set(self.fractions_key, fractions if num == 1 else fractions.reshape(*shape, -1))
        values, fractions = self.network(inputs).get(self.quantile_values_key), inputs.get(self.fractions_key)
        if num > 1:
            values, fractions = values.flatten(0, num - 1), fractions.flatten(0, num - 1)
        return Quantiles(values, fractions, values)


def split_at_quantiles(network: nn.Module) -> tuple[list[nn.Module], QuantileModule | None]:
    """The quantile module of a network and the modules before it; no modules and ``None`` for a foreign network."""
    if isinstance(network, QuantileActor):
        return [], network.quantile_module
    if isinstance(network, QuantileModule):
        return [], network
    before: list[nn.Module] = []
    for part in network.module if isinstance(network, TensorDictSequential) else ():
        parts, module = split_at_quantiles(part)
        if module is not None:
            return before + parts, module
        before.append(part)
    return [], None


def quantile_module(network: nn.Module) -> QuantileModule | None:
    """The quantile module inside a network; ``None`` for a foreign network."""
    return split_at_quantiles(network)[1]
