"""Quantile networks as TensorDict modules: one evaluates, one acts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from tensordict import NestedKey, TensorDictBase, unravel_key
from tensordict.nn import TensorDictModule, TensorDictModuleBase, dispatch
from torch import Tensor, nn
from torchrl.data import Binary, Categorical, Composite, MultiCategorical, MultiOneHot, OneHot, TensorSpec
from torchrl.envs import ExplorationType
from torchrl.envs.utils import exploration_type
from torchrl.modules import QValueModule

from tm_torchrl.modules.carried import memory_before
from tm_torchrl.modules.layers.arguments import require_count
from tm_torchrl.modules.quantiles.distortion import RiskDistortion
from tm_torchrl.modules.quantiles.fractions import FractionProposal, midpoints
from tm_torchrl.modules.quantiles.network import QuantileNetwork, Quantiles, mean_over_fractions


class _OwnNames(TensorDictModule):
    """A ``TensorDictModule`` whose network is not called ``module``, neither here nor in saved weights.

    TorchRL's losses accept the arguments of ``TensorDictModule.forward``, which ``torch.export`` needs, from nothing
    else.
    """

    module: nn.Module

    def __init__(self) -> None:
        TensorDictModuleBase.__init__(self)

    def __getattr__(self, name: str) -> Any:
        return nn.Module.__getattr__(self, name)


class QuantileModule(_OwnNames):
    """Reads observations and, if present, ``fractions``; writes ``quantile_values`` and ``fractions``.

    ``fractions`` is ``[*B, N]``, ``quantile_values`` ``[*B, N, A]``, or ``[*B, N, S, A]`` for action blocks. A network
    with proposed fractions also writes ``fraction_edges`` ``[*B, N + 1]``.

    Args:
        network: The network to evaluate.
        in_keys: The keys of the observations, in the order of the encoder's arguments.
        quantile_values_key: The key of the values, which are written.
        fractions_key: The key of the fractions, which are read if present, and written.
        fraction_edges_key: The key of the edges of proposed fractions, which are written.
        memory_key: The key of the state ``[*B, S]`` of a network with memory, which is read, zeros if absent or where
            ``is_init`` is True; ``("next", memory_key)`` is written. Both are carried from step to step.

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
        memory_key: NestedKey = "memory",
    ) -> None:
        super().__init__()
        if not isinstance(network, QuantileNetwork):
            raise TypeError(
                f"network={type(network).__name__}: must be a QuantileNetwork; losses also take any TensorDict module "
                "that reads fractions [*B, N] and writes quantile_values [*B, N, A] (docs/losses.md)"
            )
        self.network = network
        self.reads_time = network.reads_time
        self.in_keys = list(in_keys)
        self.quantile_values_key = quantile_values_key
        self.fractions_key = fractions_key
        self.fraction_edges_key = fraction_edges_key
        self.out_keys = [quantile_values_key, fractions_key]
        if isinstance(network.source, FractionProposal):
            self.out_keys.append(fraction_edges_key)
        self.memory_key = memory_key
        self.carried_keys: list[NestedKey] = []
        if network.core is not None:
            self.carried_keys = [memory_key]
            self.in_keys = [*self.in_keys, memory_key]
            self.out_keys += [memory_key, unravel_key(("next", memory_key))]

    @property
    def module(self) -> QuantileNetwork:  # type: ignore[override]
        """The network."""
        return self.network

    @property
    def takes_fractions(self) -> bool:
        """Whether ``fractions`` are read."""
        return self.network.takes_fractions

    def observations(self, tensordict: TensorDictBase) -> tuple[torch.Size, Sequence[Tensor]]:
        """The shape B of the states of a tensordict, and their observations ``[prod(B), ...]``, the memory last.

        B is read from the observations, whose encoder knows their dimensions: the tensordict's own batch size may be
        shorter. Only a network that reads time sees the observations in their shape.
        """
        found = self.read(tensordict)
        shape, flat = self.network.flattened(found, batch_size=tensordict.batch_size)
        if self.network.core is not None:
            key, device = self.memory_key, flat[0].device
            return shape, [*flat, memory_before(self.network.core, tensordict, shape, key=key, device=device)]
        return shape, found if self.reads_time else flat

    def read(self, tensordict: TensorDictBase) -> list[Tensor]:
        """The observations of a tensordict, in their shape; not the memory."""
        found = []
        for key in self.in_keys:
            if key in self.carried_keys:
                continue
            observation = tensordict.get(key)
            if observation is None:
                present = ", ".join(sorted(map(str, tensordict.keys(True, True))))
                raise KeyError(f"no {key!r} in the tensordict; it has {present}")
            found.append(observation)
        return found

    @torch.no_grad()
    def with_memory(self, tensordict: TensorDictBase) -> TensorDictBase:
        """An episode ``[T]`` with the state before each of its steps, if the network has memory."""
        core = self.network.core
        if core is None:
            return tensordict
        device = next(core.parameters()).device
        seen = self.network.flattened(self.read(tensordict.to(device)), batch_size=tensordict.batch_size)[1]
        return tensordict.copy().set(self.memory_key, core.states_before(self.network.features(*seen)))

    def write_memory(self, tensordict: TensorDictBase, before: Tensor, after: Tensor | None, shape: torch.Size) -> None:
        """Write the states before and after a step."""
        assert after is not None
        for key, state in ((self.memory_key, before), (("next", self.memory_key), after)):
            tensordict.set(unravel_key(key), _unflattened(state, shape))

    def evaluate(self, tensordict: TensorDictBase, fractions: Tensor | None = None) -> Quantiles:
        """The quantiles of all states of a tensordict ``[*B]``, flattened: ``values`` are ``[prod(B), N, A]``.

        The tensordict is not changed.

        Args:
            tensordict: Observations.
            fractions: ``[prod(B), N]``; ``None`` for those of the network.
        """
        return self.network.quantiles(*self.observations(tensordict)[1], fractions=fractions)

    @dispatch(auto_batch_size=False)  # type: ignore[untyped-decorator]
    def forward(
        self, tensordict: TensorDictBase, *args: Any, tensordict_out: TensorDictBase | None = None, **kwargs: Any
    ) -> TensorDictBase:
        """Write the quantiles of a tensordict of any batch size."""
        _refuse([*(type(each).__name__ for each in args), *kwargs])
        shape, observations = self.observations(tensordict)
        fractions = tensordict.get(self.fractions_key, None) if self.takes_fractions else None
        if fractions is not None and len(shape) != 1:
            fractions = fractions.reshape(-1, fractions.shape[-1])
        quantiles = self.network.quantiles(*observations, fractions=fractions)
        if self.carried_keys:
            written = tensordict if tensordict_out is None else tensordict_out
            self.write_memory(written, observations[-1], quantiles.state, shape)
        found = (quantiles.values, quantiles.fractions, quantiles.edges)
        written = tensordict if tensordict_out is None else tensordict_out
        for key, value in zip(self.out_keys, found, strict=False):
            if value is None:  # a network that proposes fractions proposes no edges when fractions are given
                continue
            written.set(key, _unflattened(value, shape))
        return written


