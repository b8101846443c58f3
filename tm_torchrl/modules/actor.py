"""Quantile networks as TensorDict modules: one evaluates, one acts."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from tensordict import NestedKey, TensorDictBase
from tensordict.nn import TensorDictModuleBase, dispatch
from torch import Tensor
from torchrl.data import Composite, TensorSpec
from torchrl.data.utils import _find_action_space
from torchrl.envs import ExplorationType
from torchrl.envs.utils import exploration_type
from torchrl.modules import QValueModule

from tm_torchrl.modules.layers.arguments import require_count
from tm_torchrl.modules.quantiles.distortion import RiskDistortion
from tm_torchrl.modules.quantiles.fractions import FractionProposal, midpoints
from tm_torchrl.modules.quantiles.network import QuantileNetwork, Quantiles, mean_over_fractions


class QuantileModule(TensorDictModuleBase):
    """Reads observations and, if present, ``fractions``; writes ``quantile_values`` and ``fractions``.

    ``fractions`` is ``[*B, N]``, ``quantile_values`` ``[*B, N, A]``, or ``[*B, N, S, A]`` for action blocks. A network
    with proposed fractions also writes ``fraction_edges`` ``[*B, N + 1]``.

    Args:
        network: The network to evaluate.
        in_keys: The keys of the observations, in the order of the encoder's arguments.
        quantile_values_key: The key of the values, which are written.
        fractions_key: The key of the fractions, which are read if present, and written.
        fraction_edges_key: The key of the edges of proposed fractions, which are written.

    Examples:
        >>> from tensordict import TensorDict
        >>> from tm_torchrl.modules import MLPIQNetwork
        >>> module = QuantileModule(MLPIQNetwork(4, 2, num_fractions=8))
        >>> module(TensorDict({"observation": torch.zeros(5, 4)}, [5]))["quantile_values"].shape
        torch.Size([5, 8, 2])
    """

    def __init__(
        self,
        network: QuantileNetwork,
        *,
        in_keys: Sequence[NestedKey] = ("observation",),
        quantile_values_key: NestedKey = "quantile_values",
        fractions_key: NestedKey = "fractions",
        fraction_edges_key: NestedKey = "fraction_edges",
    ) -> None:
        super().__init__()
        if not isinstance(network, QuantileNetwork):
            raise TypeError(f"network={type(network).__name__}: must be a QuantileNetwork")
        self.network = network
        self.reads_time = network.reads_time
        self.in_keys = list(in_keys)
        self.quantile_values_key = quantile_values_key
        self.fractions_key = fractions_key
        self.fraction_edges_key = fraction_edges_key
        self.out_keys = [quantile_values_key, fractions_key]
        if isinstance(network.source, FractionProposal):
            self.out_keys.append(fraction_edges_key)

    @property
    def takes_fractions(self) -> bool:
        """Whether ``fractions`` are read."""
        return self.network.takes_fractions

    def evaluate(self, tensordict: TensorDictBase, fractions: Tensor | None = None) -> Quantiles:
        """The quantiles of all states of a tensordict ``[*B]``, flattened: ``values`` are ``[prod(B), N, A]``.

        Only a network that reads time sees the states in their shape; the tensordict is not changed.

        Args:
            tensordict: Observations.
            fractions: ``[prod(B), N]``; ``None`` for those of the network.
        """
        if tensordict.ndim != 1 and not self.reads_time:
            tensordict = tensordict.select(*self.in_keys).reshape(-1)
        return self.network.quantiles(*(tensordict.get(key) for key in self.in_keys), fractions=fractions)

    @dispatch(auto_batch_size=False)  # type: ignore[untyped-decorator]
    def forward(self, tensordict: TensorDictBase) -> TensorDictBase:
        """Write the quantiles of a tensordict of any batch size."""
        fractions = tensordict.get(self.fractions_key, None) if self.takes_fractions else None
        if fractions is not None and tensordict.ndim != 1:
            fractions = fractions.reshape(-1, fractions.shape[-1])
        quantiles = self.evaluate(selected(tensordict, self.in_keys), fractions)
        found = (quantiles.values, quantiles.fractions, quantiles.edges)
        for key, value in zip(self.out_keys, found, strict=False):
            if value is None:  # a network that proposes fractions proposes no edges when fractions are given
                continue
            tensordict.set(key, value.reshape((*tensordict.batch_size, *value.shape[1:])))
        return tensordict


class QuantileActor(TensorDictModuleBase):
    """Acts greedily by the mean over fractions, or over a risk distortion of them.

    Writes ``action``, ``action_value`` (``[*B, A]``; ``[*B, S, A]`` for action blocks) and ``chosen_action_value``, and
    carries ``spec``, so that ``EGreedyModule`` and collectors work with it as with TorchRL's ``QValueActor``. While
    exploring (``ExplorationType.RANDOM``) sampled fractions are drawn anew at every call; otherwise they are fixed
    midpoints, so that an evaluation can be repeated.

    Args:
        network: A ``QuantileNetwork``, or a ``QuantileModule`` around it.
        spec: The action's spec; leading batch dimensions are ignored.
        in_keys: The keys of the observations, for a bare network.
        num_fractions: The paper's K; ``None`` for the network's own number.
        distortion: The risk distortion of the fractions; ``None`` for the mean.
        action_key: The key of the action, which is written.
        action_value_key: The key of the values of all actions, which are written.
        chosen_action_value_key: The key of the action's value, which is written.

    Examples:
        >>> from tensordict import TensorDict
        >>> from torchrl.data import Categorical
        >>> from tm_torchrl.modules import MLPIQNetwork
        >>> actor = QuantileActor(MLPIQNetwork(4, 2), spec=Categorical(2))
        >>> actor(TensorDict({"observation": torch.zeros(5, 4)}, [5]))["action"].shape
        torch.Size([5])
    """

    def __init__(
        self,
        network: QuantileNetwork | QuantileModule,
        *,
        spec: TensorSpec,
        in_keys: Sequence[NestedKey] = ("observation",),
        num_fractions: int | None = None,
        distortion: RiskDistortion | None = None,
        action_key: NestedKey = "action",
        action_value_key: NestedKey = "action_value",
        chosen_action_value_key: NestedKey = "chosen_action_value",
    ) -> None:
        super().__init__()
        if not isinstance(network, QuantileModule):
            network = QuantileModule(network, in_keys=in_keys)
        self.quantile_module = network
        own = network.network.num_fractions
        self.num_fractions = own if num_fractions is None else num_fractions
        require_count(self.num_fractions, argument="num_fractions")
        if not network.takes_fractions and self.num_fractions != own:
            raise ValueError(f"num_fractions={num_fractions}: the network has {own} fixed fractions; leave it out")
        if isinstance(network.network.source, FractionProposal) and self.num_fractions != own:
            raise ValueError(
                f"num_fractions={num_fractions}: the network acts at the {own} that it proposes; leave it out"
            )
        self.distortion = distortion
        self.action_value_key = action_value_key
        self.value_module = QValueModule(
            spec=_unbatched(spec, action_key, num_slots=network.network.num_slots),
            action_value_key=action_value_key,
            out_keys=[action_key, action_value_key, chosen_action_value_key],
            strict_shape=False,  # because the slots of a block look like a batch dimension
        )
        self._num_actions = int(self.spec[action_key].space.n)
        self.in_keys = network.in_keys
        self.out_keys = self.value_module.out_keys

    @property
    def spec(self) -> Composite:
        """The action's spec."""
        return self.value_module.spec

    @property
    def action_space(self) -> str:
        """``"categorical"`` or ``"one_hot"``."""
        return self.value_module.action_space

    @dispatch(auto_batch_size=False)  # type: ignore[untyped-decorator]
    def forward(self, tensordict: TensorDictBase) -> TensorDictBase:
        """Write the action and its value."""
        value = self._action_value(selected(tensordict, self.in_keys))
        if value.shape[-1] != self._num_actions:
            raise ValueError(
                f"the network has values for {value.shape[-1]} actions, spec has {self._num_actions}: give the network "
                f"num_actions={self._num_actions}"
            )
        tensordict.set(self.action_value_key, value.reshape((*tensordict.batch_size, *value.shape[1:])))
        return self.value_module(tensordict)

    def greedy(self, *observations: Tensor) -> Tensor:
        """The greedy actions for observations ``[B, ...]`` in the order of ``in_keys``: plain tensors, for export."""
        if self.distortion is not None:
            raise ValueError("actor: has a risk distortion, which cannot be exported; export a risk-neutral actor")
        network, fractions = self.quantile_module.network, None
        if network.takes_fractions and not isinstance(network.source, FractionProposal):
            fractions = midpoints(self.num_fractions, device=observations[0].device)
            fractions = fractions.reshape(1, -1).expand(observations[0].shape[0], -1)
        return network.quantiles(*observations, fractions=fractions).mean().argmax(-1)

    def _action_value(self, tensordict: TensorDictBase) -> Tensor:
        network, distortion = self.quantile_module.network, self.distortion
        if not network.takes_fractions or isinstance(network.source, FractionProposal):
            quantiles = self.quantile_module.evaluate(tensordict)
            if distortion is None:
                return quantiles.mean()
            edges = quantiles.edges
            if edges is None:
                edges = torch.linspace(0, 1, network.num_fractions + 1, device=quantiles.values.device).unsqueeze(0)
            return mean_over_fractions(quantiles.values, distortion.inverse(edges))
        shape, device = torch.Size([tensordict.numel()]), tensordict.get(self.in_keys[0]).device
        if network.source is not None and exploration_type() is ExplorationType.RANDOM:
            fractions = network.source(shape, self.num_fractions, device=device)
        else:
            fractions = midpoints(self.num_fractions, device=device).expand(*shape, -1)
        if distortion is not None:
            fractions = (
                distortion(fractions[:1]).expand(*shape, -1) if fractions.stride(0) == 0 else distortion(fractions)
            )
        return self.quantile_module.evaluate(tensordict, fractions).mean()


