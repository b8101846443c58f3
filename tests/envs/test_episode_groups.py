"""Groups of episodes: equal starts to the last bit, places in groups, cuts, and continuing from a saved state."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from tensordict import TensorDictBase
from torchrl.envs import EnvBase, RewardScaling

from tm_torchrl.envs import TrackManiaEnv, grouped
from tm_torchrl.envs.gymnasium_batch import GymnasiumBatch
from tm_torchrl.envs.transformed import transformed
from tm_torchrl.sim import Randomisation, Starts

STARTS = Starts(zone=0.5, askew=0.2, wall=0.2, jitter_m=0.5, jitter_speed=2.0)


def cars(num: int = 4, **options: Any) -> TrackManiaEnv:
    return TrackManiaEnv(num, track="oval", starts=STARTS, randomisation=Randomisation(mass=0.3), seed=3, **options)


def cartpoles(num: int = 4) -> GymnasiumBatch:
    return GymnasiumBatch("CartPole-v1", num_envs=num, seed=3)


def reset_some(env: EnvBase, lanes: list[int], seen: TensorDictBase) -> TensorDictBase:
    mask = torch.zeros(*env.batch_size, 1, dtype=torch.bool)
    mask[lanes] = True
    return env.reset(seen.exclude("next").set("_reset", mask))


@pytest.mark.parametrize("make", [cars, cartpoles])
@pytest.mark.parametrize("wrap", [False, True], ids=["plain", "transformed"])
def test_a_group_begins_in_one_state_at_any_time(make: Any, wrap: bool) -> None:
    """Groups of three: lanes 0, 1, 2 begin group 0, lane 3 group 1; then lane 1, and after a step lane 0, join it."""
    inner = transformed(make(), [partial(RewardScaling, 0.0, 2.0)]) if wrap else make()
    env = grouped(inner, group_size=3)
    first = env.reset()
    assert first["group"].tolist() == [[0, 0], [0, 0], [0, 0], [1, 0]]
    seen = first["observation"]
    assert seen[0].equal(seen[1]) and seen[0].equal(seen[2]) and not seen[0].equal(seen[3])
    again = reset_some(env, [1], first)
    assert again["observation"][1].equal(seen[3])
    after = env.step(again.set("action", torch.ones(4, dtype=torch.int64)))["next"]
    assert after["group"].tolist() == [[0, 1], [1, 1], [0, 1], [1, 1]]
    last = reset_some(env, [0, 2], after)
    assert last["group"].tolist() == [[1, 0], [1, 1], [2, 0], [1, 1]]
    assert last["observation"][0].equal(seen[3]) and not last["observation"][2].equal(seen[3])


def test_equal_actions_lead_to_equal_futures() -> None:
    """Cars of a group are the same to the last bit, also their masses; those of another group are not."""
    env = grouped(cars(), group_size=2)
    seen = env.reset()
    for action in (0, 1, 6, 2, 0, 0, 3, 0):
        seen = env.step(seen.set("action", torch.full((4,), action)))["next"]
    rows = env.env.world.save()
    assert rows[0].equal(rows[1]) and rows[2].equal(rows[3]) and not rows[0].equal(rows[2])
    assert seen["reward"][0].equal(seen["reward"][1])


def test_mixed_starts_are_those_of_the_environment() -> None:
    env = grouped(cars(), group_size=2, shares_starts=False)
    seen = env.reset()
    assert seen["group"].tolist() == [[0, 0], [0, 0], [1, 0], [1, 0]]
    assert not seen["observation"][0].equal(seen["observation"][1])
    plain = cars()
    assert seen["observation"].equal(plain.reset()["observation"])


def test_an_episode_is_cut_after_its_steps() -> None:
    env = grouped(cars(), group_size=2, segment_steps=2)
    seen = env.reset()
    for is_over in (False, True):
        seen = env.step(seen.set("action", torch.zeros(4, dtype=torch.int64)))["next"]
        assert seen["done"].all() == seen["truncated"].all() == is_over and not seen["terminated"].any()


def test_an_end_by_itself_stays_terminated() -> None:
    """A pole that is pushed one way falls within 12 steps; at a cut after as many steps it is terminated only."""
    ends = []
    for segment_steps in (None, 1):
        env = grouped(cartpoles(1), group_size=2, segment_steps=segment_steps)
        if segment_steps is not None:
            env.segment_steps = ends[0]
        seen, num = env.reset(), 0
        while not bool(seen["done"]):
            seen, num = env.step(seen.set("action", torch.ones(1, dtype=torch.int64)))["next"], num + 1
        assert bool(seen["terminated"]) and not bool(seen["truncated"])
        ends.append(num)
    assert ends[0] == ends[1] < 12


def test_workers_number_and_seed_their_groups_apart() -> None:
    """Two workers of two copies: groups 0, 4, ... and 2, 6, ...; each start belongs to one group."""
    envs = [grouped(cars(2, first_car=first), group_size=2, first=first, stride=4) for first in (0, 2)]
    seen = [[env.reset() for _ in range(2)] for env in envs]
    numbers = [state["group"][:, 0].unique().tolist() for states in seen for state in states]
    assert numbers == [[0], [4], [2], [6]]
    starts = {tuple(state["observation"][0].tolist()) for states in seen for state in states}
    assert len(starts) == 4


def test_it_continues_from_a_saved_state() -> None:
    def play(env: EnvBase, seen: TensorDictBase) -> list[Any]:
        found = []
        for _ in range(4):
            seen = env.step(seen.set("action", torch.tensor([0, 1, 2, 6])))["next"]
            found.append((seen["observation"].clone(), seen["group"].clone()))
            if seen["done"].any():
                seen = reset_some(env, seen["done"].flatten().nonzero().flatten().tolist(), seen)
        return found

    env: Any = grouped(cars(), group_size=3, segment_steps=3)
    seen = env.reset()
    seen = env.step(seen.set("action", torch.zeros(4, dtype=torch.int64)))["next"]
    saved = env.save()
    expected = play(env, env.present())
    other: Any = grouped(cars(), group_size=3, segment_steps=3)
    other.restore(saved)
    for (observation, place), (seen_then, place_then) in zip(play(other, other.present()), expected, strict=True):
        assert observation.equal(seen_then) and place.equal(place_then)


def test_an_environment_whose_copies_take_no_seeds_is_refused() -> None:
    from torchrl.envs import GymEnv

    with pytest.raises(ValueError, match=r"^env=GymEnv: has no seed_copies"):
        grouped(GymEnv("CartPole-v1"), group_size=2)
