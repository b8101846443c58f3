"""GRPO's loss: hand-worked numbers, and those of PPO on the same."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tensordict import TensorDict
from torch import Tensor, nn

from tm_torchrl.modules import PolicyValueNetwork
from tm_torchrl.objectives import GRPOLoss, PPOLoss
from tm_torchrl.objectives.reference import ReferenceUpdate


class Constant(nn.Module):
    """Logits as they are given."""

    def __init__(self, logits: Tensor) -> None:
        super().__init__()
        self.given, self.value = nn.Parameter(logits), nn.Linear(1, 1)

    def logits(self, observation: Tensor) -> Tensor:
        return self.given


def four_steps() -> TensorDict:
    entries = {
        "observation": torch.zeros(4, 1),
        "action": torch.zeros(4).long(),
        "action_log_prob": torch.tensor([0.75, 0.5, 0.75, 0.5]).log(),
        "advantage": torch.tensor([[1.0], [1.0], [-1.0], [-1.0]]),
    }
    return TensorDict(entries, [4])


@pytest.mark.parametrize(("clip_high", "gain"), [(None, 1.2), (0.4, 1.4), (0.6, 1.5)])
def test_hand_worked(clip_high: float | None, gain: float) -> None:
    """Two actions, probabilities 3/4 and 1/4. Ratios 1, 3/2, 1, 3/2; advantages 1, 1, -1, -1.

    Gains: 1; min(1.5, 1.2), with other bounds above min(1.5, 1.4) or 1.5; -1; -1.5.
    From a uniform reference: 3/4 log(3/2) + 1/4 log(1/2) = 0.30410 - 0.17329 = 0.13081, times 2.
    Entropy: 0.56234, times 0.1.
    """
    network: Any = Constant(torch.tensor([0.5, 0.5]).log().repeat(4, 1))
    loss = GRPOLoss(network, clip=0.2, clip_high=clip_high, reference_coefficient=2.0, entropy_coefficient=0.1)
    with torch.no_grad():
        network.given.copy_(torch.tensor([0.75, 0.25]).log().repeat(4, 1))
    batch = four_steps()
    found = {name: float(value.detach()) for name, value in loss(batch).items()}
    expected = {"loss_objective": (2.5 - 1 - gain) / 4, "loss_reference": 0.261624, "loss_entropy": -0.056234}
    assert found == pytest.approx(expected, abs=1e-5)
    share = 0.0 if clip_high == 0.6 else 0.5
    assert batch["diagnostics"][0].tolist() == pytest.approx([0.04727, share, 0.56234], abs=1e-4)


@pytest.mark.parametrize("num_slots", [None, 5])
def test_without_reference_it_is_ppos_objective(num_slots: int | None) -> None:
    torch.manual_seed(0)
    network = PolicyValueNetwork(4, 3, hidden_sizes=[16], head_size=16, num_slots=num_slots)
    shape = (64,) if num_slots is None else (64, num_slots)
    batch = TensorDict(
        {
            "observation": torch.randn(64, 4),
            "action": torch.randint(3, shape),
            "action_log_prob": -torch.tensor(3.0).log() * (num_slots or 1) + 0.4 * torch.randn(64),
            "advantage": torch.randn(64, 1),
            "value_target": torch.zeros(64, 1),
        },
        [64],
    )
    ours = GRPOLoss(network, entropy_coefficient=0.1)(batch)
    theirs = PPOLoss(network, entropy_coefficient=0.1, normalize_advantage=False)(batch)
    for name in ("loss_objective", "loss_entropy"):
        torch.testing.assert_close(ours[name], theirs[name])
    assert float(ours["loss_reference"]) == 0.0


def test_the_reference_is_frozen_until_its_period() -> None:
    """Period 2: the first update leaves it alone, the second copies; what is trained is neither it nor the value."""
    network = PolicyValueNetwork(4, 3, hidden_sizes=[8], head_size=8)
    loss = GRPOLoss(network, reference_coefficient=1.0)
    ((group),) = loss.parameter_groups()
    names = {id(parameter): name for name, parameter in loss.named_parameters()}
    trained = [names[id(parameter)] for parameter in group["params"]]
    assert trained and not any(name.startswith(("reference", "network.value")) for name in trained)
    batch = four_steps().set("observation", torch.randn(4, 4))
    update = ReferenceUpdate(loss, period=2)
    with torch.no_grad():
        network.policy.advantage[-1].bias[0] += 1.0  # type: ignore[index,union-attr,operator]
    update.step()
    assert float(loss(batch)["loss_reference"].detach()) > 0.05
    again = ReferenceUpdate(loss, period=2)
    again.load_state_dict(update.state_dict())
    again.step()
    assert float(loss(batch)["loss_reference"].detach()) == pytest.approx(0.0, abs=1e-7)


@pytest.mark.parametrize(
    "arguments",
    [{"clip": 1.0}, {"clip_high": 0.0}, {"reference_coefficient": -1.0}, {"entropy_coefficient": -0.1}],
)
def test_wrong_arguments_are_named(arguments: dict[str, float]) -> None:
    ((name, value),) = arguments.items()
    with pytest.raises(ValueError, match=f"^{name}={value}"):
        GRPOLoss(PolicyValueNetwork(4, 2), **arguments)  # type: ignore[arg-type]
