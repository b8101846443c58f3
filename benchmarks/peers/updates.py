"""Learners of tianshou, of sb3-contrib and of ours over the same networks, each with one call for a whole update.

The other libraries come with ``pip install -e ".[bench]" -c constraints.txt``.

An update is: sample from a filled uniform replay, online pass, target, loss, backward pass, Adam step. All networks are
those of ``tm_torchrl.modules`` with the same seed, handed to the others as plain modules, so the arithmetic is equal.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
import torch
from tensordict import TensorDict
from torch import Tensor, nn
from torchrl.data import Categorical

from benchmarks.peers import tianshou
from tm_torchrl.data import make_replay_buffer
from tm_torchrl.modules import (
    CosineEmbedding,
    Decoder,
    DuelingDecoder,
    FixedHead,
    FloatEncoder,
    Hadamard,
    ImplicitHead,
    PixelEncoder,
    PixelFloatEncoder,
    QuantileActor,
    QuantileModule,
    QuantileNetwork,
    StratifiedFractions,
    UniformFractions,
)
from tm_torchrl.objectives import HardUpdate, IQNLoss, QRDQNLoss

NUM_TRANSITIONS = {"mlp": 20_000, "pixels": 2_000}
LEARNING_RATE = 5e-4
PERIOD = 500  # updates between copies of the target network


class Task(NamedTuple):
    """A learning problem: observations, loss, batch."""

    kind: str  # "mlp" or "pixels"
    loss: str  # "qrdqn" or "iqn"
    num_fractions: int
    batch_size: int

    @property
    def num_actions(self) -> int:
        """2 as CartPole, 12 as TrackMania."""
        return 2 if self.kind == "mlp" else 12


def make_network(task: Task, *, shared: bool) -> QuantileNetwork:
    """MLP: 4 -> 256 -> 256, head 256 -> 256 -> actions. Pixels: the Linesight agent's network, dueling."""
    torch.manual_seed(0)
    if task.kind == "mlp":
        encoder: nn.Module = FloatEncoder(4)
        num_features, num_cosines, hidden, decoder = 256, 64, 256, Decoder
    else:
        encoder = PixelFloatEncoder(PixelEncoder(), FloatEncoder(264))
        num_features, num_cosines, hidden, decoder = 768, 128, 512, DuelingDecoder
    if task.loss == "qrdqn":
        head = FixedHead(decoder(num_features, task.num_actions, num_outputs=task.num_fractions, hidden_size=hidden))
        return QuantileNetwork(encoder, head)
    implicit = ImplicitHead(
        CosineEmbedding(num_cosines),
        Hadamard(num_cosines, num_features),
        decoder(num_features, task.num_actions, hidden_size=hidden),
    )
    source = StratifiedFractions(shared=True) if shared else UniformFractions()
    return QuantileNetwork(encoder, implicit, source=source, num_fractions=task.num_fractions)


def transitions(task: Task) -> dict[str, np.ndarray]:
    """Random transitions; one of 20 ends an episode."""
    generator = np.random.default_rng(0)
    num = NUM_TRANSITIONS[task.kind]
    arrays = {
        "action": generator.integers(0, task.num_actions, num),
        "reward": generator.normal(size=num).astype(np.float32),
        "terminated": generator.random(num) < 0.05,
    }
    for name in ("observation", "next_observation"):
        floats = 4 if task.kind == "mlp" else 264
        arrays[name] = generator.normal(size=(num, floats)).astype(np.float32)
        if task.kind == "pixels":
            arrays[name.replace("observation", "pixels")] = generator.integers(0, 256, (num, 1, 64, 64), dtype=np.uint8)
    return arrays


def ours(
    task: Task,
    *,
    target: str = "double",
    shared: bool = False,
    bf16: bool = False,
    prioritized: bool = False,
    compiled: bool = False,
    device: str = "cpu",
) -> Callable[[], None]:
    """Our loss, buffer and fused Adam; ``shared``: one set of fractions for a batch."""
    network = make_network(task, shared=shared).to(device)
    keys = ["observation"] if task.kind == "mlp" else ["pixels", "observation"]
    actor = QuantileActor(QuantileModule(network, in_keys=keys), spec=Categorical(task.num_actions))
    loss: Any = QRDQNLoss(actor)
    if task.loss == "iqn":
        loss = IQNLoss(actor, num_fractions=task.num_fractions, num_target_fractions=task.num_fractions)
    loss.make_value_estimator(target, gamma=0.99)
    updater = HardUpdate(loss, period=PERIOD)
    optimizer = torch.optim.Adam(loss.parameters(), lr=LEARNING_RATE, fused=True)
    buffer = make_replay_buffer(
        capacity=NUM_TRANSITIONS[task.kind],
        batch_size=task.batch_size,
        sampler="prioritized" if prioritized else "uniform",
        seed=0,
    )
    arrays = {name: torch.from_numpy(array) for name, array in transitions(task).items()}
    end = arrays["terminated"].unsqueeze(-1)
    steps = TensorDict(
        {
            **{key: arrays[key] for key in keys},
            "action": arrays["action"],
            "next": {
                **{key: arrays[f"next_{key}"] for key in keys},
                "reward": arrays["reward"].unsqueeze(-1),
                "done": end,
                "terminated": end,
            },
        },
        [len(end)],
    )
    buffer.extend(steps)
    # "reduce-overhead" records CUDA graphs.
    mode = "reduce-overhead" if device.startswith("cuda") else None
    forward = torch.compile(loss, mode=mode) if compiled else loss

    def update() -> None:
        batch = buffer.sample().to(device)
        with torch.autocast(device.split(":")[0], torch.bfloat16, enabled=bf16):
            value = forward(batch)["loss"]
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        updater.step()
        if prioritized:
            buffer.update_tensordict_priority(batch)

    return update


