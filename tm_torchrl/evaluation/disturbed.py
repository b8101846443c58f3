"""A policy whose hand slips, or who sees badly: how far does what it learnt carry?

Shapes: B cars, S slots of an action block, F floats, K images.
"""

from __future__ import annotations

import torch
from tensordict import TensorDictBase
from tensordict.nn import TensorDictModuleBase
from torch import Tensor


class Disturbed(TensorDictModuleBase):
    """Another policy with random actions, with noise on the floats that it sees, or with wrong images.

    Args:
        policy: acts.
        num_actions: to choose random ones from.
        epsilon: share of random actions; of blocks, each slot's own.
        noise: standard deviation of what is added to each float, ``[F]``; none by default.
        images: shown instead of the right ones, drawn at random for each car and step, uint8 ``[K, 1, H, W]``.
        seed: of the disturbances.

    Examples:
        >>> from tensordict import TensorDict
        >>> from tensordict.nn import TensorDictModule
        >>> keys = {"in_keys": ["observation"], "out_keys": ["action"]}
        >>> steady = TensorDictModule(lambda x: torch.full(x.shape[:1], 7), **keys)
        >>> shaky = Disturbed(steady, num_actions=2, epsilon=1.0)
        >>> shaky(TensorDict({"observation": torch.zeros(4, 3)}, batch_size=4))["action"].tolist()
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
            raise ValueError(f"epsilon={epsilon}: a share of the actions, between 0 and 1, wanted")
        self.policy = policy
        self.num_actions = num_actions
        self.epsilon = epsilon
        self.noise = noise
        self.images = images
        self.in_keys, self.out_keys = policy.in_keys, policy.out_keys
        self._random = torch.Generator().manual_seed(seed)

    def forward(self, tensordict: TensorDictBase) -> TensorDictBase:
        """Acts on what it sees; what it saw stays as it is."""
        seen = tensordict.copy()
        if self.noise is not None:
            floats = seen["observation"]
            shift = torch.randn(floats.shape, generator=self._random).to(floats) * self.noise.to(floats)
            seen["observation"] = floats + shift
        if self.images is not None:
            right = seen["pixels"]
            wrong = torch.randint(len(self.images), right.shape[:-3], generator=self._random)
            seen["pixels"] = self.images[wrong].to(right)
        action: Tensor = self.policy(seen)["action"]
        slips = torch.rand(action.shape, generator=self._random) < self.epsilon
        others = torch.randint(self.num_actions, action.shape, generator=self._random)
        tensordict["action"] = torch.where(slips.to(action.device), others.to(action), action)
        return tensordict
