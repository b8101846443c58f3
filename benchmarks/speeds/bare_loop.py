"""The same work as the trainer's default, by hand in plain torch: shows what the trainer's features cost.

64 cars, held random actions, IQN 256-256 with shared fractions, Munchausen targets, uniform replay in flat arrays,
Adam, soft target; no TensorDict, no TorchRL, no logging, no checkpoints.
"""

from __future__ import annotations

import copy
import math
import time
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tm_torchrl.envs import TrackManiaEnv
from tm_torchrl.world.observation import observation_constants

NUM_ACTIONS = 12


class Network(nn.Module):
    """A dueling IQN."""

    def __init__(self, *, hidden: int = 256, num_cosines: int = 64) -> None:
        super().__init__()
        mean, scale = (torch.from_numpy(x) for x in observation_constants(5))
        self.register_buffer("mean", mean)
        self.register_buffer("scale", scale)
        self.register_buffer("frequencies", torch.arange(1, num_cosines + 1) * math.pi)
        self.encoder = nn.Sequential(
            nn.Linear(len(mean), hidden),
            nn.LeakyReLU(inplace=True),
            nn.Linear(hidden, hidden),
            nn.LeakyReLU(inplace=True),
        )
        self.embedding = nn.Sequential(nn.Linear(num_cosines, hidden), nn.LeakyReLU(inplace=True))
        self.advantage = nn.Sequential(
            nn.Linear(hidden, hidden), nn.LeakyReLU(inplace=True), nn.Linear(hidden, NUM_ACTIONS)
        )
        self.value = nn.Sequential(nn.Linear(hidden, hidden), nn.LeakyReLU(inplace=True), nn.Linear(hidden, 1))

    def forward(self, observation: Tensor, fractions: Tensor) -> Tensor:
        """Quantile values ``[B, N, A]`` at shared fractions ``[N]``."""
        features = self.encoder((observation - self.mean) / self.scale)
        embedded = self.embedding(torch.cos(fractions[:, None] * self.frequencies))
        both = (features[:, None] * embedded).flatten(0, 1)
        advantage = self.advantage(both).float()
        *before, last = self.value
        for layer in before:
            both = layer(both)
        with torch.autocast("cpu", enabled=False):
            value = last(both.float())
        return (value + advantage - advantage.mean(-1, keepdim=True)).view(len(features), len(fractions), -1)