class _ForTianshou(nn.Module):
    """Our network in tianshou's layout: (values [B, A, N], fractions), state."""

    def __init__(self, network: QuantileNetwork, task: Task) -> None:
        super().__init__()
        self.network = network
        self.task = task

    def forward(self, obs: Any, sample_size: int | None = None, state: Any = None, **_: Any) -> Any:
        if self.task.kind == "mlp":
            inputs = [torch.as_tensor(obs)]
        else:
            inputs = [torch.as_tensor(obs.pixels), torch.as_tensor(obs.observation)]
        fractions = None if sample_size is None else torch.rand(len(inputs[0]), sample_size)
        values = self.network(*inputs, fractions=fractions)
        return ((values, fractions), state) if sample_size is not None else (values, state)


def of_tianshou(task: Task) -> Callable[[], None]:
    """tianshou 2: double targets; online, target and choosing passes with the same number of fractions."""
    with tianshou.quiet():
        from tianshou.algorithm.algorithm_base import policy_within_training_step
        from tianshou.data import Batch, ReplayBuffer
    algorithm = tianshou.quantile_algorithm(
        task.loss,
        _ForTianshou(make_network(task, shared=False), task),
        num_actions=task.num_actions,
        num_fractions=task.num_fractions,
        optim={"lr": LEARNING_RATE},
        gamma=0.99,
        target_update_freq=PERIOD,
    )
    arrays = transitions(task)
    buffer = ReplayBuffer(NUM_TRANSITIONS[task.kind])
    for i in range(NUM_TRANSITIONS[task.kind]):
        before, after = arrays["observation"][i], arrays["next_observation"][i]
        if task.kind == "pixels":
            before = Batch(pixels=arrays["pixels"][i], observation=before)
            after = Batch(pixels=arrays["next_pixels"][i], observation=after)
        facts = {"act": int(arrays["action"][i]), "rew": float(arrays["reward"][i]), "truncated": False, "info": {}}
        end = bool(arrays["terminated"][i])
        buffer.add(Batch(obs=before, obs_next=after, terminated=end, **facts))

    def update() -> None:
        with policy_within_training_step(algorithm.policy):
            algorithm.policy.train()
            algorithm.update(buffer, task.batch_size)

    return update


class _ForStableBaselines(nn.Module):
    """Our network in sb3-contrib's layout: values [B, N, A]."""

    def __init__(self, network: QuantileNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, observation: Any) -> Tensor:
        inputs = observation.values() if isinstance(observation, dict) else [observation]
        return self.network.quantiles(*inputs).values


def of_sb3(task: Task) -> Callable[[], None]:
    """sb3-contrib's QR-DQN: greedy targets of the target network; clips the gradient's norm, as it always does."""
    from sb3_contrib import QRDQN
    from stable_baselines3.common.logger import Logger

    if task.loss != "qrdqn" or task.kind != "mlp":
        raise ValueError("sb3-contrib has QR-DQN only; its pixel policies have networks of their own")
    env = gym.make("CartPole-v1")
    model = QRDQN(
        "MlpPolicy",
        env,
        learning_rate=LEARNING_RATE,
        batch_size=task.batch_size,
        buffer_size=NUM_TRANSITIONS[task.kind],
        policy_kwargs={"n_quantiles": task.num_fractions, "net_arch": [256, 256, 256]},
        device="cpu",
    )
    policy: Any = model.policy
    network = _ForStableBaselines(make_network(task, shared=False))
    policy.quantile_net, policy.quantile_net_target = network, copy.deepcopy(network)
    policy.quantile_net.set_training_mode = policy.quantile_net.train
    policy.quantile_net_target.set_training_mode = policy.quantile_net_target.train
    model._create_aliases()
    policy.optimizer = torch.optim.Adam(network.parameters(), lr=LEARNING_RATE)
    model._logger = Logger(None, [])
    arrays = transitions(task)
    for i in range(NUM_TRANSITIONS[task.kind]):
        model.replay_buffer.add(  # type: ignore[union-attr]
            arrays["observation"][i],
            arrays["next_observation"][i],
            arrays["action"][i],
            arrays["reward"][i],
            arrays["terminated"][i],
            [{}],
        )
    return lambda: model.train(1, task.batch_size)
