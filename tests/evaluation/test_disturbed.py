"""Disturbed policies: how often they act at random, and what they see."""

from __future__ import annotations

import pytest
import torch
from tensordict import TensorDict
from tensordict.nn import TensorDictModule
from torch import Tensor

from tm_torchrl.evaluation.disturbed import Disturbed


def policy_of(function: object, key: str = "observation") -> TensorDictModule:
    return TensorDictModule(function, in_keys=[key], out_keys=["action"])  # type: ignore[arg-type]


class Look:
    """A policy that keeps what it sees."""

    def __call__(self, seen: Tensor) -> Tensor:
        self.seen = seen.clone()
        return torch.zeros(len(seen), dtype=torch.int64)


def batch(values: Tensor) -> TensorDict:
    return TensorDict({"observation": values}, batch_size=values.shape[:1])


def test_a_share_of_actions_is_random() -> None:
    """Of 100,000 slots 30 % are random, and 3 of 4 random actions differ from the policy's: 22.5 +- 0.5 %."""
    constant = policy_of(lambda seen: torch.zeros(len(seen), 5, dtype=torch.int64))
    action = Disturbed(constant, num_actions=4, epsilon=0.3)(batch(torch.zeros(20_000, 1)))["action"]
    assert action.shape == (20_000, 5)
    assert 0.22 < (action != 0).double().mean().item() < 0.23


def test_noise_is_seen_and_not_kept() -> None:
    look = Look()
    steps = batch(torch.ones(50_000, 2))
    Disturbed(policy_of(look), num_actions=2, noise=torch.tensor([0.0, 2.0]))(steps)
    assert torch.equal(steps["observation"], torch.ones(50_000, 2))
    assert torch.equal(look.seen[:, 0], torch.ones(50_000))
    assert abs(look.seen[:, 1].std().item() - 2.0) < 0.03 and abs(look.seen[:, 1].mean().item() - 1.0) < 0.03


def test_without_disturbance_it_is_the_policy() -> None:
    steps = batch(torch.arange(6.0).reshape(3, 2))
    policy = policy_of(lambda seen: seen.sum(1).long())
    assert Disturbed(policy, num_actions=12)(steps)["action"].tolist() == [1, 5, 9]


def test_the_same_seed_disturbs_equally() -> None:
    steps = batch(torch.zeros(64, 1))
    policies = [Disturbed(policy_of(Look()), num_actions=9, epsilon=0.5, seed=seed) for seed in (3, 3, 4)]
    found = [policy(steps)["action"].tolist() for policy in policies]
    assert found[0] == found[1] != found[2]


@pytest.mark.parametrize("epsilon", [-0.1, 1.5])
def test_a_share_lies_between_0_and_1(epsilon: float) -> None:
    with pytest.raises(ValueError, match=f"epsilon={epsilon}"):
        Disturbed(policy_of(torch.zeros_like), num_actions=2, epsilon=epsilon)


def test_wrong_images_are_seen_and_not_kept() -> None:
    bank = torch.arange(1, 4, dtype=torch.uint8).view(3, 1, 1, 1).expand(3, 1, 2, 2)
    look = Look()
    steps = TensorDict({"pixels": torch.zeros(300, 1, 2, 2, dtype=torch.uint8)}, batch_size=300)
    Disturbed(policy_of(look, "pixels"), num_actions=2, images=bank)(steps)
    assert not steps["pixels"].any()
    assert look.seen[:, 0, 0, 0].unique().tolist() == [1, 2, 3] and look.seen.dtype == torch.uint8
    assert torch.equal(look.seen, look.seen[:, :, :1, :1].expand_as(look.seen))
