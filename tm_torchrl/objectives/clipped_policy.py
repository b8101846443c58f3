"""What the losses of PPO and GRPO share: the clipped gain of a policy, its diagnostics and its entropy.

Shapes: B batch, S slots of an action block, A actions.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from tensordict import NestedKey, TensorDictBase
from torch import Tensor, nn

from tm_torchrl.modules.policy_value import PolicyValueNetwork
from tm_torchrl.objectives.batch_checks import check_actions, check_policy_batch, is_traced

DIAGNOSTICS = ("kl", "clip_share", "entropy")  # the columns that a loss writes into a batch


class EntropyLoss(nn.Module):
    """Base of losses with a bonus for entropy, whose factor a schedule may set."""

    @property
    def entropy_coefficient(self) -> float:
        """Factor of the bonus for entropy."""
        return self._entropy_coefficient

    @entropy_coefficient.setter
    def entropy_coefficient(self, value: float) -> None:
        if not 0 <= value < float("inf"):
            raise ValueError(f"entropy_coefficient={value}: must be finite and not negative")
        self._entropy_coefficient = value


class ClippedPolicyLoss(EntropyLoss):
    """Base of losses with a clipped ratio of probabilities (Schulman et al. 2017).

    Args:
        network: The network that is trained.
        in_keys: The keys of the observations.
        clip: The ratio is clipped to between 1 - this and 1 + this; may be set at any time.
        clip_high: Clipping above 1, where it is not the same.
        entropy_coefficient: Factor of the bonus for entropy; may be set at any time.
    """

    def __init__(
        self,
        network: PolicyValueNetwork,
        *,
        in_keys: Sequence[NestedKey],
        clip: float,
        entropy_coefficient: float,
        clip_high: float | None = None,
    ) -> None:
        super().__init__()
        if clip_high is not None and not clip_high > 0.0:
            raise ValueError(f"clip_high={clip_high}: must be positive, or null for the same as clip")
        self.network = network
        self.in_keys = list(in_keys)
        self.clip = clip
        self.clip_high = clip_high
        self.entropy_coefficient = entropy_coefficient
        self._is_checked = False

    @property
    def clip(self) -> float:
        """Clipping of the ratio."""
        return self._clip

    @clip.setter
    def clip(self, value: float) -> None:
        if not 0.0 < value < 1.0:
            raise ValueError(f"clip={value}: must be between 0 and 1")
        self._clip = value

    def observations(self, batch: TensorDictBase, columns: Sequence[str]) -> list[Tensor]:
        """The network's inputs; the first batch and its columns of numbers are checked."""
        if not is_traced() and not self._is_checked:
            check_policy_batch(batch, self, columns)
        return [batch.get(key) for key in self.in_keys]

    def gain_and_entropy(self, log_probs: Tensor, advantage_B: Tensor, batch: TensorDictBase) -> tuple[Tensor, Tensor]:
        """The mean clipped gain and the entropy; also writes ``diagnostics`` ``[B, 3]`` into the batch.

        Args:
            log_probs: Of all actions, ``[B, A]`` or ``[B, S, A]``.
            advantage_B: Of the actions taken.
            batch: ``action`` and ``action_log_prob``.
        """
        action = batch.get("action")
        if not is_traced() and not self._is_checked:
            check_actions(action, log_probs.shape[-1], f"{type(self).__name__}: the batch's 'action'")
            self._is_checked = True
        log_ratio_B = log_prob_of(action, log_probs) - batch.get("action_log_prob")
        ratio_B = log_ratio_B.exp()
        clipped_B = ratio_B.clamp(1.0 - self.clip, 1.0 + (self.clip if self.clip_high is None else self.clip_high))
        gain_B, clipped_gain_B = ratio_B * advantage_B, clipped_B * advantage_B
        gain_B = torch.where(gain_B < clipped_gain_B, gain_B, clipped_gain_B)  # torch.minimum takes longer to derive
        with torch.set_grad_enabled(self.entropy_coefficient > 0 and torch.is_grad_enabled()):
            entropy = mean_entropy(log_probs)
        with torch.no_grad():
            kl = (ratio_B - log_ratio_B).mean() - 1.0
            clip_share = (clipped_B != ratio_B).sum() / len(ratio_B)
            batch.set("diagnostics", torch.stack([kl, clip_share, entropy]).expand(*batch.batch_size, -1))
        return gain_B.mean(), entropy


def log_prob_of(action: Tensor, log_probs: Tensor) -> Tensor:
    """The log-probability ``[B]`` of an action, for a block the sum over its slots.

    Args:
        action: ``[B]``, ``[B, S]`` for blocks.
        log_probs: Of all actions, ``[B, A]`` or ``[B, S, A]``.

    Examples:
        >>> block = torch.tensor([[[0.5, 0.5], [0.25, 0.75]]]).log()  # two slots of two actions
        >>> log_prob_of(torch.tensor([[0, 1]]), block).exp()  # 1/2 times 3/4
        tensor([0.3750])
    """
    if action.shape != log_probs.shape[:-1] or action.is_floating_point():
        raise ValueError(
            f"action: {action.dtype} of shape {tuple(action.shape)}; must be int64 indices of shape "
            f"{tuple(log_probs.shape[:-1])}; for one-hot actions give action.argmax(-1)"
        )
    chosen = log_probs.gather(-1, action.unsqueeze(-1)).squeeze(-1)
    return chosen if chosen.ndim == 1 else chosen.sum(-1)


def mean_entropy(log_probs: Tensor) -> Tensor:
    """The mean entropy of a policy in a batch of states, for a block the sum over its slots.

    Args:
        log_probs: ``[B, A]`` or ``[B, S, A]``.

    Examples:
        >>> mean_entropy(torch.tensor([[0.5, 0.5], [0.25, 0.75]]).log())  # the mean of 0.6931 and 0.5623
        tensor(0.6277)
    """
    return (log_probs.exp() * log_probs).sum() / -len(log_probs)
