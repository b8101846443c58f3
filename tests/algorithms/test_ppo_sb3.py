"""Advantages and updates of PPO, equal to those of stable-baselines3 on equal numbers."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from tensordict import TensorDict
from torch import Tensor

pytest.importorskip("stable_baselines3")

import gymnasium
from stable_baselines3 import PPO
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor

from tm_torchrl.algorithms import Learner
from tm_torchrl.data import Rollouts
from tm_torchrl.modules import PolicyValueNetwork
from tm_torchrl.objectives import PPOLoss
from tm_torchrl.objectives.clipped_policy import DIAGNOSTICS

LANES, STEPS, GAMMA, LAMBDA = 4, 32, 0.98, 0.9


class Encoder(BaseFeaturesExtractor):
    """The encoder of ours, in their policy."""

    def __init__(self, space: gymnasium.spaces.Box, network: PolicyValueNetwork) -> None:
        super().__init__(space, features_dim=16)
        self.encoder = network.encoder

    def forward(self, seen: Tensor) -> Tensor:
        return self.encoder(seen)


def their_ppo(network: PolicyValueNetwork, *, clip_value: float | None, entropy: float) -> PPO:
    """Theirs with the weights of ours: one shared layer, then a single layer for policy and value each."""
    found = PPO(
        "MlpPolicy",
        gymnasium.make("CartPole-v1"),
        learning_rate=1e-3,
        n_steps=STEPS,
        batch_size=STEPS,
        n_epochs=2,
        gamma=GAMMA,
        gae_lambda=LAMBDA,
        clip_range=0.2,
        clip_range_vf=clip_value,
        ent_coef=entropy,
        vf_coef=0.5,
        max_grad_norm=0.5,
        device="cpu",
        policy_kwargs={
            "net_arch": [],
            "features_extractor_class": Encoder,
            "features_extractor_kwargs": {"network": PolicyValueNetwork(4, 2, hidden_sizes=[16], head_size=None)},
        },
    )
    found.policy.features_extractor.encoder.load_state_dict(network.encoder.state_dict())
    found.policy.action_net.load_state_dict(network.policy.advantage[-1].state_dict())
    found.policy.value_net.load_state_dict(network.value[-1].state_dict())
    found.batch_size = LANES * STEPS  # its constructor knows one environment only
    found.set_logger(Logger(None, []))
    return found


def drive() -> TensorDict:
    """Random steps ``[N, T]`` of which some end an episode, and others are cut off."""
    torch.manual_seed(0)
    states = torch.randn(LANES, STEPS + 1, 4)
    ends = torch.rand(LANES, STEPS, 1) < 0.08
    cuts = (torch.rand(LANES, STEPS, 1) < 0.08) & ~ends
    assert ends.any() and cuts.any()
    following = states[:, 1:].clone()
    following[(ends | cuts).squeeze(-1)] = torch.randn(int((ends | cuts).sum()), 4)  # the episode's last state
    after = {
        "observation": following,
        "reward": torch.randn(LANES, STEPS, 1),
        "done": ends | cuts,
        "terminated": ends,
    }
    entries = {
        "observation": states[:, :-1].clone(),
        "action": torch.randint(2, (LANES, STEPS)),
        "action_log_prob": torch.tensor(0.5).log() + 0.3 * torch.randn(LANES, STEPS),
        "next": after,
    }
    return TensorDict(entries, [LANES, STEPS])


def fill(buffer: RolloutBuffer, steps: TensorDict, value: Any) -> None:
    """As ``collect_rollouts`` does: a step that is cut off is paid the value of its last state."""
    is_start = np.ones(LANES, bool)
    for t in range(STEPS):
        step = steps[:, t]
        is_cut = (step["next", "done"] & ~step["next", "terminated"]).squeeze(-1)
        reward = step["next", "reward"].squeeze(-1) + GAMMA * is_cut * value(step["next", "observation"]).squeeze(-1)
        seen, action = step["observation"].numpy(), step["action"].numpy()
        buffer.add(
            seen, action, reward.numpy(), is_start, value(step["observation"]).squeeze(-1), step["action_log_prob"]
        )
        is_start = step["next", "done"].squeeze(-1).numpy()
    last = value(steps[:, -1]["next", "observation"]).squeeze(-1)
    buffer.compute_returns_and_advantage(last, is_start)


@pytest.mark.parametrize(("clip_value", "entropy"), [(None, 0.0), (0.3, 0.02)])
def test_advantages_and_two_updates_are_theirs(clip_value: float | None, entropy: float) -> None:
    steps = drive()
    network = PolicyValueNetwork(4, 2, hidden_sizes=[16], head_size=None)
    with torch.no_grad():
        network.policy.advantage[-1].weight.mul_(50.0)  # type: ignore[operator,union-attr]
    theirs = their_ppo(network, clip_value=clip_value, entropy=entropy)
    theirs.rollout_buffer = RolloutBuffer(
        STEPS, theirs.observation_space, theirs.action_space, gamma=GAMMA, gae_lambda=LAMBDA, n_envs=LANES
    )
    before = [weights.detach().clone() for weights in network.parameters()]
    with torch.no_grad():
        fill(theirs.rollout_buffer, steps, network.values)
    memory = Rollouts(
        frames_per_update=LANES * STEPS,
        num_epochs=2,
        minibatch_size=LANES * STEPS,
        gae_lambda=LAMBDA,
        gamma=GAMMA,
        values=torch.no_grad()(lambda states: network.values(states["observation"])),
        diagnostics=DIAGNOSTICS,
    )
    memory.extend(steps)
    loss = PPOLoss(network, clip=0.2, clip_value=clip_value, entropy_coefficient=entropy)
    learner = Learner(loss, partial(torch.optim.Adam, eps=1e-5), learning_rate=1e-3, clip_norm=0.5)  # type: ignore[arg-type]
    buffer, is_checked = theirs.rollout_buffer, False
    for batch in memory.batches():
        if not is_checked:
            order = batch["observation"][:, 0].argsort()
            same = torch.from_numpy(buffer.observations.copy()).reshape(-1, 4)[:, 0].argsort()
            for ours, other in (("advantage", buffer.advantages), ("value_target", buffer.returns)):
                found = torch.from_numpy(other.copy()).flatten()[same]
                torch.testing.assert_close(batch[ours].squeeze(-1)[order], found, rtol=1e-4, atol=1e-5)
            is_checked = True
        learner.update(batch)
        memory.seen(batch)
    theirs.train()
    policy = theirs.policy
    for ours, other in (
        (network.encoder, policy.features_extractor.encoder),
        (network.policy.advantage[-1], policy.action_net),
        (network.value[-1], policy.value_net),
    ):
        for mine, weights in zip(ours.parameters(), other.parameters(), strict=True):
            torch.testing.assert_close(mine, weights, rtol=1e-3, atol=2e-5)
    moved = [float((now.detach() - was).abs().max()) for now, was in zip(network.parameters(), before, strict=True)]
    assert min(moved) > 1e-4, "both have moved by more than they may differ"
    shown, logged = memory.metrics(), theirs.logger.name_to_value
    assert shown["entropy"] == pytest.approx(-logged["train/entropy_loss"], abs=1e-4)
    assert shown["clip_share"] == pytest.approx(logged["train/clip_fraction"], abs=1e-4)
    assert shown["explained_variance"] == pytest.approx(logged["train/explained_variance"], abs=1e-3)
