"""Prioritised replay of pictures, each kept once, with 3-step sums, in a DQN of plain PyTorch on a game of catching."""

import argparse

import torch
from tensordict import TensorDict
from torch import nn

from tm_torchrl.data import NStep, make_replay_buffer

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--frames", type=int, default=40_000)
parser.add_argument("--seed", type=int, default=0)
arguments = parser.parse_args()
torch.manual_seed(arguments.seed)
LANES, SIZE, GAMMA = 32, 8, 0.99  # balls fall through pictures of 8 x 8; a paddle in the last row should be below them


def pictures(row: torch.Tensor, ball: torch.Tensor, paddle: torch.Tensor) -> torch.Tensor:
    """What each lane shows."""
    seen = torch.zeros(LANES, 1, SIZE, SIZE, dtype=torch.uint8)
    seen[torch.arange(LANES), 0, row, ball] = seen[torch.arange(LANES), 0, -1, paddle] = 255
    return seen


network, target = (nn.Sequential(nn.Flatten(), nn.Linear(SIZE**2, 64), nn.ReLU(), nn.Linear(64, 3)) for _ in range(2))
optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
n_step = NStep(3, gamma=GAMMA, frame_ids=True)
buffer = make_replay_buffer(
    capacity=20_000, batch_size=64, sampler="prioritized", storage="frames", transforms=[n_step]
)
row, ball, paddle = torch.randint(SIZE - 1, (LANES,)), *torch.randint(SIZE, (2, LANES))
count = torch.zeros(2)  # of the balls that were caught, and of all balls
for step in range(arguments.frames // LANES):
    if step % 100 == 0:
        print(f"{step * LANES} frames: {count[0] / count[1].clamp(min=1):.0%} caught, {len(buffer)} transitions stored")
        target.load_state_dict(network.state_dict())
        count.zero_()
    pixels = pictures(row, ball, paddle)
    is_random = torch.rand(LANES) < max(0.05, 1 - step / 300)
    with torch.no_grad():
        action = torch.where(is_random, torch.randint(3, (LANES,)), network(pixels / 255).argmax(1))
    row, paddle = row + 1, (paddle + action - 1).clamp(0, SIZE - 1)
    done = (row == SIZE - 1).unsqueeze(-1)
    reward = done * (ball == paddle).float().unsqueeze(-1)
    ends = {"pixels": pictures(row, ball, paddle), "reward": reward, "done": done, "terminated": done}
    buffer.extend(TensorDict({"pixels": pixels, "action": action, "next": ends}, [LANES]).unsqueeze(1))  # [N, T = 1]
    row, ball = torch.where(done[:, 0], 0, row), torch.where(done[:, 0], torch.randint(SIZE, (LANES,)), ball)
    count += torch.stack([reward.sum(), done.sum()])
    if step >= 4:
        batch = buffer.sample()
        with torch.no_grad():
            value = target(batch["next", "pixels"] / 255).amax(1, keepdim=True) * ~batch["next", "terminated"]
            goal = batch["next", "reward"] + GAMMA ** batch["steps_to_next_obs"] * value
        error = network(batch["pixels"] / 255).gather(1, batch["action"].unsqueeze(1)) - goal
        optimizer.zero_grad()
        (batch["priority_weight"].unsqueeze(1) * error**2).mean().backward()
        optimizer.step()
        buffer.update_tensordict_priority(batch.set("td_error", error.detach().abs()))