class QuantileActor(_OwnNames):
    """Acts greedily by the mean over fractions, or over a risk distortion of them.

    Writes ``action``, ``action_value`` (``[*B, A]``; ``[*B, S, A]`` for action blocks) and ``chosen_action_value``, and
    carries ``spec``, so that ``EGreedyModule`` and collectors work with it as with TorchRL's ``QValueActor``. While
    exploring (``ExplorationType.RANDOM``) sampled fractions are drawn anew at every call; otherwise they are fixed
    midpoints, so that an evaluation can be repeated. With ``action_mask_key`` the values of masked actions are the
    least number there is, so that they are never greedy. A network with memory also reads and writes ``memory``.

    Args:
        network: A ``QuantileNetwork``, or a ``QuantileModule`` around it.
        spec: The action's spec, ``Categorical`` or ``OneHot``, for blocks also ``MultiCategorical``; leading batch
            dimensions are ignored.
        in_keys: The keys of the observations, for a bare network.
        num_fractions: The paper's K; ``None`` for the network's own number.
        distortion: The risk distortion of the fractions; ``None`` for the mean.
        action_key: The key of the action, which is written.
        action_value_key: The key of the values of all actions, which are written.
        chosen_action_value_key: The key of the action's value, which is written.
        action_mask_key: The key of the mask ``[*B, A]`` (``[*B, S, A]`` for blocks), which is True where an action is
            allowed; ``None`` for no mask.

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
        action_mask_key: NestedKey | None = None,
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
        self.action_mask_key = action_mask_key
        self.value_module = QValueModule(
            spec=_unbatched(spec, action_key, num_slots=network.network.num_slots),
            action_value_key=action_value_key,
            action_mask_key=action_mask_key,
            out_keys=[action_key, action_value_key, chosen_action_value_key],
            strict_shape=False,  # because the slots of a block look like a batch dimension
        )
        self._num_actions = int(self.spec[action_key].space.n)
        self.in_keys = network.in_keys if action_mask_key is None else [*network.in_keys, action_mask_key]
        memory = [unravel_key(each) for key in network.carried_keys for each in (key, ("next", key))]
        self.out_keys = [*self.value_module.out_keys, *memory]

    @property
    def module(self) -> QuantileModule:  # type: ignore[override]
        """The quantile module."""
        return self.quantile_module

    @property
    def spec(self) -> Composite:
        """The action's spec."""
        return self.value_module.spec

    @property
    def action_space(self) -> str:
        """``"categorical"`` or ``"one_hot"``."""
        return self.value_module.action_space

    @dispatch(auto_batch_size=False)  # type: ignore[untyped-decorator]
    def forward(
        self, tensordict: TensorDictBase, *args: Any, tensordict_out: TensorDictBase | None = None, **kwargs: Any
    ) -> TensorDictBase:
        """Write the action and its value."""
        _refuse([*(type(each).__name__ for each in args), *kwargs])
        shape, observations = self.quantile_module.observations(tensordict)
        found, state = self._action_value(observations, math.prod(shape))
        value = _unflattened(found, shape)
        if value.shape[-1] != self._num_actions:
            raise ValueError(
                f"the network has values for {value.shape[-1]} actions, spec has {self._num_actions}: give the network "
                f"num_actions={self._num_actions}"
            )
        mask = None if self.action_mask_key is None else tensordict.get(self.action_mask_key)
        if mask is not None and mask.shape != value.shape:
            raise ValueError(
                f"{self.action_mask_key}: its shape is {tuple(mask.shape)}, that of the values {tuple(value.shape)}; "
                "give one mask for each action"
            )
        acted = tensordict if tensordict_out is None else tensordict.copy()
        if self.quantile_module.carried_keys:
            self.quantile_module.write_memory(acted, observations[-1], state, shape)
        acted = self.value_module(acted.set(self.action_value_key, value))
        return acted if tensordict_out is None else tensordict_out.update(acted.select(*self.out_keys))

    def greedy(self, *observations: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """The greedy actions for observations ``[B, ...]`` in the order of ``in_keys``: plain tensors, for export.

        With memory: the actions and the next states.
        """
        if self.distortion is not None:
            raise ValueError("actor: has a risk distortion, which cannot be exported; export a risk-neutral actor")
        if self.action_mask_key is not None:
            raise ValueError("actor: masks actions, which cannot be exported; export an actor without action_mask_key")
        network, fractions = self.quantile_module.network, None
        if network.takes_fractions and not isinstance(network.source, FractionProposal):
            fractions = midpoints(self.num_fractions, device=observations[0].device)
            fractions = fractions.reshape(1, -1).expand(observations[0].shape[0], -1)
        quantiles = network.quantiles(*observations, fractions=fractions)
        action = quantiles.mean().argmax(-1)
        return action if quantiles.state is None else (action, quantiles.state)

    def _action_value(self, observations: Sequence[Tensor], num_states: int) -> tuple[Tensor, Tensor | None]:
        """The values of all actions, and the state of a network with memory."""
        network, distortion = self.quantile_module.network, self.distortion
        if not network.takes_fractions or isinstance(network.source, FractionProposal):
            quantiles = network.quantiles(*observations)
            if distortion is None:
                return quantiles.mean(), quantiles.state
            edges = quantiles.edges
            if edges is None:
                edges = torch.linspace(0, 1, network.num_fractions + 1, device=quantiles.values.device).unsqueeze(0)
            return mean_over_fractions(quantiles.values, distortion.inverse(edges)), quantiles.state
        device = observations[0].device
        if network.source is not None and exploration_type() is ExplorationType.RANDOM:
            fractions = network.source((num_states,), self.num_fractions, device=device)
        else:
            fractions = midpoints(self.num_fractions, device=device).expand(num_states, -1)
        if distortion is not None:
            fractions = (
                distortion(fractions[:1]).expand(num_states, -1) if fractions.stride(0) == 0 else distortion(fractions)
            )
        quantiles = network.quantiles(*observations, fractions=fractions)
        return quantiles.mean(), quantiles.state


def _unflattened(values: Tensor, shape: torch.Size) -> Tensor:
    """Values ``[prod(B), ...]`` as ``[*B, ...]``."""
    if values.shape[0] != math.prod(shape):  # len() would make the batch size of an exported program constant
        raise ValueError(
            f"the network has values for {values.shape[0]} states, the tensordict has the batch size {tuple(shape)}: "
            "its encoder must say num_dims, the number of dimensions of one observation"
        )
    return values if len(shape) == 1 else values.reshape(*shape, *values.shape[1:])


def _refuse(unknown: list[str]) -> None:
    if unknown:
        raise TypeError(f"unknown arguments {', '.join(unknown)}: must be a tensordict, or the entries of in_keys")


def _unbatched(spec: TensorSpec, action_key: NestedKey, *, num_slots: int | None) -> TensorSpec:
    """The spec of one action, or of one block of them."""
    if isinstance(spec, Composite):
        spec = spec[action_key]
    if not isinstance(spec, (Categorical, OneHot)) or isinstance(spec, (MultiOneHot, Binary)):
        raise ValueError(
            f"spec={type(spec).__name__}: must be Categorical or OneHot, or MultiCategorical for blocks of actions"
        )
    has_slots = num_slots is not None
    if isinstance(spec, MultiCategorical):
        spec = _block_of(spec, has_slots=has_slots)
    is_one_hot = isinstance(spec, OneHot)
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


def _block_of(spec: MultiCategorical, *, has_slots: bool) -> Categorical:
    """Several actions as a block of actions of one kind."""
    sizes = spec.nvec.reshape(-1, spec.shape[-1])[0].tolist()
    if len(set(sizes)) > 1:
        raise ValueError(f"spec=MultiCategorical({sizes}): the actions of a block must all have the same number")
    if not has_slots:
        raise ValueError(
            f"spec=MultiCategorical({sizes}): the network decides single actions; give it num_slots={len(sizes)}"
        )
    return Categorical(sizes[0], shape=spec.shape, device=spec.device, dtype=spec.dtype)
