"""Stacks of dense layers."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from tm_torchrl.modules.layers.dense import dense


@given(shape=st.lists(st.integers(1, 4), max_size=3))
def test_leading_dimensions_do_not_matter(shape: list[int]) -> None:
    layers = dense([3, 8, 2], output_gain=1.0)
    inputs = torch.randn(*shape, 3)
    one_by_one = torch.stack([layers(row) for row in inputs.reshape(-1, 3)]).reshape(*shape, 2)
    torch.testing.assert_close(layers(inputs), one_by_one)
    torch.testing.assert_close(layers.precise(inputs), one_by_one)


def test_gradients_are_those_of_layers_that_do_not_work_in_place() -> None:
    layers = dense([3, 8, 8, 2], output_gain=1.0)
    plain = nn.Sequential(
        *(nn.LeakyReLU(each.negative_slope) if isinstance(each, nn.LeakyReLU) else each for each in layers)
    )
    inputs = torch.randn(5, 4, 3)
    found, wanted = (_gradients(each, inputs) for each in (layers, plain))
    torch.testing.assert_close(found, wanted)


def test_the_backward_pass_makes_no_copy_of_a_view() -> None:
    outputs = dense([3, 8, 2], output_gain=1.0)(torch.randn(5, 4, 3))
    assert "CopySlices" not in _names(outputs.grad_fn)


def test_precise_outputs_are_float32_under_autocast() -> None:
    layers = dense([3, 8, 2], output_gain=1.0)
    with torch.autocast("cpu", torch.bfloat16):
        assert layers(torch.zeros(4, 5, 3)).dtype == torch.bfloat16
        assert layers.precise(torch.zeros(4, 5, 3)).dtype == torch.float32


def _gradients(layers: nn.Module, inputs: Tensor) -> list[Tensor]:
    return list(torch.autograd.grad(layers(inputs).square().sum(), list(layers.parameters())))


def _names(node: object) -> set[str]:
    names, waiting = set(), [node]
    while waiting:
        each = waiting.pop()
        names.add(type(each).__name__)
        waiting += [before for before, _ in getattr(each, "next_functions", ()) if before is not None]
    return names
