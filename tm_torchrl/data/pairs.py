"""Pairs: a memory of episodes from the same start, one of which is preferred.

Shapes: F steps, P pairs, T steps of the longest episode.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from tensordict import NestedKey, TensorDict, TensorDictBase
from torch import Tensor

from tm_torchrl.data.groups import GroupedEpisodes, episode_returns


class Pairs(GroupedEpisodes):
    """Pairs the episodes of each group: the best with the worst, the second best with the second worst, and so on.

    What counts is the return. Episodes whose returns hardly differ make no pair. A minibatch ``[P]`` holds ``steps``
    ``[P, 2, T]``, the preferred episode first, and ``mask`` ``[P, 2, T]``, which is False behind the end of an episode.

    Args:
        group_size: Episodes in a group.
        frames_per_update: Steps of complete groups that are collected before learning begins.
        num_epochs: How often each pair is learnt from.
        minibatch_size: Pairs in a minibatch.
        gamma: Discount of one step in the return.
        least_difference: Between the returns of a pair; more than this, so that ties make no pair.
        target_kl: The epochs end when the divergence exceeds 1.5 times this; ``None`` for all epochs.
        kept_keys: Keys that the network reads.
        diagnostics: The columns of what the loss writes into each minibatch.
        seed: Seeds the order of the minibatches.
    """

    def __init__(
        self,
        *,
        group_size: int,
        frames_per_update: int,
        num_epochs: int,
        minibatch_size: int,
        gamma: float,
        least_difference: float = 0.0,
        target_kl: float | None = None,
        kept_keys: Sequence[NestedKey] = ("observation",),
        diagnostics: Sequence[str] = ("kl",),
        seed: int = 0,
    ) -> None:
        super().__init__(
            group_size=group_size,
            frames_per_update=frames_per_update,
            num_epochs=num_epochs,
            minibatch_size=minibatch_size,
            gamma=gamma,
            target_kl=target_kl,
            kept_keys=kept_keys,
            diagnostics=diagnostics,
            seed=seed,
        )
        if not least_difference >= 0:
            raise ValueError(f"least_difference={least_difference}: must not be negative")
        self.least_difference = least_difference

    def metrics(self) -> dict[str, float]:
        """Those of the epochs; the mean difference of the returns in a pair, and the share of pairs that were ties."""
        return {**super().metrics(), "return_difference": self._spread, "tied_pairs": self._share_equal}

    def _gathered(self) -> TensorDictBase:
        steps = self._completed()
        episode, return_E, group_E = episode_returns(
            steps["reward"], place=steps["place"], trajectory=steps["trajectory"], gamma=self.gamma
        )
        pairs = matched(return_E, group_E)
        difference = return_E[pairs[:, 0]] - return_E[pairs[:, 1]]
        is_clear = difference > self.least_difference
        self._spread = float(difference.mean())
        self._share_equal = 1.0 - float(is_clear.float().mean())
        rows = rows_of(episode, steps["place"][:, 1])[pairs[is_clear]]
        kept = steps.exclude("reward", "place", "trajectory", "action_log_prob")
        return TensorDict({"steps": kept[rows.clamp_min(0)], "mask": rows >= 0}, [len(rows)])


def matched(return_E: Tensor, group_E: Tensor) -> Tensor:
    """Pairs ``[P, 2]`` of episodes of the same group: the best and the worst, the next best and the next worst.

    Args:
        return_E: The return of each episode.
        group_E: The group of each episode.

    Examples:
        >>> matched(torch.tensor([1.0, 5.0, 2.0, 4.0, 3.0]), torch.tensor([7, 7, 7, 7, 7])).tolist()
        [[1, 0], [3, 2]]
    """
    pairs = [torch.zeros(0, 2, dtype=torch.int64, device=return_E.device)]
    for group in sorted(set(group_E.tolist())):
        members = (group_E == group).nonzero().squeeze(-1)
        best_first = members[return_E[members].argsort(descending=True, stable=True)]
        num = len(members) // 2
        pairs.append(torch.stack([best_first[:num], best_first.flip(0)[:num]], -1))
    return torch.cat(pairs)


def rows_of(episode: Tensor, step: Tensor) -> Tensor:
    """The rows of each episode's steps in order, ``[E, T]``; -1 behind its end.

    Args:
        episode: The number of each row's episode, ``[F]``.
        step: The steps before it in its episode, ``[F]``.

    Examples:
        >>> rows_of(torch.tensor([1, 0, 1]), torch.tensor([1, 0, 0]))
        tensor([[ 1, -1],
                [ 2,  0]])
    """
    rows = episode.new_full((int(episode.max()) + 1, int(step.max()) + 1), -1)
    rows[episode, step] = torch.arange(len(episode), device=episode.device)
    return rows
