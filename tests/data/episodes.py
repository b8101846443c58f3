"""Random episodes in lanes, every observation with a number of its own, and n-step transitions counted one by one."""

from __future__ import annotations

import random
from dataclasses import dataclass

import torch
from tensordict import TensorDict

CONTINUES, TERMINATED, TRUNCATED = 0, 1, 2


@dataclass
class Step:
    before: int  # number of the observation
    after: int
    reward: float
    end: int
    is_greedy: bool
    trajectory: int = 0


def make_lanes(seed: int, *, num_lanes: int, num_steps: int, end_share: float = 0.3) -> list[list[Step]]:
    rng = random.Random(seed)
    number = iter(range(10**9))
    lanes = []
    for _ in range(num_lanes):
        lane, before, trajectory = [], next(number), next(number)
        for _ in range(num_steps):
            after = next(number)
            end = rng.choice((TERMINATED, TRUNCATED)) if rng.random() < end_share else CONTINUES
            reward = rng.randint(-8, 8) / 4  # exact in float32, as are sums with gamma = 1/2
            lane.append(Step(before, after, reward, end, rng.random() < 0.7, trajectory))
            before = next(number) if end else after
            trajectory = next(number) if end else trajectory
        lanes.append(lane)
    return lanes


def to_batch(lanes: list[list[Step]], *, image_size: int = 0, ids: bool = False) -> TensorDict:
    """What a collector would deliver for these steps: ``[N, T]``."""

    def grid(name: str, dtype: torch.dtype) -> torch.Tensor:
        return torch.tensor([[getattr(step, name) for step in lane] for lane in lanes], dtype=dtype)

    def observations(name: str) -> dict[str, torch.Tensor]:
        number = grid(name, torch.float32)
        found = {"observation": torch.stack([number, -number], dim=-1)}
        return {**found, "pixels": image_of(grid(name, torch.int64), image_size)} if image_size else found

    end = grid("end", torch.int64).unsqueeze(-1)
    shape = list(end.shape[:2])
    batch = TensorDict(
        {
            **observations("before"),
            "action": grid("before", torch.int64) % 12,
            "is_greedy": grid("is_greedy", torch.bool),
            "step_count": torch.zeros(*shape, 1),
            "next": {
                **observations("after"),
                "reward": grid("reward", torch.float32).unsqueeze(-1),
                "done": end > 0,
                "terminated": end == TERMINATED,
                "truncated": end == TRUNCATED,
                "step_count": torch.ones(*shape, 1),
            },
        },
        batch_size=shape,
    )
    if ids:
        batch["collector", "traj_ids"] = grid("trajectory", torch.int64)
    return batch


def image_of(number: torch.Tensor, size: int) -> torch.Tensor:
    """An image ``[..., 1, size, size]`` that tells its number: each pixel is another byte of a mixture of it."""
    place = torch.arange(size * size) * 7919 + 1
    mixed = number.to(torch.int64).unsqueeze(-1) * place
    return ((mixed ^ (mixed >> 7)) % 251).to(torch.uint8).unflatten(-1, (1, size, size))


@dataclass
class Transition:
    before: int
    after: int
    action: int
    sums: list[float]
    num_used: int
    end: int
    steps_to_finish: int
    is_greedy: bool


def n_step_by_hand(lane: list[Step], num_steps: int, gamma: float, cut: bool, seams: set[int]) -> list[Transition]:
    """Transitions of one lane in order; ``seams`` are the numbers of steps after which nothing is known."""
    found = []
    for k in range(len(lane) - num_steps + 1):
        used, finish, is_cut = [], num_steps + 1, False
        for i in range(num_steps):
            step = lane[k + i]
            is_cut = is_cut or (cut and i > 0 and not step.is_greedy)
            if not is_cut:
                used.append(step)
            if step.end == TERMINATED:
                finish = i + 1
            if step.end or k + i in seams:
                break
        sums = []
        for j in range(num_steps):
            sums.append(sum(gamma**i * step.reward for i, step in enumerate(used[: j + 1])))
        first, last = used[0], used[-1]
        found.append(
            Transition(first.before, last.after, first.before % 12, sums, len(used), last.end, finish, first.is_greedy)
        )
    return found
