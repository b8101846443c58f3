"""The loss of direct preference optimisation (Rafailov et al. 2023) for pairs of episodes from the same start.

Shapes: P pairs, T steps, V steps that are not padding, S slots of an action block, A actions.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from tensordict import NestedKey, TensorDictBase
from torch import Tensor
from torch.nn import functional as F

from tm_torchrl.modules.policy_value import PolicyValueNetwork
from tm_torchrl.objectives.clipped_policy import EntropyLoss, log_prob_of, mean_entropy
from tm_torchrl.objectives.reference import policy_parameters

DIAGNOSTICS = (
    "kl",
    "preference_accuracy",
    "preference_margin",
    "entropy",
)  # the columns that the loss writes into a batch


class DPOLoss(EntropyLoss):
    """Makes the preferred episode of a pair more probable, and the other less, than a frozen reference has them.

    With m the log-probability of an episode's actions minus that of the reference, the loss of a pair is
    ``-log sigmoid(temperature * (m_preferred - m_other))``. Into the batch it writes ``diagnostics`` ``[P, 4]``: the
    divergence from the reference, the share of pairs in the right order, their mean margin, and the entropy.

    Args:
        network: The network whose policy is trained; its value is not.
        in_keys: The keys of the observations.
        temperature: The paper's beta: the larger, the nearer the policy stays to the reference.
        per_step: Whether log-probabilities are averaged over the steps of an episode instead of summed, so that long
            episodes do not count more.
        cloning_coefficient: Factor of a loss that imitates the preferred episodes; 0 for none.
        entropy_coefficient: Factor of the bonus for entropy, which keeps episodes of a group apart.

    Examples:
        >>> from tensordict import TensorDict
        >>> shape = (3, 2, 5)
        >>> steps = TensorDict({"observation": torch.zeros(*shape, 4), "action": torch.zeros(shape).long()}, shape)
        >>> batch = TensorDict({"steps": steps, "mask": torch.ones(shape, dtype=torch.bool)}, [3])
        >>> round(DPOLoss(PolicyValueNetwork(4, 2))(batch)["loss_preference"].item(), 4)  # log 2: no preference yet
        0.6931
    """

    out_keys = ("loss_preference", "loss_cloning", "loss_entropy")

    def __init__(
        self,
        network: PolicyValueNetwork,
        *,
        in_keys: Sequence[NestedKey] = ("observation",),
        temperature: float = 0.1,
        per_step: bool = False,
        cloning_coefficient: float = 0.0,
        entropy_coefficient: float = 0.0,
    ) -> None:
        super().__init__()
        if not temperature > 0:
            raise ValueError(f"temperature={temperature}: must be positive")
        if not cloning_coefficient >= 0:
            raise ValueError(f"cloning_coefficient={cloning_coefficient}: must not be negative")
        self.network = network
        self.reference = copy.deepcopy(network).requires_grad_(False)
        self.in_keys = list(in_keys)
        self.temperature = temperature
        self.per_step = per_step
        self.cloning_coefficient = cloning_coefficient
        self.entropy_coefficient = entropy_coefficient

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Groups for an optimiser: parameters, and ``lr_scale``, which multiplies their learning rate."""
        return [{"params": policy_parameters(self.network), "lr_scale": 1.0}]

    def forward(self, batch: TensorDictBase) -> dict[str, Tensor]:
        """The losses of pairs ``[P]``; also writes ``diagnostics`` into the batch."""
        mask = batch.get("mask")
        steps = batch.get("steps")[mask]
        of_episode_V = torch.arange(2 * len(mask), device=mask.device).view(len(mask), 2, 1).expand_as(mask)[mask]
        log_probs, actions = self._log_probs(self.network, steps), steps.get("action")
        log_prob_V = log_prob_of(actions, log_probs)
        with torch.no_grad():
            reference_V = log_prob_of(actions, self._log_probs(self.reference, steps))
        log_ratio_V = log_prob_V - reference_V
        sums = log_ratio_V.new_zeros(2 * len(mask)).index_add(0, of_episode_V, log_ratio_V).view(len(mask), 2)
        if self.per_step:
            sums = sums / mask.sum(-1)
        margin_P = self.temperature * (sums[:, 0] - sums[:, 1])
        with torch.set_grad_enabled(self.entropy_coefficient > 0 and torch.is_grad_enabled()):
            entropy = mean_entropy(log_probs)
        with torch.no_grad():
            kl = (log_ratio_V.exp() - log_ratio_V).mean() - 1.0
            found = torch.stack([kl, (margin_P > 0).float().mean(), margin_P.mean(), entropy])
            batch.set("diagnostics", found.expand(len(mask), -1))
        return {
            "loss_preference": -F.logsigmoid(margin_P).mean(),
            "loss_cloning": -self.cloning_coefficient * log_prob_V[of_episode_V % 2 == 0].mean(),
            "loss_entropy": -self.entropy_coefficient * entropy,
        }

    def _log_probs(self, network: PolicyValueNetwork, steps: TensorDictBase) -> Tensor:
        """Of all actions, ``[V, A]`` or ``[V, S, A]``."""
        return network.logits(*(steps.get(key) for key in self.in_keys)).log_softmax(-1)
