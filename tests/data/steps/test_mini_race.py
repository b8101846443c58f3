"""The mini-race against its rules written out, over every clock and number of steps."""

from __future__ import annotations

import copy
import itertools
import pickle
from collections import Counter

import pytest
import torch
from tensordict import TensorDict
from torchrl.data import LazyTensorStorage, TensorDictReplayBuffer
from torchrl.envs.transforms import Compose

from tests.data.episodes import make_lanes, to_batch
from tm_torchrl.data import MiniRace, NStep
from tm_torchrl.data.steps.mini_race import mini_race

H = 140


def by_the_rules(t: int, n: int, finish: int, rewards: list[float], gammas: list[float], phi: float, next_phi: float):
    """Linesight's rules, one transition at a time."""
    left = n
    while left > 1 and t + left > H:
        left -= 1
    terminal = left >= finish or t + n >= H
    effective = 0.0 if terminal else gammas[left - 1]
    return left, terminal, rewards[left - 1] + effective * next_phi - phi


def test_equals_the_rules_for_every_clock_and_length() -> None:
    rewards, gammas = [1.0, 3.0, 7.0], [0.5, 0.25, 0.125]
    cases = list(itertools.product(range(H), (1, 2, 3), (1, 2, 3, 4), ((0.0, 0.0), (-2.0, -4.0))))
    expected = [by_the_rules(t, n, finish, rewards, gammas, *phis) for t, n, finish, phis in cases]
    t, n, finish = (torch.tensor([case[i] for case in cases]).unsqueeze(-1) for i in range(3))
    phis = torch.tensor([case[3] for case in cases])
    race = mini_race(
        t,
        n,
        finish,
        torch.tensor([rewards] * len(cases)),
        torch.tensor([gammas] * len(cases)),
        (phis[:, :1], phis[:, 1:]),
        num_actions=H,
    )
    assert race["num_used"].flatten().tolist() == [case[0] for case in expected]
    assert race["is_terminal"].flatten().tolist() == [case[1] for case in expected]
    assert race["reward"].flatten().tolist() == [case[2] for case in expected]


def test_clocks_have_linesights_distribution() -> None:
    """P(0) = 11/180, P(1..30) = 2/180 each, P(31..139) = 1/180 each: chi-square with 139 degrees of freedom."""
    num = 180_000
    counts = Counter(MiniRace(seed=0).draw_clocks(num).tolist())
    assert set(counts) == set(range(H))
    weights = {0: 11, **dict.fromkeys(range(1, 31), 2), **dict.fromkeys(range(31, H), 1)}
    assert sum(weights.values()) == 180
    chi_square = sum((counts[t] - 1000 * weight) ** 2 / (1000 * weight) for t, weight in weights.items())
    assert 88 < chi_square < 206  # 99.9 % lie below 195 and above 93


def make_sample(num: int = 64, *, n: int = 3) -> TensorDict:
    ones = torch.ones(num, 1, dtype=torch.int64)
    return TensorDict(
        {
            "observation": torch.full((num, 6), 9.0),
            "step_rewards": torch.tensor([1.0, 3.0, 7.0]).expand(num, 3).clone(),
            "step_discounts": torch.tensor([0.5, 0.25, 0.125]).expand(num, 3).clone(),
            "num_steps": n * ones,
            "steps_to_next_obs": n * ones,
            "steps_to_finish": 4 * ones,
            "potential": torch.full((num, 1), -2.0),
            "next": {
                "observation": torch.full((num, 6), 8.0),
                "reward": torch.full((num, 1), 7.0),
                "done": torch.zeros(num, 1, dtype=torch.bool),
                "terminated": torch.zeros(num, 1, dtype=torch.bool),
                "truncated": torch.zeros(num, 1, dtype=torch.bool),
                "potential": torch.full((num, 1), -4.0),
            },
        },
        batch_size=[num],
    )


def test_sample_is_rewritten_and_the_original_is_not() -> None:
    sample = make_sample(4000, n=2)
    before = sample.clone()
    out = MiniRace(seed=3)(sample)
    assert bool((sample == before).all())
    clock = out["observation"][:, 0]
    assert out["next", "observation"][:, 0].tolist() == (clock + 2).tolist()
    assert out["observation"][:, 1:].unique().tolist() == [9.0]
    assert out["next", "observation"][:, 1:].unique().tolist() == [8.0]
    late = clock + 2 >= H
    assert int(late.sum()) > 10
    assert torch.equal(out["next", "terminated"].flatten(), late)
    assert torch.equal(out["next", "done"], out["next", "terminated"])
    assert out["steps_to_next_obs"].flatten().tolist() == torch.where(clock == 139, 1, 2).tolist()
    # within: 3 + 0.25 * -4 - -2 = 4; to the horizon: 3 + 2 = 5; one step of two: 1 + 2 = 3
    expected = torch.where(clock == 139, 3.0, torch.where(late, 5.0, 4.0))
    assert out["next", "reward"].flatten().tolist() == expected.tolist()