@dataclass
class BareLoop:
    """The loop and its arrays."""

    env: TrackManiaEnv
    capacity: int = 4_000
    batch_size: int = 128
    frames_per_update: float = 16.0
    learning_starts: int = 5_000
    half: bool = True
    seed: int = 0
    num_fractions: int = 8
    gamma: float = 0.99
    temperature: float = 0.001
    alpha: float = 0.9
    kappa: float = 0.05
    frames: int = 0
    updates: int = 0
    arrays: dict[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        torch.manual_seed(self.seed)
        self.cars = self.env.batch_size[0]
        self.held, self.left = torch.zeros(2, self.cars, dtype=torch.int64)
        self.online = Network()
        self.target = copy.deepcopy(self.online)
        self.optimizer = torch.optim.Adam(self.online.parameters(), 1e-3, eps=1e-4, fused=True)
        size = self.env.race.observation.shape[1]
        shape = (self.capacity, self.cars)
        self.arrays = {
            "before": torch.zeros(*shape, size),
            "after": torch.zeros(*shape, size),
            "action": torch.zeros(shape, dtype=torch.int64),
            "reward": torch.zeros(shape),
            "terminated": torch.zeros(shape, dtype=torch.bool),
            "ended": torch.zeros(shape, dtype=torch.bool),
            "is_greedy": torch.ones(shape, dtype=torch.bool),
        }
        self.steps = 0

    def run(self, frames: int) -> float:
        """Play and learn; returns CPU seconds."""
        begin, end = time.process_time(), self.frames + frames
        while self.frames < end:
            self.play()
            due = (self.frames - self.learning_starts) / self.frames_per_update
            while self.updates < due:
                self.update()
        return time.process_time() - begin

    @torch.no_grad()
    def play(self) -> None:
        """One step of all cars."""
        race, at = self.env.race, self.steps % self.capacity
        seen = race.observation
        values = self.online(seen, torch.rand(8)).mean(1)
        best = values.argmax(-1)
        near = (values + 0.02 * torch.randn_like(values)).argmax(-1)
        action = torch.where(torch.rand(self.cars) < 0.2, near, best)
        is_begun = (self.left <= 0) & (torch.rand(self.cars) < 0.1 / (0.1 + 8.0 * 0.9))
        self.held = torch.where(is_begun, torch.randint(NUM_ACTIONS, (self.cars,)), self.held)
        self.left = torch.where(is_begun, torch.empty(self.cars).geometric_(1 / 8).long(), self.left)
        action = torch.where(self.left > 0, self.held, action)
        self.left = (self.left - 1).clamp(min=0)
        outcome = race.step(action)
        ended = outcome.terminated | outcome.truncated
        row = (seen, race.observation, action, outcome.reward, outcome.terminated, ended, action == best)
        for array, value in zip(self.arrays.values(), row, strict=True):
            array[at] = value
        if bool(ended.any()):
            race.reset(ended)
        self.steps += 1
        self.frames += self.cars

    def sample(self) -> tuple[Tensor, ...]:
        """Three-step transitions that end before actions that were not greedy."""
        filled = min(self.steps, self.capacity)
        oldest = self.steps % self.capacity if self.steps > self.capacity else 0
        at = (torch.randint(filled - 3, (self.batch_size,)) + oldest) % self.capacity
        car = torch.randint(self.cars, (self.batch_size,))
        a = self.arrays
        total, discount = torch.zeros(self.batch_size), torch.ones(self.batch_size)
        goes_on, last = torch.ones(self.batch_size, dtype=torch.bool), at
        for k in range(3):
            here = (at + k) % self.capacity
            if k:
                goes_on = goes_on & a["is_greedy"][here, car]
            total = total + torch.where(goes_on, discount * a["reward"][here, car], 0.0)
            discount = torch.where(goes_on, discount * self.gamma, discount)
            last = torch.where(goes_on, here, last)
            goes_on = goes_on & ~a["ended"][here, car]
        discount = discount * ~a["terminated"][last, car]
        return a["before"][at, car], a["action"][at, car], total, discount, a["after"][last, car]

    def update(self) -> None:
        """One update."""
        before, action, reward, discount, after = self.sample()
        number = self.num_fractions
        halves = (torch.rand(3, number // 2) + torch.arange(number // 2)) / number
        online_at, target_at, _ = torch.cat([halves, 1 - halves], 1)
        with torch.autocast("cpu", torch.bfloat16, enabled=self.half):
            values = self.online(before, online_at)
            with torch.no_grad():
                policy = torch.log_softmax(values.mean(1) / self.temperature, -1)
                bonus = self.alpha * (self.temperature * policy.gather(1, action[:, None])).clamp(-1.0, 0.0)
                later = self.target(after, target_at)
                after_policy = torch.log_softmax(later.mean(1) / self.temperature, -1)[:, None]
                soft = (after_policy.exp() * (later - self.temperature * after_policy)).sum(-1)
                target = reward[:, None] + bonus + discount[:, None] * soft
        chosen = values.gather(2, action[:, None, None].expand(-1, number, 1))[:, :, 0]
        error = target[:, None, :] - chosen[:, :, None]
        huber = F.huber_loss(error, torch.zeros_like(error), reduction="none", delta=self.kappa) / self.kappa
        weight = (online_at[None, :, None] - (error.detach() < 0).float()).abs()
        loss = (weight * huber).mean(2).sum(1).mean()
        self.optimizer.zero_grad()
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(self.online.parameters(), 10.0)
        self.optimizer.step()
        with torch.no_grad():
            torch._foreach_lerp_(list(self.target.parameters()), list(self.online.parameters()), 0.02)
        self.updates += 1
