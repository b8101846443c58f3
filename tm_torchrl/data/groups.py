"""Memories of episodes in groups, and the one that judges each against the others of its group.

Shapes: N lanes, T steps, F steps of complete groups, E episodes of these.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from tensordict import NestedKey, TensorDictBase
from torch import Tensor

from tm_torchrl.data.epochs import Epochs
from tm_torchrl.data.replay import lanes_of
from tm_torchrl.settings.construct import ConfigError

EPSILON = 1e-4  # smallest deviation of a group's returns: TorchRL's and TRL's
MOST_WAITING = 2**18  # steps of groups that are not complete, at least; more of them have been forgotten by their group


class GroupedEpisodes(Epochs):
    """Base of memories that collect episodes until enough groups are complete.

    Steps of groups that are not complete wait, with the log-probabilities of the policy that acted, for the rollouts
    that follow. A group of which a worker's failure broke off an episode is forgotten.

    Args:
        group_size: Episodes in a group.
        frames_per_update: Steps of complete groups that are collected before learning begins.
        num_epochs: How often each step is learnt from.
        minibatch_size: The size of a minibatch, as near as equal minibatches allow.
        gamma: Discount of one step in the return.
        target_kl: The epochs end when the divergence from the policy that collected exceeds 1.5 times this; ``None``
            for all epochs.
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
        target_kl: float | None = None,
        kept_keys: Sequence[NestedKey] = ("observation",),
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
        if group_size < 2:
            raise ValueError(f"group_size={group_size}: must be at least 2; a return is compared with others")
        if not 0.0 <= gamma <= 1.0:
            raise ValueError(f"gamma={gamma}: must be between 0 and 1")
        self.group_size = group_size
        self.gamma = gamma
        self.kept_keys = list(kept_keys)
        self.most_waiting = max(MOST_WAITING, 16 * frames_per_update)
        self._waiting: list[TensorDictBase] = []  # flat
        self._num_waiting = 0
        self._open: dict[int, tuple[int, int]] = {}  # trajectory and group of each lane's episode that goes on
        self._lengths: dict[int, dict[int, int]] = {}  # of the episodes that have ended: by group and trajectory
        self._num_complete = 0  # steps
        self._spread, self._share_equal = 0.0, 0.0  # of the returns of the last rollout

    def __len__(self) -> int:
        """The number of steps in complete groups."""
        return self._num_complete

    def extend(self, steps: TensorDictBase) -> None:
        """Take the collector's steps ``[N, T]`` of an environment made by ``grouped``."""
        kept = steps.select(*self.kept_keys, "action", "action_log_prob")
        kept["reward"] = steps["next", "reward"].reshape(steps.shape)
        kept["place"] = steps["group"]
        trajectory = steps["collector", "traj_ids"].reshape(steps.shape)
        kept["trajectory"] = trajectory
        done = steps["next", "done"].reshape(steps.shape)
        self._drop_broken(lanes_of(steps), trajectory[:, 0].tolist())
        self._waiting.append(kept.reshape(-1))
        self._num_waiting += steps.numel()
        self._note_ends(kept["place"][done].tolist(), trajectory[done].tolist())
        last = zip(trajectory[:, -1].tolist(), kept["place"][:, -1, 0].tolist(), strict=True)
        for lane, found, is_done in zip(lanes_of(steps), last, done[:, -1].tolist(), strict=True):
            if not is_done:
                self._open[lane] = found
        num = self._num_waiting - self._num_complete
        if num > self.most_waiting:
            raise ConfigError(
                f"group_size={self.group_size}: groups do not fill: {num:,} steps wait for other episodes to end; set "
                "algorithm.segment_steps, which ends them, or make the groups smaller"
            )

    def state_dict(self) -> dict[str, Any]:
        """Everything: steps, ends of episodes, the order of the minibatches, and sums for the log."""
        return {
            **super().state_dict(),
            "waiting": [each.clone() for each in self._waiting],
            "open": dict(self._open),
            "lengths": {group: dict(lengths) for group, lengths in self._lengths.items()},
            "spread": self._spread,
            "share_equal": self._share_equal,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a saved state."""
        super().load_state_dict(state)
        self._waiting = list(state["waiting"])
        self._num_waiting = sum(len(each) for each in self._waiting)
        self._open = dict(state["open"])
        self._lengths = {group: dict(lengths) for group, lengths in state["lengths"].items()}
        self._num_complete = sum(sum(self._lengths[group].values()) for group in self._complete())
        self._spread, self._share_equal = state["spread"], state["share_equal"]

    def _complete(self) -> list[int]:
        return [group for group, lengths in self._lengths.items() if len(lengths) >= self.group_size]

    def _note_ends(self, places: list[list[int]], trajectories: list[int]) -> None:
        """Note episodes whose last states are at these places."""
        for (group, steps), trajectory in zip(places, trajectories, strict=True):
            lengths = self._lengths.setdefault(group, {})
            lengths[trajectory] = steps + 1
            if len(lengths) == self.group_size:
                self._num_complete += sum(lengths.values())

    def _drop_broken(self, lanes: range, trajectories: list[int]) -> None:
        """Forget the groups of episodes that went on in these lanes, but not in the trajectories that come now."""
        before = [self._open.pop(lane, None) for lane in lanes]
        broken = {
            open_[1]
            for open_, trajectory in zip(before, trajectories, strict=True)
            if open_ is not None and open_[0] != trajectory
        }
        if broken:
            self._waiting = [
                each[~torch.isin(each["place"][:, 0], each["place"].new_tensor(list(broken)))] for each in self._waiting
            ]
            self._num_waiting = sum(len(each) for each in self._waiting)
            for group in broken:
                self._lengths.pop(group, None)

    def _completed(self) -> TensorDictBase:
        """The steps of complete groups; the others go on waiting."""
        table: TensorDictBase = torch.cat(self._waiting)
        place, groups = table["place"], self._complete()
        ended = [trajectory for group in groups for trajectory in self._lengths.pop(group)]
        is_taken = torch.isin(table["trajectory"], place.new_tensor(ended))
        rest = table[~is_taken]
        self._waiting, self._num_waiting, self._num_complete = [rest], len(rest), 0
        found: TensorDictBase = table[is_taken]
        return found


class Groups(GroupedEpisodes):
    """Compares the returns of each group's episodes and hands out minibatches of steps.

    Each step of an episode has the same advantage: the episode's return minus the mean of its group (Shao et al. 2024).
    Minibatches are of steps, so that an episode counts by its length, as in a policy gradient.

    Args:
        divide_by_deviation: Whether advantages are divided by the deviation of the group's returns.
        group_size: Episodes in a group.
        frames_per_update: Steps of complete groups that are collected before learning begins.
        num_epochs: How often each step is learnt from.
        minibatch_size: Steps in a minibatch.
        gamma: Discount of one step in the return.
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
        divide_by_deviation: bool = True,
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
        self.divide_by_deviation = divide_by_deviation

    def metrics(self) -> dict[str, float]:
        """Those of the epochs; the mean deviation of the returns in a group, and the share of groups without any."""
        found = super().metrics()
        return found and {**found, "group_spread": self._spread, "equal_groups": self._share_equal}

    def _gathered(self) -> TensorDictBase:
        found = self._completed()
        advantage, deviations = group_advantages(
            found["reward"],
            place=found["place"],
            trajectory=found["trajectory"],
            gamma=self.gamma,
            divide_by_deviation=self.divide_by_deviation,
        )
        self._spread = float(deviations.mean())
        self._share_equal = float((deviations < EPSILON).float().mean())
        return found.exclude("reward", "place", "trajectory").set("advantage", advantage.unsqueeze(-1))


def group_advantages(
    reward: Tensor, *, place: Tensor, trajectory: Tensor, gamma: float, divide_by_deviation: bool
) -> tuple[Tensor, Tensor]:
    """The advantage of each step ``[F]``, and the deviation of the returns in each group.

    Args:
        reward: Of each step, ``[F]``.
        place: Each step's group, and the steps before it in its episode, ``[F, 2]``.
        trajectory: The number of its episode, ``[F]``.
        gamma: Discount of one step in the return.
        divide_by_deviation: Whether advantages are divided by that deviation.

    Examples:
        >>> place = torch.tensor([[7, 0], [7, 1], [7, 0]])  # one group: an episode of two steps and one of one
        >>> reward, trajectory = torch.tensor([1.0, 1.0, 1.0]), torch.tensor([3, 3, 4])
        >>> group_advantages(reward, place=place, trajectory=trajectory, gamma=1.0, divide_by_deviation=False)
        (tensor([ 0.5000,  0.5000, -0.5000]), tensor([0.7071]))
    """
    episode, return_E, group_E = episode_returns(reward, place=place, trajectory=trajectory, gamma=gamma)
    groups, group_E = torch.unique(group_E, return_inverse=True)
    sums = return_E.new_zeros(len(groups))
    counts = sums.index_add(0, group_E, torch.ones_like(return_E))
    error_E = return_E - (sums.index_add(0, group_E, return_E) / counts)[group_E]
    deviations = (sums.index_add(0, group_E, error_E.square()) / (counts - 1).clamp_min(1)).sqrt()
    if divide_by_deviation:
        error_E = error_E / deviations.clamp_min(EPSILON)[group_E]
    return error_E[episode].float(), deviations.float()


def episode_returns(
    reward: Tensor, *, place: Tensor, trajectory: Tensor, gamma: float
) -> tuple[Tensor, Tensor, Tensor]:
    """The number of each step's episode ``[F]``, and each episode's return and group ``[E]``.

    Args:
        reward: Of each step, ``[F]``.
        place: Each step's group, and the steps before it in its episode, ``[F, 2]``.
        trajectory: The number of its episode, ``[F]``.
        gamma: Discount of one step in the return.
    """
    episodes, episode = torch.unique(trajectory, return_inverse=True)
    zeros = torch.zeros(len(episodes), dtype=torch.float64, device=reward.device)
    return_E = zeros.index_add(0, episode, reward.double() * gamma ** place[:, 1].double())
    return episode, return_E, torch.zeros_like(episodes).scatter(0, episode, place[:, 0])
