"""TorchRL's DQN loss with the names of our estimators: targets by hand, invalid arguments, an unchanged state dict."""

from __future__ import annotations

import pytest
import torch
from tensordict import TensorDict
from tensordict.nn import TensorDictModule
from torch import nn
from torchrl.data import Categorical

from tm_torchrl.modules import MLPQRNetwork, QuantileActor
from tm_torchrl.objectives import DQNLoss, HardUpdate


class Linear(nn.Module):
    """Values of two actions: weight * observation."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([1.0, 2.0]))

    def forward(self, observation: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        values = observation * self.weight
        best = values.max(-1)
        return best.indices, values, best.values.unsqueeze(-1)


def by_hand() -> DQNLoss:
    """Online weights 1 and 2, target weights 3 and 5."""
    keys = ["action", "action_value", "chosen_action_value"]
    module = TensorDictModule(Linear(), in_keys=["observation"], out_keys=keys)
    loss = DQNLoss(module, action_space="categorical")
    loss.target_value_network_params["module", "weight"].data.copy_(torch.tensor([3.0, 5.0]))
    return loss


def transition(*, terminated: bool, steps: int = 1, after: float = 1.0) -> TensorDict:
    flag = torch.tensor([[terminated]])
    after_step = {"observation": torch.tensor([[after]]), "reward": torch.tensor([[10.0]])}
    return TensorDict(
        {
            "observation": torch.tensor([[4.0]]),
            "action": torch.tensor([0]),
            "steps_to_next_obs": torch.tensor([[steps]]),
            "next": {**after_step, "done": flag, "terminated": flag.clone()},
        },
        [1],
    )


@pytest.mark.parametrize(
    ("estimator", "terminated", "steps", "after", "expected"),
    [
        # The value is 1 * 4. After 1.0 the online network says 1 and 2, the target network 3 and 5: both take action 1.
        ("greedy", False, 1, 1.0, 10 + 0.5 * 5 - 4),
        ("double", False, 1, 1.0, 10 + 0.5 * 5 - 4),
        # After -1.0 it is -1 and -2 against -3 and -5: both take action 0.
        ("greedy", False, 3, -1.0, 10 + 0.125 * -3 - 4),
        ("double", False, 3, -1.0, 10 + 0.125 * -3 - 4),
        ("double", True, 1, 1.0, 10 - 4),
    ],
)
def test_targets_by_hand(estimator: str, terminated: bool, steps: int, after: float, expected: float) -> None:
    loss = by_hand().make_value_estimator(estimator, gamma=0.5)
    batch = transition(terminated=terminated, steps=steps, after=after)
    assert loss(batch)["loss"].item() == expected**2
    assert batch["td_error"].tolist() == [[expected**2]]


def test_double_targets_let_the_online_network_choose() -> None:
    """Online weights 2 and 1 choose action 0, whose target value is 3; greedy targets take the target network's 5."""
    found = {}
    for estimator in ("greedy", "double"):
        loss = by_hand().make_value_estimator(estimator, gamma=0.5)
        loss.value_network_params["module", "weight"].data.copy_(torch.tensor([2.0, 1.0]))
        found[estimator] = loss(transition(terminated=False))["loss"].item()
    assert found == {"greedy": (10 + 2.5 - 8) ** 2, "double": (10 + 1.5 - 8) ** 2}


def test_a_quantile_actor_of_one_quantile_learns() -> None:
    torch.manual_seed(0)
    actor = QuantileActor(MLPQRNetwork(1, 2, num_fractions=1), spec=Categorical(2))
    loss = DQNLoss(actor).make_value_estimator("double", gamma=0.5)
    target = HardUpdate(loss, period=1)
    (group,) = loss.parameter_groups()
    assert len(group["params"]) == len(list(actor.parameters())) and group["lr_scale"] == 1.0
    optimizer = torch.optim.Adam(group["params"], lr=1e-2)
    for _ in range(200):
        optimizer.zero_grad()
        value = loss(transition(terminated=True))["loss"]
        value.backward()
        optimizer.step()
        target.step()
    with torch.no_grad():
        found = actor(TensorDict({"observation": torch.tensor([[4.0]])}, [1]))["action_value"][0, 0].item()
    assert found == pytest.approx(10.0, abs=0.01)


