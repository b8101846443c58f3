"""Rollouts: a memory of the policy's own last steps, learnt from in a few epochs of shuffled minibatches.

Shapes: N lanes, T steps, F frames of all lanes together, L steps of a sequence.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from tensordict import NestedKey, TensorDict, TensorDictBase
from torch import Tensor
from torchrl.objectives.value import GAE

from tm_torchrl.data.epochs import Epochs
from tm_torchrl.data.replay import lanes_of

Values = Callable[[TensorDictBase], Tensor]


class Rollouts(Epochs):
    """Collects steps until there are enough, computes their advantages, and hands out minibatches.

    Advantages are generalised advantage estimates (Schulman et al. 2016) with the values that the network has when
    learning begins. A terminated episode ends in value 0; one that is truncated, or goes on after the rollout, in the
    value of its last state. The steps are forgotten after the last epoch.

    For networks with memory the minibatches are sequences ``[M, L]`` of consecutive steps, with the states that the
    policy had before them. ``is_init`` is True where an episode begins inside, and
    ``learning_mask`` is False where a sequence is padded.

    Args:
        frames_per_update: Frames of all lanes together that are collected before learning begins.
        num_epochs: How often each step is learnt from.
        minibatch_size: Frames in a minibatch, as near as equal minibatches allow.
        gae_lambda: 0 bootstraps after one step, 1 at the end of the rollout.
        gamma: Discount of one step.
        target_kl: The epochs end when the divergence from the policy that collected exceeds 1.5 times this; ``None``
            for all epochs.
        sequence_length: L, of networks with memory.
        kept_keys: Keys that the network reads.
        memory_key: The key of the state of a network with memory; ``None`` for minibatches of single steps.
        values: The values ``[F, 1]`` of states, without gradients.
        diagnostics: The columns of what the loss writes into each minibatch at ``diagnostics`` ``[M, K]``, to be
            averaged for the log; the first one is the divergence.
        seed: Seeds the order of the minibatches.
    """

    def __init__(
        self,
        *,
        frames_per_update: int,
        num_epochs: int,
        minibatch_size: int,
        gae_lambda: float,
        gamma: float,
        target_kl: float | None = None,
        sequence_length: int = 32,
        kept_keys: Sequence[NestedKey] = ("observation",),
        memory_key: NestedKey | None = None,
        values: Values,
        diagnostics: Sequence[str] = ("kl",),
        seed: int = 0,
    ) -> None:
        super().__init__(
            frames_per_update=frames_per_update,
            num_epochs=num_epochs,
            minibatch_size=minibatch_size,
            target_kl=target_kl,
            diagnostics=diagnostics,
            seed=seed,
        )
        for name, share in (("gae_lambda", gae_lambda), ("gamma", gamma)):
            if not 0.0 <= share <= 1.0:
                raise ValueError(f"{name}={share}: must be between 0 and 1")
        if sequence_length < 1:
            raise ValueError(f"sequence_length={sequence_length}: must be at least 1")
        self.sequence_length = sequence_length
        self.has_memory = memory_key is not None
        self.kept_keys = [*kept_keys, *([] if memory_key is None else [memory_key])]
        self.values = values
        # TorchRL's vectorised estimate, which is faster for long rollouts, raises where the product is 0.
        is_vectorized = gamma * gae_lambda > 0
        self.gae = GAE(gamma=float(gamma), lmbda=float(gae_lambda), value_network=None, vectorized=is_vectorized)
        self._pending: dict[range, list[TensorDictBase]] = {}  # batches [N, T] by their lanes
        self._explained_variance = 0.0

    def __len__(self) -> int:
        """The number of steps that wait for learning to begin."""
        return sum(batch.numel() for batches in self._pending.values() for batch in batches)

    def extend(self, steps: TensorDictBase) -> None:
        """Take the collector's steps ``[N, T]``."""
        after = [*self.kept_keys, "reward", "done", "terminated"]
        kept = steps.select(*self.kept_keys, "action", "action_log_prob", *(("next", key) for key in after))
        numbers = steps.get(("collector", "traj_ids"), None)
        if numbers is not None:
            kept["trajectory"] = numbers.reshape(steps.shape)
        lanes = lanes_of(steps)
        if lanes not in self._pending:  # where lanes are grouped anew, what the groups before began is given up
            self._pending = {
                of: batches for of, batches in self._pending.items() if of.stop <= lanes.start or lanes.stop <= of.start
            }
        self._pending.setdefault(lanes, []).append(kept)

    def metrics(self) -> dict[str, float]:
        """Means over the updates with the last rollout, the number of those updates, and its explained variance."""
        found = super().metrics()
        return found and {**found, "explained_variance": self._explained_variance}

    def state_dict(self) -> dict[str, Any]:
        """Everything: steps, the order of the minibatches, and sums for the log."""
        pending = [[of.start, of.stop, [each.clone() for each in batches]] for of, batches in self._pending.items()]
        return {**super().state_dict(), "pending": pending, "explained_variance": self._explained_variance}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a saved state."""
        super().load_state_dict(state)
        self._pending = {range(start, stop): list(batches) for start, stop, batches in state["pending"]}
        self._explained_variance = state["explained_variance"]

    def _gathered(self) -> TensorDictBase:
        """All steps, with their advantages."""
        parts = [self._with_advantages(joined(batches)) for batches in self._pending.values()]
        steps = [part.reshape(-1) for part in parts]
        rollout: TensorDictBase = torch.cat(steps)
        self._pending = {}
        target, value = rollout["value_target"], rollout["state_value"]
        unexplained, total = (target - value).var(correction=0), target.var(correction=0)
        self._explained_variance = float(1.0 - unexplained / total.clamp_min(1e-8))
        if self.has_memory:
            rollout = torch.cat([sequences(part, self.sequence_length) for part in parts])
        return rollout

    @torch.no_grad()
    def _with_advantages(self, steps: TensorDictBase) -> TensorDictBase:
        """Steps ``[N, T]`` with ``state_value``, ``advantage`` and ``value_target``, without what comes after."""
        num, length = steps.shape
        value = self.values(steps.select(*self.kept_keys).reshape(-1)).float().reshape(num, length, 1)
        after = steps["next"]
        done, terminated = (after[key].reshape(num, length) for key in ("done", "terminated"))
        next_value = torch.cat([value[:, 1:], torch.zeros_like(value[:, :1])], 1)
        is_last = done.clone()
        is_last[:, -1] = True
        rows = (is_last & ~terminated).nonzero(as_tuple=True)
        if len(rows[0]):  # states that no further step begins in
            next_value[rows] = self.values(after.select(*self.kept_keys)[rows]).float()
        found = TensorDict(
            {
                "state_value": value,
                "next": {
                    "state_value": next_value,
                    "reward": after["reward"].float().reshape(num, length, 1),
                    "done": done.unsqueeze(-1),
                    "terminated": terminated.unsqueeze(-1),
                },
            },
            [num, length],
        )
        self.gae(found)
        kept = steps.select(*self.kept_keys, "action", "action_log_prob")
        if self.has_memory:
            kept["is_init"] = torch.cat([torch.zeros_like(done[:, :1]), done[:, :-1]], 1)  # the first has its state
        return kept.update(found.select("state_value", "advantage", "value_target"))


def joined(batches: Sequence[TensorDictBase]) -> TensorDictBase:
    """Batches ``[N, T]`` of the same lanes, one after the other in time.

    Where a lane's trajectory breaks off between two of them, as after a worker's failure, its last step is marked as
    done (and not as terminated).

    Args:
        batches: In the order of time.
    """
    if len(batches) == 1:
        return batches[0]
    steps: TensorDictBase = torch.cat(list(batches), 1)
    numbers = steps.get("trajectory", None)
    if numbers is not None:
        done = steps["next", "done"]
        is_broken = (numbers[:, 1:] != numbers[:, :-1]).reshape(done[:, 1:].shape)
        done[:, :-1] |= is_broken
    return steps


def sequences(steps: TensorDictBase, length: int) -> TensorDictBase:
    """Steps ``[N, T]`` cut into sequences ``[N * C, L]`` with ``learning_mask``; the last ones are padded with zeros.

    Args:
        steps: Of N lanes.
        length: L.
    """
    num, num_steps = steps.shape
    steps["learning_mask"] = torch.ones(steps.shape, dtype=torch.bool, device=steps.device)
    missing = -num_steps % length
    if missing:
        steps = torch.cat([steps, torch.zeros_like(steps[:, :1]).expand(num, missing)], 1)
    return steps.reshape(-1, length)
