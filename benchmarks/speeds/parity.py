"""Our quantile Huber loss beside tianshou's and sb3-contrib's own, on equal numbers: values and gradients.

    python benchmarks/speeds/parity.py            # prints a table; --write keeps it

The peers' code computes its loss itself: sb3-contrib's function is called; tianshou has none, so its algorithm makes an
update of a table of values, whose gradient is then read. Both define the loss up to a factor, given in the table.
The peers come with ``pip install -e ".[bench]" -c constraints.txt``.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any, NamedTuple

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from benchmarks.peers import tianshou
from benchmarks.results_file import describe_run, write_results
from tm_torchrl.modules.quantiles.fractions import midpoints
from tm_torchrl.objectives.functional import quantile_huber_loss

BATCH, ACTIONS = 64, 3


class Example(NamedTuple):
    """Values of all actions ``[B, A, N]``, actions, targets ``[B, M]``, fractions ``[B, N]``."""

    values: Tensor
    actions: Tensor
    target: Tensor
    fractions: Tensor


def example(num: int, num_target: int, *, sampled: bool) -> Example:
    """Random numbers of a few units, some pairs within kappa and most beyond."""
    generator = torch.Generator().manual_seed(num)
    values = 3 * torch.randn(BATCH, ACTIONS, num, generator=generator)
    fractions = torch.rand(BATCH, num, generator=generator) if sampled else midpoints(num).expand(BATCH, -1)
    actions = torch.randint(ACTIONS, (BATCH,), generator=generator)
    return Example(values, actions, 3 * torch.randn(BATCH, num_target, generator=generator), fractions)


def ours(case: Example) -> tuple[float, Tensor]:
    """Mean loss and its gradient in the values."""
    values = case.values.clone().requires_grad_()
    chosen = values[torch.arange(BATCH), case.actions]
    loss = quantile_huber_loss(chosen, case.fractions, case.target).mean()
    (gradient,) = torch.autograd.grad(loss, values)
    return float(loss.detach()), gradient


def of_sb3(case: Example) -> tuple[float, Tensor]:
    """The function that its QR-DQN calls."""
    from sb3_contrib.common.utils import quantile_huber_loss as theirs

    values = case.values.clone().requires_grad_()
    chosen = values[torch.arange(BATCH), case.actions]
    loss = theirs(chosen, case.target, case.fractions.unsqueeze(-1))
    (gradient,) = torch.autograd.grad(loss, values)
    return float(loss.detach()), gradient


class _Values(nn.Module):
    """A table in tianshou's layout."""

    def __init__(self, case: Example, *, sampled: bool) -> None:
        super().__init__()
        self.values = nn.Parameter(case.values.clone())
        self.fractions = case.fractions
        self.sampled = sampled

    def forward(self, obs: Any, state: Any = None, **_: Any) -> Any:
        return ((self.values, self.fractions) if self.sampled else self.values), state


def of_tianshou(case: Example, *, sampled: bool) -> tuple[float, Tensor]:
    """One update of its QRDQN or IQN, at learning rate 0."""
    with tianshou.quiet():
        from tianshou.algorithm.algorithm_base import policy_within_training_step
        from tianshou.data import Batch
    model, num = _Values(case, sampled=sampled), case.values.shape[-1]
    kind = "iqn" if sampled else "qrdqn"
    algorithm = tianshou.quantile_algorithm(kind, model, num_actions=ACTIONS, num_fractions=num, optim={"lr": 0.0})
    batch = Batch(obs=torch.arange(BATCH), act=case.actions.numpy(), returns=case.target, info=Batch())
    with policy_within_training_step(algorithm.policy):
        statistics = algorithm._update_with_batch(batch)
    assert model.values.grad is not None
    return statistics.loss, model.values.grad


def main() -> None:
    """Compare, print, and keep if asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="keep the results")
    arguments = parser.parse_args()
    rows = []
    for num, num_target in ((8, 8), (32, 32), (200, 200), (8, 32)):
        for sampled in (False, True):
            case = example(num, num_target, sampled=sampled)
            value, gradient = ours(case)
            peers = {
                "sb3-contrib": (*of_sb3(case), 1.0, "sum over online, mean over target, as ours"),
                "tianshou": (
                    *of_tianshou(case, sampled=sampled),
                    num_target / num,
                    "sum over target, mean over online: M/N times ours",
                ),
            }
            for name, (their_value, their_gradient, factor, why) in peers.items():
                rows.append(
                    {
                        "N": num,
                        "M": num_target,
                        "fractions": "sampled" if sampled else "midpoints",
                        "peer": name,
                        "factor": factor,
                        "why": why,
                        "value_deviation": abs(their_value / factor / value - 1),
                        "gradient_deviation": float(
                            (their_gradient / factor - gradient).abs().max() / gradient.abs().max()
                        ),
                    }
                )
    table = Table(*rows[0], title="Loss of peers over ours, and largest relative deviations after scaling")
    for row in rows:
        table.add_row(
            *(f"{value:.1e}" if isinstance(value, float) and value < 0.1 else str(value) for value in row.values())
        )
    Console(width=170).print(table)
    if arguments.write:
        print(write_results("parity", {**describe_run(device="cpu"), "rows": rows}))


if __name__ == "__main__":
    main()
