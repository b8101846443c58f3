"""A policy that sometimes acts at random or sees wrong observations, to measure the robustness of another one.

Shapes: B cars, S slots of an action block, F floats, K images.
"""

from __future__ import annotations

import torch
from tensordict import TensorDictBase
from tensordict.nn import TensorDictModuleBase
from torch import Tensor

from tm_torchrl.modules.carried import carried_keys, carried_values


class Disturbed(TensorDictModuleBase):
    """A policy with random actions, with noise on its floats, or with wrong images.

    Args:
        policy: The policy that is disturbed.
        num_actions: Number of actions to draw random ones from.
        epsilon: Share of random actions; each slot of an action block is drawn separately.
        noise: Standard deviation of the noise on each float, ``[F]``; ``None`` adds none.
        images: Images uint8 ``[K, 1, H, W]`` that replace the right ones, drawn at random for each car and step.
        seed: Seeds the disturbances.

    Examples:
        >>> from tensordict import TensorDict
        >>> from tensordict.nn import TensorDictModule
        >>> keys = {"in_keys": ["observation"], "out_keys": ["action"]}
        >>> constant = TensorDictModule(lambda x: torch.full(x.shape[:1], 7), **keys)
        >>> disturbed = Disturbed(constant, num_actions=2, epsilon=1.0)
        >>> disturbed(TensorDict({"observation": torch.zeros(4, 3)}, batch_size=4))["action"].tolist()
        [1, 1, 1, 1]
    """

    def __init__(
        self,
        policy: TensorDictModuleBase,
        *,
        num_actions: int,
        epsilon: float = 0.0,
        noise: Tensor | None = None,
        images: Tensor | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if not 0 <= epsilon <= 1:
            raise ValueError(f"epsilon={epsilon}: must lie between 0 and 1")
        self.policy = policy
        self.num_actions = num_actions
        self.epsilon = epsilon
        self.noise = noise
        self.images = images
        self.in_keys, self.out_keys = policy.in_keys, policy.out_keys
        self._random = torch.Generator().manual_seed(seed)

    def forward(self, tensordict: TensorDictBase) -> TensorDictBase:
        """Write actions; the observations in the tensordict are not changed."""
        seen = tensordict.copy()
        if self.noise is not None:
            floats = seen["observation"]
            shift = torch.randn(floats.shape, generator=self._random).to(floats) * self.noise.to(floats)
            seen["observation"] = floats + shift
        if self.images is not None:
            right = seen["pixels"]
            chosen = torch.randint(len(self.images), right.shape[:-3], generator=self._random)
            seen["pixels"] = self.images[chosen].to(right)
        acted = self.policy(seen)
        tensordict.update(carried_values(acted, carried_keys(self.policy)))
        action: Tensor = acted["action"]
        is_random = torch.rand(action.shape, generator=self._random) < self.epsilon
        others = torch.randint(self.num_actions, action.shape, generator=self._random)
        tensordict["action"] = torch.where(is_random.to(action.device), others.to(action), action)
        return tensordict
