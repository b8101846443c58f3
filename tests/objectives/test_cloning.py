"""The loss of behaviour cloning, by hand."""

from __future__ import annotations

import math

import pytest
import torch
from tensordict import TensorDict
from torch import Tensor, nn

from tm_torchrl.modules import MLPIQNetwork
from tm_torchrl.modules.policy_value import PolicyValueNetwork
from tm_torchrl.objectives import CloningLoss


class Given(nn.Module):
    """A network whose logits are given as observations."""

    num_slots: int | None = None

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Identity()
        self.encoder.num_features = 2
        self.scale = nn.Parameter(torch.ones(()))

    def features(self, logits: Tensor) -> Tensor:
        return logits

    def policy(self, features: Tensor) -> Tensor:
        return features * self.scale


def batch(logits: list, action: list, is_labelled: list | None = None) -> TensorDict:
    labels = torch.tensor(action)
    known = torch.ones(labels.shape[:2], dtype=torch.bool) if is_labelled is None else torch.tensor(is_labelled)
    found = {"observation": torch.tensor(logits), "action": labels, "is_labelled": known}
    return TensorDict(found, [len(logits)])


LOG3 = math.log(3.0)  # logits of 3 to 1, so probabilities of 3/4 and 1/4


def test_cross_entropy_and_share_of_right_actions_by_hand() -> None:
    given = batch([[LOG3, 0.0], [LOG3, 0.0]], [[0], [1]])
    loss = CloningLoss(Given(), num_actions=2)(given)["loss"]
    assert float(loss) == pytest.approx((math.log(4 / 3) + math.log(4)) / 2)
    assert given["diagnostics"].tolist() == [[0.5], [0.5]]


def test_a_temperature_divides_the_logits() -> None:
    given = batch([[0.1 * LOG3, 0.0]], [[0]])
    assert float(CloningLoss(Given(), num_actions=2, temperature=0.1)(given)["loss"]) == pytest.approx(math.log(4 / 3))


def test_label_smoothing_by_hand() -> None:
    """A tenth of the label is spread over both actions: 0.95 and 0.05."""
    loss = CloningLoss(Given(), num_actions=2, label_smoothing=0.1)(batch([[LOG3, 0.0]], [[0]]))["loss"]
    assert float(loss) == pytest.approx(0.95 * math.log(4 / 3) + 0.05 * math.log(4))


def test_labels_spread_over_actions_that_cost_little_more() -> None:
    """Log 3 times the temperature more is a third of the weight. What was not tried counts nothing."""
    given = batch([[LOG3, 0.0], [LOG3, 0.0]], [[0], [1]])
    given["regret"] = torch.tensor([[[0.0, 0.01 * LOG3]], [[1000.0, 0.0]]])
    loss = CloningLoss(Given(), num_actions=2, label_temperature=0.01)(given)["loss"]
    assert float(loss) == pytest.approx((0.75 * math.log(4 / 3) + 0.25 * math.log(4) + math.log(4)) / 2)
    assert given["diagnostics"].tolist() == [[0.5], [0.5]]
    weights = torch.tensor([0.5, 1.5])  # of the chosen actions, 0 and 1
    loss = CloningLoss(Given(), num_actions=2, label_temperature=0.01, class_weights=weights)(given)["loss"]
    expected = 0.5 * (0.75 * math.log(4 / 3) + 0.25 * math.log(4)) + 1.5 * math.log(4)
    assert float(loss) == pytest.approx(expected / 2)


def test_weights_of_actions_by_hand() -> None:
    loss = CloningLoss(Given(), num_actions=2, class_weights=torch.tensor([0.5, 1.5]))
    found = loss(batch([[LOG3, 0.0], [LOG3, 0.0]], [[0], [1]]))["loss"]
    assert float(found) == pytest.approx((0.5 * math.log(4 / 3) + 1.5 * math.log(4)) / 2)


def test_offsets_are_weighted_and_missing_labels_count_nothing() -> None:
    """The later action's layer has zero weights, so both actions are equally likely: log 2. One of two is labelled."""
    loss = CloningLoss(Given(), num_actions=2, offset_weights=[1.0, 0.5])
    nn.init.zeros_(loss.later.weight)
    nn.init.zeros_(loss.later.bias)
    given = batch([[LOG3, 0.0], [LOG3, 0.0]], [[0, 0], [0, 1]], [[True, True], [True, False]])
    expected = (2 * math.log(4 / 3) + 0.5 * math.log(2)) / (2 + 0.5)
    assert float(loss(given)["loss"]) == pytest.approx(expected, rel=1e-6)
    assert given["diagnostics"][0].tolist() == [1.0, 1.0]  # of equal logits the first is the greatest
    assert loss.logits(given).shape == (2, 2, 2)


def test_only_advantages_learn_from_it() -> None:
    """The value of a state is the same for all its actions, so its gradient is zero but for rounding."""
    network = MLPIQNetwork(2, 3, hidden_sizes=[8], head_size=8)
    loss = CloningLoss(network, num_actions=3)(batch([[1.0, 2.0], [0.0, 1.0]], [[0], [2]]))["loss"]
    loss.backward()
    size = {name: float(parameter.grad.abs().max()) for name, parameter in network.named_parameters()}
    assert all(size[name] > 1e-4 for name in size if "advantage" in name and "weight" in name)
    assert all(size[name] < 1e-6 for name in size if "value" in name)


def test_blocks_of_actions_mean_over_slots() -> None:
    network = PolicyValueNetwork(2, 3, num_slots=5, hidden_sizes=[8], head_size=None)
    loss = CloningLoss(network, num_actions=3, offset_weights=[1.0, 1.0])
    given = batch([[1.0, 2.0]], [[[0, 1, 2, 0, 1], [0, 0, 0, 0, 0]]])
    assert loss.logits(given).shape == (1, 2, 5, 3)
    assert torch.isfinite(loss(given)["loss"])
    assert given["diagnostics"].shape == (1, 2)


@pytest.mark.parametrize("make", [PolicyValueNetwork, MLPIQNetwork])
def test_it_learns_to_foretell(make: type) -> None:
    torch.manual_seed(0)
    network = make(2, 3, hidden_sizes=[16], head_size=16)
    loss = CloningLoss(network, num_actions=3, offset_weights=[1.0, 1.0], temperature=0.1)
    optimizer = torch.optim.Adam(loss.parameters(), lr=1e-2)
    given = batch([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]], [[0, 1], [1, 2], [2, 0]])
    for _ in range(200):
        optimizer.zero_grad()
        loss(given)["loss"].backward()
        optimizer.step()
    assert given["diagnostics"][0].tolist() == [1.0, 1.0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"offset_weights": []}, r"offset_weights=\[\]"),
        ({"offset_weights": [1.0, 0.0]}, "offset_weights="),
        ({"temperature": 0.0}, "temperature=0.0"),
        ({"label_smoothing": 1.0}, "label_smoothing=1.0"),
    ],
)
def test_wrong_options_are_named(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CloningLoss(PolicyValueNetwork(4, 2), num_actions=2, **options)