def selected(tensordict: TensorDictBase, keys: Sequence[NestedKey]) -> TensorDictBase:
    """The named entries; raises ``KeyError`` for a missing one."""
    missing = [key for key in keys if key not in tensordict.keys(True)]
    if missing:
        present = sorted(map(str, tensordict.keys(True, True)))
        raise KeyError(f"no {', '.join(map(repr, missing))} in the tensordict; it has {', '.join(present)}")
    return tensordict.select(*keys)


def _unbatched(spec: TensorSpec, action_key: NestedKey, *, num_slots: int | None) -> TensorSpec:
    """The spec of one action, or of one block of them."""
    if isinstance(spec, Composite):
        spec = spec[action_key]
    is_one_hot = _find_action_space(spec) != "categorical"
    has_slots = num_slots is not None
    while spec.ndim > has_slots + is_one_hot:
        spec = spec[0]
    if spec.ndim < has_slots + is_one_hot:
        raise ValueError(
            f"spec of shape {tuple(spec.shape)}: the network decides blocks of actions, so it must have one more"
        )
    if has_slots and spec.shape[0] != num_slots:
        raise ValueError(
            f"spec of shape {tuple(spec.shape)}: the network decides blocks of num_slots={num_slots} actions, the "
            f"environment takes {spec.shape[0]}; give the network num_slots={spec.shape[0]}"
        )
    return spec
