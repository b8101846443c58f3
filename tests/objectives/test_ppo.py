"""PPO's loss: hand-worked numbers, and TorchRL's and stable-baselines3's on the same."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from tensordict import TensorDict
from torch import Tensor, nn
from torchrl.objectives import ClipPPOLoss

from tm_torchrl.modules import PolicyValueModule, PolicyValueNetwork
from tm_torchrl.objectives import PPOLoss


class Constant(nn.Module):
    """Logits and values as they are given."""

    num_slots = None

    def __init__(self, logits: Tensor, values: Tensor) -> None:
        super().__init__()
        self.logits, self.values = nn.Parameter(logits), nn.Parameter(values)

    def forward(self, observation: Tensor) -> tuple[Tensor, Tensor]:
        return self.logits, self.values


def batch_of(num: int = 64, *, num_slots: int | None = None, num_actions: int = 3) -> TensorDict:
    shape = (num,) if num_slots is None else (num, num_slots)
    near_uniform = -torch.tensor(float(num_actions)).log() * (num_slots or 1)
    entries = {
        "observation": torch.randn(num, 4),
        "action": torch.randint(num_actions, shape),
        "action_log_prob": near_uniform + 0.4 * torch.randn(num),
        "advantage": 1.0 + 2.0 * torch.randn(num, 1),
        "value_target": torch.randn(num, 1),
        "state_value": torch.randn(num, 1),
    }
    return TensorDict(entries, [num])


def gradients(module: nn.Module, total: Tensor) -> dict[str, Tensor]:
    module.zero_grad()
    total.backward()
    return {name: parameter.grad.clone() for name, parameter in module.named_parameters() if parameter.grad is not None}


def test_hand_worked() -> None:
    """Two actions, probabilities 3/4 and 1/4; the first was taken in all states.

    Collected with 3/4, 1/2, 3/4, 1/2: ratios 1, 3/2, 1, 3/2, clipped at 1.2. Advantages 1, 1, -1, -1.
    Gains: 1; min(1.5, 1.2) = 1.2; -1; min(-1.5, -1.2) = -1.5: their mean is -0.075.
    Values 0, targets 1, 2, 3, 4: mean square (1 + 4 + 9 + 16) / 4 = 7.5, times 0.5.
    Entropy: 3/4 log(4/3) + 1/4 log 4 = 0.21576 + 0.34657 = 0.56234, times 0.1.
    Divergence: mean of r - 1 - log r = (0 + 0.5 - 0.40547) / 2 = 0.04727.
    """
    logits = torch.tensor([0.75, 0.25]).log().repeat(4, 1)
    loss = PPOLoss(
        Constant(logits, torch.zeros(4, 1)),  # type: ignore[arg-type]
        clip=0.2,
        value_coefficient=0.5,
        entropy_coefficient=0.1,
        normalize_advantage=False,
    )
    batch = TensorDict(
        {
            "observation": torch.zeros(4, 1),
            "action": torch.zeros(4).long(),
            "action_log_prob": torch.tensor([0.75, 0.5, 0.75, 0.5]).log(),
            "advantage": torch.tensor([[1.0], [1.0], [-1.0], [-1.0]]),
            "value_target": torch.tensor([[1.0], [2.0], [3.0], [4.0]]),
        },
        [4],
    )
    found = loss(batch)
    shown = {name: float(value.detach()) for name, value in found.items()}
    assert shown == pytest.approx({"loss_objective": 0.075, "loss_critic": 3.75, "loss_entropy": -0.056234}, abs=1e-5)
    assert batch["diagnostics"].shape == (4, 3)
    assert batch["diagnostics"][0].tolist() == pytest.approx([0.04727, 0.5, 0.56234], abs=1e-4)
    found["loss_objective"].backward()
    slope = loss.network.logits.grad[:, 0]  # type: ignore[index,union-attr]
    # d/dlogit of the objective is -A r (1 - p) / 4; the second state gains nothing from moving further.
    assert slope.tolist() == pytest.approx([-1 / 16, 0.0, 1 / 16, 1.5 / 16])


def test_a_clipped_value_pays_the_larger_error() -> None:
    """Value 1, before 0, clipped to 0.2. Targets 2 and 0: max(1, 1.8^2) = 3.24 and max(1, 0.2^2) = 1, mean 2.12."""
    network: Any = Constant(torch.zeros(2, 2), torch.ones(2, 1))
    loss = PPOLoss(network, clip_value=0.2, value_coefficient=1.0)
    batch = batch_of(2, num_actions=2).update(
        {"state_value": torch.zeros(2, 1), "value_target": torch.tensor([[2.0], [0.0]])}
    )
    assert float(loss(batch)["loss_critic"].detach()) == pytest.approx(2.12)


@pytest.mark.parametrize("num_slots", [None, 5])
@pytest.mark.parametrize("clip_value", [None, 0.3])
@pytest.mark.parametrize("entropy_coefficient", [0.0, 0.05])
def test_losses_and_gradients_are_torchrls(
    num_slots: int | None, clip_value: float | None, entropy_coefficient: float
) -> None:
    torch.manual_seed(0)
    ours = PolicyValueNetwork(4, 3, hidden_sizes=[16], head_size=16, num_slots=num_slots)
    theirs = copy.deepcopy(ours)
    batch = batch_of(num_slots=num_slots)
    loss = PPOLoss(ours, clip_value=clip_value, entropy_coefficient=entropy_coefficient)
    module = PolicyValueModule(theirs)
    reference = ClipPPOLoss(
        module,
        module,
        clip_epsilon=0.2,
        clip_value=clip_value,
        critic_coeff=0.5,
        entropy_coeff=entropy_coefficient,
        normalize_advantage=True,
        loss_critic_type="l2",
        functional=False,
    )
    reference.set_keys(sample_log_prob="action_log_prob")
    found, expected = loss(batch.clone()), reference(batch.clone())
    for name in loss.out_keys:
        assert float(found[name].detach()) == pytest.approx(float(expected[name].detach()), abs=1e-6), name
    mine = gradients(ours, sum(found.values(), torch.zeros(())))
    other = gradients(theirs, sum((expected[name] for name in loss.out_keys), torch.zeros(())))
    assert mine.keys() == other.keys() and len(mine) > 4
    for name, value in mine.items():
        torch.testing.assert_close(value, other[name], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    "arguments",
    [
        {"clip": 1.0},
        {"clip": 0.0},
        {"clip_value": 0.0},
        {"value_coefficient": 0.0},
        {"value_coefficient": float("inf")},
        {"entropy_coefficient": -0.1},
    ],
)
def test_wrong_arguments_are_named(arguments: dict[str, float]) -> None:
    ((name, value),) = arguments.items()
    with pytest.raises(ValueError, match=f"^{name}={value}"):
        PPOLoss(PolicyValueNetwork(4, 2), **arguments)  # type: ignore[arg-type]


def test_memory_learns_from_the_steps_of_a_sequence_that_are_not_padding() -> None:
    """The losses of two sequences, one of them padded, are those of their five steps one by one."""
    network = PolicyValueNetwork(4, 3, hidden_sizes=[8], head_size=8, core="gru")
    loss = PPOLoss(network, in_keys=["observation", "memory"], clip_value=0.1, entropy_coefficient=0.01)
    steps = batch_of(6)
    steps["memory"] = torch.randn(6, network.core.state_size)
    batch = steps.reshape(2, 3)
    batch["is_init"] = torch.tensor([[False, False, True], [False, False, False]])
    batch["learning_mask"] = torch.tensor([[True, True, True], [True, True, False]])
    found = loss(batch)
    logits, values = [], []
    for row in batch:
        state = row["memory"][:1]
        for step in row.unsqueeze(-1):
            state = torch.zeros_like(state) if step["is_init"] else state
            features, state = network.step(step["observation"], state)
            logits.append(network.policy(features))
            values.append(network.value.precise(features))
    flat = batch.reshape(-1)[:5]
    constant = Constant(torch.cat(logits[:5]).detach(), torch.cat(values[:5]).detach())
    expected = PPOLoss(constant, clip_value=0.1, entropy_coefficient=0.01)(flat)  # type: ignore[arg-type]
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value)
    assert torch.equal(batch["diagnostics"][1, 2], flat["diagnostics"][0])
    sum(found.values()).backward()  # type: ignore[union-attr]
    assert all(parameter.grad is not None for parameter in network.parameters())
    with pytest.raises(ValueError, match=r"batch has size \(6,\)"):
        loss(steps)