def test_a_potential_of_observations_equals_a_stored_one() -> None:
    """Observations are 9 here and 8 there, so that twice them, less 20, are the stored -2 and -4."""
    sample = make_sample(200)

    def potential(observation: torch.Tensor) -> torch.Tensor:
        return 2.0 * observation[:, 3] - 20.0

    stored, computed = MiniRace(seed=3)(sample), MiniRace(seed=3, potential=potential)(sample.exclude("potential"))
    assert torch.equal(stored["next", "reward"], computed["next", "reward"])


def test_a_cut_episode_goes_on_unless_the_mini_race_ends() -> None:
    sample = make_sample(4000)
    sample["next", "done"].fill_(True)
    sample["next", "truncated"].fill_(True)
    out = MiniRace(seed=3)(sample)
    late = out["observation"][:, 0] + 3 >= H
    assert torch.equal(out["next", "terminated"].flatten(), late)
    assert torch.equal(out["next", "truncated"].flatten(), ~late)
    assert bool(out["next", "done"].all())


def test_clock_may_stand_elsewhere() -> None:
    out = MiniRace(seed=3, clock_index=4)(make_sample())
    assert out["observation"][:, 0].unique().tolist() == [9.0]
    assert out["next", "observation"][:, 4].tolist() == (out["observation"][:, 4] + 3).tolist()


def test_draws_anew_and_from_its_own_generator() -> None:
    torch.manual_seed(0)
    state = torch.get_rng_state()
    transform = MiniRace(seed=5)
    first, second = (transform(make_sample())["observation"][:, 0] for _ in range(2))
    assert not torch.equal(first, second)
    assert torch.equal(torch.get_rng_state(), state)
    again = MiniRace(seed=5)
    assert torch.equal(again(make_sample())["observation"][:, 0], first)
    loaded, copied = MiniRace(seed=6), copy.deepcopy(again)
    loaded.load_state_dict(again.state_dict())
    for each in (again, loaded, copied):
        assert torch.equal(each(make_sample())["observation"][:, 0], second)


def test_after_the_n_step_writer_in_a_buffer() -> None:
    lanes = make_lanes(2, num_lanes=2, num_steps=30)
    buffer = TensorDictReplayBuffer(storage=LazyTensorStorage(100), batch_size=512)
    buffer.append_transform(NStep(3, gamma=0.5)).append_transform(MiniRace(seed=0, clock_index=0))
    buffer.extend(to_batch(lanes))
    stored = buffer.storage[:].clone()
    sample = buffer.sample()
    assert bool((buffer.storage[:] == stored).all())
    # the second number of an observation is minus the first, before the clock takes the first one's place
    row = {int(number): i for i, number in enumerate(stored["observation"][:, 0])}
    seen = stored[[row[-int(number)] for number in sample["observation"][:, 1]]]
    for i in range(len(sample)):
        t, n = int(sample["observation"][i, 0]), int(seen["num_steps"][i])
        left, terminal, reward = by_the_rules(
            t,
            n,
            int(seen["steps_to_finish"][i]),
            seen["step_rewards"][i].tolist(),
            seen["step_discounts"][i].tolist(),
            0.0,
            0.0,
        )
        assert sample["next", "observation"][i, 0] == t + n
        assert sample["steps_to_next_obs"][i] == left
        assert sample["next", "terminated"][i] == terminal
        assert sample["next", "reward"][i] == reward


def test_transforms_of_a_buffer_can_be_copied_and_pickled() -> None:
    lanes = make_lanes(2, num_lanes=2, num_steps=12)
    first, second = (to_batch([lane[part] for lane in lanes]) for part in (slice(7), slice(7, 12)))
    transform = Compose(NStep(3, gamma=1.0), MiniRace(seed=0, clock_index=0))
    transform.inv(first)
    copies = [pickle.loads(pickle.dumps(transform)), copy.deepcopy(transform)]
    expected = transform.inv(second)
    for other in copies:
        assert bool((other.inv(second) == expected).all())
        assert torch.equal(other[1].draw_clocks(9), copy.deepcopy(transform)[1].draw_clocks(9))


def test_errors_say_what_to_do() -> None:
    with pytest.raises(ValueError, match="num_actions=0"):
        MiniRace(0)
    with pytest.raises(ValueError, match="oversample_long_term_steps=200"):
        MiniRace(oversample_long_term_steps=200)
    with pytest.raises(ValueError, match=r"\['step_rewards'\] missing.*append NStep\(\.\.\.\) to the buffer"):
        MiniRace()(make_sample().exclude("step_rewards"))
    with pytest.raises(ValueError, match="'potential': must"):
        MiniRace()(make_sample().exclude("potential"))
    with pytest.raises(ValueError, match="num_actions=2: must be at least 3"):
        MiniRace(2, oversample_long_term_steps=0, oversample_maximum_term_steps=0)(make_sample())
