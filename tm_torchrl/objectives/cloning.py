"""Behaviour cloning: the cross-entropy of demonstrated actions, at the present step and at some later ones.

Shapes: B batch, K offsets, S slots of an action block, A actions, D features.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from tensordict import NestedKey, TensorDictBase
from torch import Tensor, nn
from torch.nn import functional as F
from torchrl.envs import ExplorationType, set_exploration_type

from tm_torchrl.modules.policy_value import PolicyValueNetwork
from tm_torchrl.modules.quantiles.fractions import FractionSource
from tm_torchrl.modules.quantiles.network import QuantileNetwork


class CloningLoss(nn.Module):
    """Cross-entropy between a network's choice and a driver's.

    The logits of the present action are those of a policy, or the values of a quantile network over a temperature:
    their mean over fractions, so that advantages learn and values of states, which all actions share, do not. Actions
    at later offsets are foretold from the same features by a layer of the loss's own, which no driver needs.

    Of the batch ``[B]`` it reads observations, ``action`` (``[B, K]``, ``[B, K, S]`` for blocks), ``is_labelled``
    (bool ``[B, K]``), and ``regret`` (``[B, K, A]``) if there is any: how many seconds more each action costs the
    driver, over which labels are spread. It writes ``diagnostics`` ``[B, K]`` into it: the share of actions that are
    foretold, the same in all rows.

    Args:
        network: The network that is trained.
        num_actions: A.
        num_fractions: Fractions at which a quantile network is evaluated, if it takes any.
        in_keys: The keys of the observations.
        offset_weights: The weight of each offset; the first one is the present step.
        temperature: Divides the logits.
        label_temperature: Seconds; an action with this regret counts 1 / e as much as the chosen one.
        class_weights: The weight of each action, ``[A]``; ``None`` for equal ones.
        label_smoothing: Share of a label that is spread over all actions.

    Examples:
        >>> from tensordict import TensorDict
        >>> batch = TensorDict({"observation": torch.zeros(5, 4), "action": torch.zeros(5, 1).long()}, [5])
        >>> batch["is_labelled"] = torch.ones(5, 1, dtype=torch.bool)
        >>> loss = CloningLoss(PolicyValueNetwork(4, 2), num_actions=2)(batch)["loss"]
        >>> round(loss.item(), 2)  # both actions are still about equally likely
        0.69
    """

    out_keys = ("loss",)
    class_weights: Tensor | None

    def __init__(
        self,
        network: PolicyValueNetwork | QuantileNetwork,
        *,
        num_actions: int,
        num_fractions: int = 2,
        in_keys: Sequence[NestedKey] = ("observation",),
        offset_weights: Sequence[float] = (1.0,),
        temperature: float = 1.0,
        label_temperature: float = 0.002,
        class_weights: Tensor | None = None,
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__()
        if not offset_weights or not all(weight > 0 for weight in offset_weights):
            raise ValueError(f"offset_weights={list(offset_weights)}: must be one or more positive numbers")
        if not temperature > 0:
            raise ValueError(f"temperature={temperature}: must be positive")
        if not label_temperature > 0:
            raise ValueError(f"label_temperature={label_temperature}: must be positive seconds")
        if not 0.0 <= label_smoothing < 1.0:
            raise ValueError(f"label_smoothing={label_smoothing}: must be at least 0 and below 1")
        self.network = network
        self.in_keys = list(in_keys)
        self.num_fractions = num_fractions
        self.temperature = temperature
        self.label_temperature = label_temperature
        self.label_smoothing = label_smoothing
        self.register_buffer("offset_weights", torch.tensor(offset_weights, dtype=torch.float32), persistent=False)
        self.register_buffer("class_weights", class_weights, persistent=False)
        self._block = () if network.num_slots is None else (network.num_slots,)
        num_later = (len(offset_weights) - 1) * math.prod(self._block) * num_actions
        encoder: Any = network.encoder
        self.later = nn.Linear(encoder.num_features, num_later) if num_later else None

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Groups for an optimiser: parameters, and ``lr_scale``, which multiplies their learning rate."""
        return [{"params": list(self.parameters()), "lr_scale": 1.0}]

    def forward(self, batch: TensorDictBase) -> dict[str, Tensor]:
        """The loss of a batch ``[B]``; also writes ``diagnostics`` into it."""
        action, is_labelled_BK = batch.get("action"), batch.get("is_labelled")
        logits = self.logits(batch)  # [B, K, A] or [B, K, S, A]
        labels, weight, regret = action.flatten(), self.class_weights, batch.get("regret", None)
        if regret is not None:
            labels, weight = (-regret.float() / self.label_temperature).softmax(-1).flatten(0, -2), None
        loss = F.cross_entropy(
            logits.flatten(0, -2), labels, weight=weight, label_smoothing=self.label_smoothing, reduction="none"
        ).view(action.shape)
        if regret is not None and self.class_weights is not None:
            loss = loss * self.class_weights[action]  # of the chosen action, which stands for the frame
        is_right = (logits.argmax(-1) == action).float()
        if self._block:
            loss, is_right = loss.mean(-1), is_right.mean(-1)
        weight_BK = is_labelled_BK * self.offset_weights
        with torch.no_grad():
            share_K = (is_right * is_labelled_BK).sum(0) / is_labelled_BK.sum(0).clamp_min(1)
            batch.set("diagnostics", share_K.expand(*batch.batch_size, -1))
        return {"loss": (loss * weight_BK).sum() / weight_BK.sum().clamp_min(1e-6)}

    def logits(self, batch: TensorDictBase) -> Tensor:
        """Logits of the actions at all offsets, float32 ``[B, K, A]`` or ``[B, K, S, A]``."""
        observations = [batch.get(key) for key in self.in_keys]
        with set_exploration_type(ExplorationType.DETERMINISTIC):  # without the noise of noisy layers
            features = self.network.features(*observations)
            if isinstance(self.network, QuantileNetwork):
                now = self.network.quantiles_of(features, fractions=self._fractions(features)).mean()
            else:
                now = self.network.policy(features)
        found = now.float().unsqueeze(1) / self.temperature
        if self.later is None:
            return found
        later = self.later(features).float()
        return torch.cat([found, later.view(len(found), -1, *found.shape[2:])], 1)

    def _fractions(self, features: Tensor) -> Tensor | None:
        """Few, since each costs as much as the rest of the head; those of a network that has its own stay."""
        source = getattr(self.network, "source", None)
        if not isinstance(source, FractionSource):
            return None
        return source(features.shape[:1], self.num_fractions, device=features.device)
