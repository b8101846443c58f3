"""TorchRL's clipped PPO loss, wired to a network with one pass for policy and value."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from tensordict import NestedKey, TensorDictBase
from torch import Tensor, nn
from torchrl.objectives import ClipPPOLoss

from tm_torchrl.modules.policy_value import PolicyValueModule, PolicyValueNetwork, ValueOfPass

# What the loss writes into each minibatch, and the name that TorchRL's loss has for it.
WRITTEN = {"clip_share": "clip_fraction", "entropy": "entropy", "max_ratio": "max_ratio"}
UPDATE_KEYS = ("kl", *WRITTEN)


class PPOLoss(nn.Module):
    """The clipped objective, the value's loss and the bonus for entropy (Schulman et al. 2017).

    TorchRL's ``ClipPPOLoss`` computes them. Into the batch are written ``kl``, an estimate of the divergence from the
    policy that collected it which is never negative (Schulman 2020), ``clip_share``, ``entropy`` and ``max_ratio``.

    Args:
        network: The network that is trained.
        in_keys: The keys of the observations.
        clip: The ratio of probabilities is clipped to between 1 - this and 1 + this.
        clip_value: The value is clipped to so much around the value before the updates; ``None`` for no clipping.
        value_coefficient: Multiplies the value's loss, which is the mean squared error.
        entropy_coefficient: Multiplies the bonus for entropy.
        normalize_advantage: Whether the advantages of each minibatch are shifted to mean 0 and scaled to deviation 1.

    Examples:
        >>> PPOLoss(PolicyValueNetwork(4, 2)).out_keys
        ['loss_objective', 'loss_critic', 'loss_entropy']
    """

    def __init__(
        self,
        network: PolicyValueNetwork,
        *,
        in_keys: Sequence[NestedKey] = ("observation",),
        clip: float = 0.2,
        clip_value: float | None = None,
        value_coefficient: float = 0.5,
        entropy_coefficient: float = 0.0,
        normalize_advantage: bool = True,
    ) -> None:
        super().__init__()
        if not 0.0 < clip < 1.0:
            raise ValueError(f"clip={clip}: must be between 0 and 1")
        if clip_value is not None and not clip_value > 0:
            raise ValueError(f"clip_value={clip_value}: must be positive, or null for no clipping")
        if not value_coefficient > 0:
            raise ValueError(f"value_coefficient={value_coefficient}: must be positive")
        if not entropy_coefficient >= 0:
            raise ValueError(f"entropy_coefficient={entropy_coefficient}: must not be negative")
        self.loss = ClipPPOLoss(
            PolicyValueModule(network, in_keys=in_keys),
            ValueOfPass(),
            clip_epsilon=clip,
            clip_value=clip_value,
            critic_coeff=value_coefficient,
            entropy_coeff=entropy_coefficient,
            normalize_advantage=normalize_advantage,
            loss_critic_type="l2",
            log_explained_variance=False,
            functional=False,  # there is no target network, so nothing has to swap the weights
        )
        self.loss.set_keys(sample_log_prob="action_log_prob")
        self.out_keys = ["loss_objective", "loss_critic", "loss_entropy"]

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Groups for an optimiser: parameters, and ``lr_scale``, which multiplies their learning rate."""
        return [{"params": list(self.parameters()), "lr_scale": 1.0}]

    def set_clip(self, value: float) -> None:
        """Set the clipping of the ratio."""
        self.loss.clip_epsilon.fill_(value)

    def set_entropy_coefficient(self, value: float) -> None:
        """Set the factor of the bonus for entropy."""
        self.loss.entropy_coeff.fill_(value)

    def forward(self, batch: TensorDictBase) -> dict[str, Tensor]:
        """The losses of a minibatch; also writes its divergence, clipped share and entropy into it."""
        found = self.loss(batch)
        with torch.no_grad():
            # Means of -log r and of r give the mean of r - 1 - log r, no term of which is negative.
            kl = found["mean_ratio"] - 1.0 + found["kl_approx"]
            for name, value in {"kl": kl, **{name: found[key] for name, key in WRITTEN.items()}}.items():
                batch.set(name, value.expand(batch.batch_size))
        return {key: found[key] for key in self.out_keys}
