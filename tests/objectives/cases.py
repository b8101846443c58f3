"""Small losses: each with every network that it accepts and every estimator; and batches for them."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from tensordict import TensorDict
from torch import Tensor
from torch.nn.functional import one_hot
from torchrl.data import Categorical, OneHot

from tm_torchrl.modules import (
    MLPFQFNetwork,
    MLPIQNetwork,
    MLPNQNetwork,
    MLPQRNetwork,
    QuantileActor,
    QuantileNetwork,
)
from tm_torchrl.objectives import DQNLoss, FQFLoss, IQNLoss, QRDQNLoss
from tm_torchrl.objectives.quantile_loss import QuantileLoss

Loss = QuantileLoss | DQNLoss

NUM_INPUTS, NUM_ACTIONS, NUM_FRACTIONS, GAMMA = 4, 3, 6, 0.9

COMBINATIONS = [
    (IQNLoss, MLPIQNetwork),
    (IQNLoss, MLPNQNetwork),
    (QRDQNLoss, MLPQRNetwork),
    (QRDQNLoss, MLPNQNetwork),
    (QRDQNLoss, MLPIQNetwork),
    (FQFLoss, MLPFQFNetwork),
]
ESTIMATORS: dict[str, dict[str, float]] = {
    "greedy": {},
    "double": {},
    "soft": {"temperature": 0.5},
    "munchausen": {"temperature": 0.5, "alpha": 0.8, "clip": -0.6},
}

every_network = pytest.mark.parametrize(
    ("loss_class", "network_class"), COMBINATIONS, ids=[f"{a.__name__}-{b.__name__}" for a, b in COMBINATIONS]
)
every_estimator = pytest.mark.parametrize("estimator", ESTIMATORS)
WITH_ESTIMATOR = [(*pair, estimator) for pair in COMBINATIONS for estimator in ESTIMATORS]
WITH_ESTIMATOR += [(DQNLoss, MLPQRNetwork, estimator) for estimator in ("greedy", "double")]
every_loss = pytest.mark.parametrize(  # with every network and estimator, and DQN
    ("loss_class", "network_class", "estimator"),
    WITH_ESTIMATOR,
    ids=[f"{loss.__name__}-{network.__name__}-{estimator}" for loss, network, estimator in WITH_ESTIMATOR],
)


def small(network_class: type[QuantileNetwork], **options: Any) -> QuantileNetwork:
    sizes = {"hidden_sizes": (16,), "head_size": 8, "num_fractions": NUM_FRACTIONS}
    num_actions = options.pop("num_actions", NUM_ACTIONS)
    return network_class(NUM_INPUTS, num_actions, **(sizes | options))


def make_loss(
    loss_class: type[Loss],
    network_class: type[QuantileNetwork],
    estimator: str = "greedy",
    *,
    network_options: dict[str, Any] | None = None,
    seed: int = 0,
    **options: Any,
) -> Any:
    """A loss whose target network differs from its online network."""
    torch.manual_seed(seed)
    options.setdefault("action_space", "categorical")
    network: Any = small(network_class, **(network_options or {}))
    if loss_class is IQNLoss:
        options = {"num_fractions": NUM_FRACTIONS, "num_target_fractions": 4} | options
    if loss_class is DQNLoss:
        spec = OneHot(NUM_ACTIONS) if options["action_space"] == "one_hot" else Categorical(NUM_ACTIONS)
        network = QuantileActor(network, spec=spec)
    loss = loss_class(network, **options)
    if options.get("delay_value", True):
        for key, value in loss.target_value_network_params.items(True, True):
            if key[-1].startswith(("weight", "bias")) and not key[-1].endswith("epsilon"):
                value.data.add_(0.1 * torch.randn_like(value))
    return loss.make_value_estimator(estimator, gamma=GAMMA, **ESTIMATORS[estimator])


def make_batch(*shape: int, num_slots: int | None = None, is_one_hot: bool = False, seed: int = 1) -> TensorDict:
    """Random transitions, of which every third is terminated."""
    generator = torch.Generator().manual_seed(seed)
    action = torch.randint(NUM_ACTIONS, (*shape, *((num_slots,) if num_slots else ())), generator=generator)
    terminated = (torch.arange(math.prod(shape)) % 3 == 1).view(*shape, 1)
    return TensorDict(
        {
            "observation": torch.randn(*shape, NUM_INPUTS, generator=generator),
            "action": one_hot(action, NUM_ACTIONS) if is_one_hot else action,
            "next": {
                "observation": torch.randn(*shape, NUM_INPUTS, generator=generator),
                "reward": torch.randn(*shape, 1, generator=generator),
                "done": terminated.clone(),
                "terminated": terminated,
            },
        },
        shape,
    )


def full_batch(*shape: int) -> TensorDict:
    """Transitions with all entries that are optional."""
    batch = make_batch(*shape)
    generator = torch.Generator().manual_seed(2)
    batch["priority_weight"] = torch.rand(*shape, generator=generator)
    batch["steps_to_next_obs"] = torch.randint(1, 4, (*shape, 1), generator=generator)
    batch["next", "action_mask"] = torch.rand(*shape, NUM_ACTIONS, generator=generator) < 0.6
    return batch


def losses_of(loss: Loss, batch: TensorDict, *, seed: int = 7) -> dict[str, Tensor]:
    """All outputs, with the same fractions and noise for the same seed; the batch is not changed."""
    torch.manual_seed(seed)
    return {key: value.detach().clone() for key, value in loss(batch.clone()).items()}


def targets_of(loss: QuantileLoss, batch: TensorDict, *, seed: int = 7) -> Tensor:
    """The samples ``[B, M]`` of the target."""
    torch.manual_seed(seed)
    estimate = loss.value_estimator.value_estimate
    return estimate(batch, loss.target_value_network_params, params=loss.value_network_params)


def assert_equal(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        assert torch.equal(found[key], value), key
