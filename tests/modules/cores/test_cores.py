"""Cores: steps and scans agree, episodes do not mix, the recurrence is float32."""

from __future__ import annotations

import functools
from typing import Any

import pytest
import torch
from torch import nn

from tm_torchrl.modules import GRU, LSTM, Mamba
from tm_torchrl.modules.cores.core import Core

CORES = {
    "gru": functools.partial(GRU, hidden_size=6),
    "lstm": functools.partial(LSTM, hidden_size=6),
    "mamba": functools.partial(Mamba, hidden_size=6, state_dim=3),
    "mamba_of_the_same_size": functools.partial(Mamba, hidden_size=5, state_dim=2, conv_width=3),
}
every_core = pytest.mark.parametrize("make", CORES.values(), ids=CORES)


def made(make: Any) -> tuple[Core, torch.Tensor, torch.Tensor, torch.Tensor]:
    """A core, inputs of 3 rows of 9 steps, a first state, and episodes that begin at different steps."""
    torch.manual_seed(0)
    core = make(5)
    for parameter in core.parameters():
        nn.init.normal_(parameter, std=0.5)
    is_init = torch.zeros(3, 9, dtype=torch.bool)
    is_init[1, 4] = is_init[2, 0] = is_init[2, 7] = is_init[2, 8] = True
    return core, torch.randn(3, 9, 5), torch.randn(3, core.state_size), is_init


@every_core
@pytest.mark.parametrize("has_resets", [False, True])
def test_steps_and_scan_agree(make: Any, has_resets: bool) -> None:
    core, x, state, is_init = made(make)
    scanned, last = core.scan(x, state, is_init if has_resets else None)
    assert scanned.shape == (3, 9, core.num_features) and last.shape == state.shape
    for t in range(9):
        y, state = core.step(x[:, t], state, is_init[:, t] if has_resets else None)
        torch.testing.assert_close(y, scanned[:, t])
    torch.testing.assert_close(state, last)


@every_core
def test_an_episode_knows_nothing_of_the_one_before(make: Any) -> None:
    core, x, state, is_init = made(make)
    together, _ = core.scan(x, state, is_init)
    alone, _ = core.scan(x[1:2, 4:], torch.zeros(1, core.state_size))
    torch.testing.assert_close(together[1:2, 4:], alone)
    first, _ = core.scan(x[1:2, :4], state[1:2])
    torch.testing.assert_close(together[1:2, :4], first)


@every_core
def test_a_scan_in_two_parts_is_one_scan(make: Any) -> None:
    """The state after a part holds all that the next one needs, also where an episode began just before."""
    core, x, state, is_init = made(make)
    whole, last = core.scan(x, state, is_init)
    for cut in (1, 5, 8):
        first, between = core.scan(x[:, :cut], state, is_init[:, :cut])
        second, after = core.scan(x[:, cut:], between, is_init[:, cut:])
        torch.testing.assert_close(torch.cat([first, second], 1), whole)
        torch.testing.assert_close(after, last)


@every_core
def test_outputs_depend_on_the_past_and_not_on_the_future(make: Any) -> None:
    core, x, state, _ = made(make)
    x.requires_grad_()
    y, _ = core.scan(x, state)
    y[:, 5].sum().backward()
    assert bool((x.grad[:, :6] != 0).any(-1).all()) and not bool(x.grad[:, 6:].any())


@every_core
def test_the_recurrence_is_float32_under_autocast(make: Any) -> None:
    core, x, state, is_init = made(make)
    expected, last = core.scan(x, state, is_init)
    with torch.autocast("cpu", torch.bfloat16):
        found, after = core.scan(x, state, is_init)
    assert found.dtype == after.dtype == torch.float32
    assert torch.equal(found, expected) and torch.equal(after, last)


@every_core
def test_every_parameter_has_a_gradient(make: Any) -> None:
    core, x, state, is_init = made(make)
    core.scan(x, state, is_init)[0].square().sum().backward()
    assert [name for name, value in core.named_parameters() if value.grad is None or not value.grad.any()] == []


@pytest.mark.parametrize("name", ["hidden_size", "state_dim", "expand", "conv_width"])
def test_sizes_are_checked(name: str) -> None:
    with pytest.raises(ValueError, match=f"^{name}=0"):
        Mamba(5, **{name: 0})


@pytest.mark.parametrize("make", [GRU, LSTM])
def test_sizes_of_recurrent_layers_are_checked(make: Any) -> None:
    with pytest.raises(ValueError, match=r"^hidden_size=2\.5"):
        make(5, hidden_size=2.5)