def test_the_state_dict_does_not_depend_on_use() -> None:
    loss, other, parent = by_hand(), by_hand(), nn.ModuleList([by_hand()])
    loss(transition(terminated=False))
    assert list(loss.state_dict()) == list(other.state_dict())
    assert any("gamma" in key for key in loss.state_dict())
    by_hand().load_state_dict(loss.state_dict())
    parent.load_state_dict({f"0.{key}": value for key, value in loss.state_dict().items()})


@pytest.mark.parametrize("estimator", ["greedy", "double"])
@pytest.mark.parametrize("folder", [(), ("agent",)], ids=["flat", "nested"])
def test_keys_of_the_actor(estimator: str, folder: tuple[str, ...]) -> None:
    found = []
    for names in ({}, {name: (*folder, f"my_{name}") for name in ("action", "action_value", "chosen_action_value")}):
        torch.manual_seed(0)
        options = {f"{name}_key": key for name, key in names.items()}
        actor = QuantileActor(MLPQRNetwork(1, 2, num_fractions=1), spec=Categorical(2), **options)
        loss = DQNLoss(actor, double_dqn=estimator == "double")
        batch = transition(terminated=False)
        if names:
            batch.rename_key_("action", names["action"])
            value = names.pop("chosen_action_value")
            loss.set_keys(value=value, priority=(*folder, "surprise"), **names)
        found.append(loss(batch)["loss"].item())
    assert batch[(*folder, "surprise")].shape == (1, 1)
    assert found[0] == found[1]
    torch.manual_seed(0)
    actor = QuantileActor(MLPQRNetwork(1, 2, num_fractions=1), spec=Categorical(2))
    assert DQNLoss(actor).make_value_estimator(estimator)(transition(terminated=False))["loss"].item() == found[0]


@pytest.mark.parametrize("estimator", ["greedy", "double"])
def test_masked_actions_are_never_chosen(estimator: str) -> None:
    torch.manual_seed(0)
    network = MLPQRNetwork(1, 2, num_fractions=1)
    actor = QuantileActor(network, spec=Categorical(2), action_mask_key="action_mask")
    loss = DQNLoss(actor, reduction="none").make_value_estimator(estimator, gamma=0.5)
    batch, found = transition(terminated=False), []
    batch["action_mask"] = torch.ones(1, 2, dtype=torch.bool)
    values = network(batch["next", "observation"])[0, :, 0].tolist()
    own = network(batch["observation"])[0, 0, 0].item()
    for action in range(2):
        batch["next", "action_mask"] = torch.arange(2).unsqueeze(0) == action
        found.append(loss(batch)["loss"].item())
    assert found == pytest.approx([(10 + 0.5 * value - own) ** 2 for value in values])


def test_invalid_arguments() -> None:
    with pytest.raises(ValueError, match="munchausen"):
        by_hand().make_value_estimator("munchausen", gamma=0.5)
    noisy = QuantileActor(MLPQRNetwork(1, 2, num_fractions=1, linear="noisy"), spec=Categorical(2))
    with pytest.raises(ValueError, match="value_network: it has noisy layers"):
        DQNLoss(noisy)
    actor = QuantileActor(MLPQRNetwork(1, 2, num_fractions=1), spec=Categorical(2))
    with pytest.raises(ValueError, match="loss_function='huber'"):
        DQNLoss(actor, loss_function="huber")
    with pytest.raises(ValueError, match="delay_value=False"):
        DQNLoss(actor, delay_value=False).make_value_estimator("double")
