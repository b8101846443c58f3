"""Statistics of episodes over batches of all lanes, of some, and across seams."""

from __future__ import annotations

import torch
from tensordict import TensorDict

from tm_torchrl.trainers.episodes import EpisodeStatistics


def batch(rewards: list[list[float]], *, first_lane: int, number: int, ends: bool) -> TensorDict:
    """Steps of some lanes in trajectories ``100 * number + lane``; the last one ends if asked for."""
    reward = torch.tensor(rewards)
    lane = torch.arange(first_lane, first_lane + len(reward)).unsqueeze(1).expand(reward.shape)
    done = torch.zeros(reward.shape, dtype=torch.bool)
    done[:, -1] = ends
    after = {"reward": reward.unsqueeze(-1), "done": done.unsqueeze(-1), "terminated": done.unsqueeze(-1)}
    numbers = {"lane": lane, "traj_ids": lane + 100 * number}
    return TensorDict({"next": after, "collector": numbers}, batch_size=reward.shape)


def test_lanes_that_come_in_any_order_are_summed_apart() -> None:
    """Lane 0 earns 1 + 2 + 4, lane 1 earns 8 + 16."""
    statistics = EpisodeStatistics()
    statistics.add(batch([[1.0]], first_lane=0, number=0, ends=False))
    statistics.add(batch([[8.0]], first_lane=1, number=0, ends=False))
    statistics.add(batch([[2.0]], first_lane=0, number=0, ends=False))
    statistics.add(batch([[16.0]], first_lane=1, number=0, ends=True))
    again = EpisodeStatistics()
    again.load_state_dict(statistics.state_dict())
    again.add(batch([[4.0]], first_lane=0, number=0, ends=True))
    assert list(again.last) == [(24.0, 2.0, 1.0), (7.0, 3.0, 1.0)]


def test_an_episode_that_a_failure_cut_off_is_not_counted_in_the_next() -> None:
    """The first trajectory earns 5 and is lost; the second earns 1 + 2 in two steps."""
    statistics = EpisodeStatistics()
    statistics.add(batch([[2.0, 3.0]], first_lane=0, number=0, ends=False))
    statistics.add(batch([[1.0, 2.0]], first_lane=0, number=1, ends=True))
    assert list(statistics.last) == [(3.0, 2.0, 1.0)]
