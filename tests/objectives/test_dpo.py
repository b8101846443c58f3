"""DPO's loss: hand-worked numbers, gradients, padding."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from tensordict import TensorDict

from tm_torchrl.modules import PolicyValueNetwork
from tm_torchrl.objectives import DPOLoss


def batch_of(network: PolicyValueNetwork, *, pairs: int = 3, steps: int = 4) -> TensorDict:
    torch.manual_seed(1)
    shape = (pairs, 2, steps)
    entries = {"observation": torch.randn(*shape, 4), "action": torch.randint(2, shape)}
    mask = torch.ones(shape, dtype=torch.bool)
    mask[0, 1, 2:] = False  # an episode of two steps
    return TensorDict({"steps": TensorDict(entries, shape), "mask": mask}, [pairs])


@pytest.mark.parametrize("per_step", [False, True])
def test_hand_worked(per_step: bool) -> None:
    """With a reference of probabilities 1/2, each log-ratio is log(2 p), summed over an episode or averaged."""
    network = PolicyValueNetwork(4, 2, hidden_sizes=(8,), head_size=8)
    loss = DPOLoss(network, temperature=0.5, per_step=per_step, cloning_coefficient=2.0, entropy_coefficient=3.0)
    with torch.no_grad():
        for parameter in loss.reference.parameters():
            parameter.zero_()
    batch = batch_of(network)
    losses, kls, cloned, right, margins, entropies = [], [], [], [], [], []
    for p in range(3):
        scores = []
        for side in (0, 1):
            ratios = []
            for t in range(int(batch["mask"][p, side].sum())):
                step = batch["steps"][p, side, t]
                with torch.no_grad():
                    probability = float(network.logits(step["observation"]).softmax(-1)[step["action"]])
                ratios.append(math.log(2 * probability))
                entropies.append(-sum(p * math.log(p) for p in (probability, 1 - probability)))
                kls.append(2 * probability - ratios[-1] - 1)
                if side == 0:
                    cloned.append(math.log(probability))
            scores.append(sum(ratios) / (len(ratios) if per_step else 1))
        margins.append(0.5 * (scores[0] - scores[1]))
        losses.append(math.log(1 + math.exp(-margins[-1])))
        right.append(float(margins[-1] > 0))
    found = {name: float(value.detach()) for name, value in loss(batch).items()}
    expected = {"loss_preference": sum(losses) / 3, "loss_cloning": -2.0 * sum(cloned) / len(cloned)}
    entropy = sum(entropies) / len(entropies)
    expected["loss_entropy"] = -3.0 * entropy
    assert found == pytest.approx(expected, rel=1e-5)
    diagnostics = [sum(kls) / len(kls), sum(right) / 3, sum(margins) / 3, entropy]
    assert batch["diagnostics"][0].tolist() == pytest.approx(diagnostics, rel=1e-3, abs=1e-6)


@pytest.mark.parametrize("num_slots", [None, 3])
def test_updates_raise_the_preferred_and_change_neither_reference_nor_value(num_slots: int | None) -> None:
    torch.manual_seed(0)
    network = PolicyValueNetwork(4, 2, hidden_sizes=(8,), head_size=8, num_slots=num_slots)
    loss = DPOLoss(network, temperature=1.0)
    batch = batch_of(network)
    if num_slots:
        batch["steps", "action"] = torch.randint(2, (3, 2, 4, num_slots))
    before = {key: value.clone() for key, value in loss.state_dict().items()}
    optimizer = torch.optim.Adam(loss.parameter_groups()[0]["params"], lr=1e-2)
    for _ in range(100):
        optimizer.zero_grad()
        loss(batch)["loss_preference"].backward()
        optimizer.step()
    assert batch["diagnostics"][0, 1] == 1
    after: Any = loss.state_dict()
    changed = [key for key in before if not torch.equal(before[key], after[key])]
    assert changed and not any("reference" in key or "value" in key for key in changed)


def test_padding_does_not_count() -> None:
    network = PolicyValueNetwork(4, 2, hidden_sizes=(8,), head_size=8)
    loss, batch = DPOLoss(network, cloning_coefficient=1.0), batch_of(network)
    with torch.no_grad():
        for parameter in loss.reference.parameters():
            parameter.zero_()
    first = loss(batch)
    batch["steps", "observation"][~batch["mask"]] = torch.nan
    second = loss(batch)
    assert all(torch.equal(value, second[name]) for name, value in first.items())


@pytest.mark.parametrize(
    ("name", "value"), [("temperature", 0.0), ("cloning_coefficient", -1.0), ("entropy_coefficient", -1.0)]
)
def test_wrong_arguments(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=name):
        DPOLoss(PolicyValueNetwork(4, 2), **{name: value})
