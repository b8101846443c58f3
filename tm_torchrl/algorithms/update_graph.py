"""An update's losses and gradients as one graph of operations, to be compiled."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from tensordict import NestedKey, TensorDict, TensorDictBase
from torch import Tensor, nn

from tm_torchrl.algorithms.learner import Learner

Signature = tuple[Any, ...]


@dataclass
class UpdateGraph:
    """Losses and gradients as a graph of operations without side effects on gradients or batch.

    Args:
        graph: Takes the entries of the batch, then ``state``; gives losses, entries that the loss writes, gradients.
        state: Parameters and buffers, which are read as they are at each call.
        signature: Of the batches that it fits.
        keys: Entries of the batch that it reads.
        written: Entries of the batch that it writes.
        parameters: Have gradients.
        out_keys: Names of the losses.
    """

    graph: torch.fx.GraphModule
    state: list[Tensor]
    signature: Signature
    keys: list[NestedKey]
    written: list[NestedKey]
    parameters: list[nn.Parameter]
    out_keys: list[str]

    @property
    def shapes(self) -> list[tuple[torch.dtype, tuple[int, ...], tuple[int, ...]]]:
        """Type, shape and strides of the inputs."""
        of_batch = [entry[1:] for entry in self.signature[1:]]
        return [*of_batch, *((each.dtype, tuple(each.shape), each.stride()) for each in self.state)]


def trace_update(learner: Learner, batch: TensorDictBase) -> UpdateGraph:
    """Record the operations of an update's losses and gradients; changes nothing.

    Numbers of Python become constants of the graph: those of ``QuantileLoss`` and its networks do not change in a
    training. Values that are looked at, and tensors that are neither parameters nor buffers, are refused.

    Args:
        learner: Its loss has seen a batch before.
        batch: Has what batches of the memory have.
    """
    from torch.fx.experimental.proxy_tensor import make_fx

    loss = learner.loss
    keys = list(batch.keys(True, True))
    state = list({id(each): each for each in (*loss.parameters(), *loss.buffers())}.values())
    written: list[NestedKey] = []
    with_gradient: list[nn.Parameter] = []

    def update(*inputs: Tensor) -> list[Tensor]:
        given = dict(zip(keys, inputs, strict=False))
        own = TensorDict({}, batch.batch_size)
        for key, value in given.items():
            own.set(key, value)
        with learner.autocast():
            losses = loss(own)
        total = sum(losses[key] for key in loss.out_keys)
        gradients = torch.autograd.grad(total, learner.parameters, allow_unused=True)
        written.extend(key for key in own.keys(True, True) if own.get(key) is not given.get(key))
        with_gradient.extend(
            parameter for parameter, gradient in zip(learner.parameters, gradients, strict=True) if gradient is not None
        )
        return [
            *(losses[key].detach() for key in loss.out_keys),
            *(own.get(key) for key in written),
            *(gradient.contiguous() for gradient in gradients if gradient is not None),
        ]

    buffers = [(buffer, buffer.clone()) for buffer in loss.buffers()]
    with torch.random.fork_rng(devices=[]):
        try:
            graph = make_fx(update)(*(batch.get(key) for key in keys), *state)
        finally:
            for buffer, value in buffers:
                buffer.copy_(value)
    if any(node.op == "get_attr" for node in graph.graph.nodes):
        raise ValueError("the loss reads a tensor that is neither a parameter nor a buffer")
    return UpdateGraph(graph, state, signature_of(batch, loss), keys, written, with_gradient, list(loss.out_keys))


class CompiledUpdate:
    """Computes losses and gradients of the batches that fit ``signature``.

    Args:
        run: The compiled graph.
        update: What was compiled.
    """

    def __init__(self, run: Callable[..., Sequence[Tensor]], update: UpdateGraph) -> None:
        self._run = run
        self._update = update
        self.signature = update.signature

    @torch.no_grad()
    def __call__(self, batch: TensorDictBase) -> dict[str, Tensor]:
        """The losses; writes gradients, and into the batch what the loss writes."""
        update = self._update
        found = iter(self._run(*(batch.get(key) for key in update.keys), *update.state))
        losses = {key: next(found) for key in update.out_keys}
        for key in update.written:
            batch.set(key, next(found))
        for parameter in update.parameters:
            parameter.grad = next(found)
        return losses


def signature_of(batch: TensorDictBase, loss: nn.Module) -> Signature:
    """What must be the same for a graph to fit a batch."""
    entries = ((key, each.dtype, tuple(each.shape), each.stride()) for key, each in batch.items(True, True))
    return (loss.training, *entries)
