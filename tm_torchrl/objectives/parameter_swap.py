"""Temporary exchange of a module's parameters."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, NamedTuple

from tensordict import TensorDict, TensorDictBase
from torch import nn
from torch.compiler import is_compiling


class _Places(NamedTuple):
    """Where a module keeps its parameters and buffers, and where a tensordict of parameters has their replacements."""

    nodes: list[tuple[int, str]]  # parent and name of each nested tensordict; the root comes first and is left out
    leaves: list[tuple[dict[str, Any], str, int]]  # parameters or buffers of a module, name, number of the node


class ParameterSwap:
    """Runs a module under the parameters and buffers of a tensordict.

    It does what ``params.to_module(module, preserve_module_state=False)`` does at a twentieth of the cost (for a small
    network that cost is as high as the network's own), because the places of parameters are looked up once. The tensors
    are read from the tensordict at each use.

    Args:
        module: The module whose parameters are exchanged.

    Examples:
        >>> import torch
        >>> layer = nn.Linear(2, 1)
        >>> zeros = TensorDict.from_module(layer).data.clone().zero_()
        >>> with ParameterSwap(layer).using(zeros):
        ...     layer(torch.ones(1, 2))
        tensor([[0.]])
    """

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        self._places: _Places | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {"module": self.module, "_places": None}  # a copy has its own places

    @contextlib.contextmanager
    def using(self, params: TensorDictBase) -> Iterator[None]:
        """A context in which the module has these parameters."""
        root: Any = None if is_compiling() else getattr(params, "_param_td", params)
        if type(root) is not TensorDict:
            with params.to_module(self.module, preserve_module_state=False):
                yield
            return
        nodes, leaves = self._places or self._look_up(root)
        tensors = [root._tensordict]
        for parent, name in nodes:
            tensors.append(tensors[parent][name]._tensordict)
        before = []
        for registry, name, node in leaves:
            before.append(registry[name])
            registry[name] = tensors[node][name]
        try:
            yield
        finally:
            for (registry, name, _), tensor in zip(leaves, before, strict=True):
                registry[name] = tensor

    def _look_up(self, root: TensorDict) -> _Places:
        places = _Places([], [])
        found: list[tuple[TensorDictBase, Any]] = [(root, self.module)]
        for node, (params, module) in enumerate(found):  # which grows
            for name, value in params.items():
                if isinstance(value, TensorDictBase):
                    places.nodes.append((node, name))
                    found.append((value, module._modules[name]))
                else:
                    registry: dict[str, Any] = module._parameters if name in module._parameters else module._buffers
                    places.leaves.append((registry, name, node))
        self._places = places
        return places
