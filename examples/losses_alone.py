"""IQN's loss with a network on random transitions. It needs no more than the core: ``pip install tm_torchrl``."""

from __future__ import annotations

import torch
from tensordict import TensorDict
from torchrl.data import Categorical

from tm_torchrl.modules import MLPIQNetwork, QuantileActor
from tm_torchrl.objectives import IQNLoss, SoftUpdate

torch.manual_seed(0)
actor = QuantileActor(MLPIQNetwork(4, 2), spec=Categorical(2), num_fractions=8)  # 4 numbers in, 2 actions
loss = IQNLoss(actor).make_value_estimator("munchausen", gamma=0.99)  # or "greedy", "double", "soft"
target = SoftUpdate(loss, tau=0.05)
optimizer = torch.optim.Adam(loss.parameters(), lr=1e-3)

observation, following = torch.randn(2, 64, 4)
action = torch.randint(2, (64,))
batch = TensorDict(
    {
        "observation": observation,
        "action": action,
        "next": {
            "observation": following,
            "reward": observation[:, :1] * (2 * action.unsqueeze(-1) - 1),
            "done": torch.ones(64, 1, dtype=torch.bool),
            "terminated": torch.ones(64, 1, dtype=torch.bool),
        },
    },
    [64],
)
for update in range(100):
    optimizer.zero_grad()
    values = loss(batch)
    values["loss"].backward()
    optimizer.step()
    target.step()
    if update % 25 == 0 or update == 99:
        print(f"update {update:3}: loss {values['loss'].item():.3f}")
