"""The loss of GRPO: a clipped ratio without a critic, and the divergence from a reference.

Shapes: B batch, S slots of an action block, A actions.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from tensordict import NestedKey, TensorDictBase
from torch import Tensor

from tm_torchrl.modules.policy_value import PolicyValueNetwork
from tm_torchrl.objectives.clipped_policy import ClippedPolicyLoss
from tm_torchrl.objectives.reference import policy_parameters


class GRPOLoss(ClippedPolicyLoss):
    """The clipped objective of given advantages, the divergence from a reference, and the bonus for entropy.

    All steps of a batch count equally, whatever the lengths of their episodes (Yu et al. 2025). The divergence from the
    reference is that of the whole distributions, not an estimate from the actions taken. Into the batch the loss writes
    ``diagnostics`` ``[B, 3]`` as ``PPOLoss`` does.

    Args:
        network: The network whose policy is trained; its value is not.
        in_keys: The keys of the observations.
        clip: The ratio of probabilities is clipped to between 1 - this and 1 + ``clip_high``.
        clip_high: ``None`` for the same as ``clip``; 0.28 beside 0.2 in DAPO (Yu et al. 2025).
        reference_coefficient: Factor of the divergence from the reference, a frozen copy of the network; without a copy
            where it is 0.
        entropy_coefficient: Factor of the bonus for entropy.

    Examples:
        >>> from tensordict import TensorDict
        >>> flat, column = torch.zeros(6), torch.ones(6, 1)
        >>> batch = TensorDict({"observation": torch.zeros(6, 4), "action": flat.long(), "action_log_prob": flat}, [6])
        >>> sorted(GRPOLoss(PolicyValueNetwork(4, 2))(batch.set("advantage", column)))
        ['loss_entropy', 'loss_objective', 'loss_reference']
    """

    out_keys = ("loss_objective", "loss_reference", "loss_entropy")

    def __init__(
        self,
        network: PolicyValueNetwork,
        *,
        in_keys: Sequence[NestedKey] = ("observation",),
        clip: float = 0.2,
        clip_high: float | None = None,
        reference_coefficient: float = 0.0,
        entropy_coefficient: float = 0.0,
    ) -> None:
        super().__init__(
            network, in_keys=in_keys, clip=clip, clip_high=clip_high, entropy_coefficient=entropy_coefficient
        )
        if not reference_coefficient >= 0.0:
            raise ValueError(f"reference_coefficient={reference_coefficient}: must not be negative")
        self.reference_coefficient = reference_coefficient
        self.reference = copy.deepcopy(network).requires_grad_(False) if reference_coefficient else None

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Groups for an optimiser: parameters, and ``lr_scale``, which multiplies their learning rate."""
        return [{"params": policy_parameters(self.network), "lr_scale": 1.0}]

    def forward(self, batch: TensorDictBase) -> dict[str, Tensor]:
        """The three losses of a batch ``[B]``; also writes ``diagnostics`` into it."""
        observations = self.observations(batch, ("advantage",))
        log_probs = self.network.logits(*observations).log_softmax(-1)
        advantage_B = batch.get("advantage").squeeze(-1)
        gain, entropy = self.gain_and_entropy(log_probs, advantage_B, batch)
        divergence = torch.zeros_like(entropy)
        if self.reference is not None:
            with torch.no_grad():
                reference = self.reference.logits(*observations).log_softmax(-1)
            divergence = (log_probs.exp() * (log_probs - reference)).sum() / len(log_probs)
        return {
            "loss_objective": -gain,
            "loss_reference": self.reference_coefficient * divergence,
            "loss_entropy": -self.entropy_coefficient * entropy,
        }
