"""The margin of demonstrated actions: by hand, inside the losses, and only where actions are demonstrated."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.objectives.cases import every_network, losses_of, make_batch, make_loss
from tm_torchrl.modules import MLPQRNetwork
from tm_torchrl.objectives import DemonstrationMargin, QRDQNLoss


def test_by_hand() -> None:
    margin = DemonstrationMargin(0.5, weight=2.0)
    values = torch.tensor([[1.0, 3.0, 2.8], [1.0, 3.0, 2.0], [1.0, 3.0, 2.0], [1.0, 3.0, 2.0]])
    # Its action is best by 0.2 of 0.5; best by more; 2 behind the best one, and 0.5; the same, not demonstrated.
    action, is_demonstration = torch.tensor([1, 1, 0, 0]), torch.tensor([True, True, True, False])
    found = margin(values, action, is_demonstration)
    assert found.tolist() == pytest.approx([2.0 * 0.3, 0.0, 2.0 * 2.5, 0.0])
    assert torch.equal(margin(values, action, is_demonstration.unsqueeze(1)), found)


def test_blocks_by_hand() -> None:
    values = torch.tensor([[[1.0, 2.0], [5.0, 3.0]]])  # slot 0 is 1 + 0.5 behind, slot 1 is ahead by more than 0.5
    found = DemonstrationMargin(0.5)(values, torch.tensor([[0, 0]]), torch.tensor([True]))
    assert found.tolist() == pytest.approx([0.75])


@every_network
def test_it_is_a_loss_of_its_own(loss_class: Any, network_class: Any) -> None:
    batch = make_batch(6)
    plain = make_loss(loss_class, network_class, reduction="none")
    given = make_loss(loss_class, network_class, reduction="none", margin=DemonstrationMargin(10.0))
    assert given.out_keys == [*plain.out_keys, "loss_margin"] and "loss_margin" not in plain.out_keys
    without = losses_of(given, batch)
    assert without["loss_margin"].tolist() == [0.0] * 6  # nothing is marked
    batch["is_demonstration"] = torch.tensor([True, False] * 3)
    expected, found = losses_of(plain, batch), losses_of(given, batch)
    assert all(torch.equal(found[key], expected[key]) for key in expected)
    assert (found["loss_margin"][::2] > 0).all() and found["loss_margin"][1::2].tolist() == [0.0] * 3


def test_its_gradient_raises_the_demonstrated_action_above_the_others() -> None:
    loss, batch = make_loss(QRDQNLoss, MLPQRNetwork, margin=DemonstrationMargin(1.0)), make_batch(16)
    batch["is_demonstration"] = torch.ones(16, dtype=torch.bool)
    optimizer = torch.optim.Adam(loss.parameters(), lr=0.01)
    for _ in range(200):
        optimizer.zero_grad()
        loss(batch)["loss_margin"].backward()
        optimizer.step()
    values = loss.evaluate(loss.value_network_params, batch, 6).mean()
    chosen = values.gather(1, batch["action"].view(16, 1))
    others = values.scatter(1, batch["action"].view(16, 1), -torch.inf).amax(1, keepdim=True)
    assert (chosen - others > 0.9).all()


def test_another_key() -> None:
    loss, batch = make_loss(QRDQNLoss, MLPQRNetwork, margin=DemonstrationMargin(10.0)), make_batch(4)
    loss.set_keys(is_demonstration=("info", "shown"))
    batch["info", "shown"] = torch.ones(4, 1, dtype=torch.bool)
    assert losses_of(loss, batch)["loss_margin"] > 0


@pytest.mark.parametrize("options", [{"size": 0.0}, {"size": -1.0}, {"size": float("nan")}, {"size": 1.0, "weight": 0}])
def test_invalid_margins(options: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=f"{list(options)[-1]}="):
        DemonstrationMargin(**options)
