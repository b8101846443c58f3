"""Previous actions and action blocks in other environments."""

from __future__ import annotations

import pytest
import torch
from torchrl.envs import Compose, GymEnv, ParallelEnv, RewardSum, SerialEnv, StepCounter, TransformedEnv
from torchrl.envs.transforms import Transform
from torchrl.envs.utils import check_env_specs

from tests.envs.countdown import Countdown
from tm_torchrl.envs.transforms import ActionBlock, PreviousActions


def block_and_history() -> Transform:
    return Compose(PreviousActions(3), ActionBlock(2))


def make_transform(name: str) -> Transform:
    return {"history": lambda: PreviousActions(2), "block": lambda: ActionBlock(3), "both": block_and_history}[name]()


class MakeEnv:
    """An environment with a transform; a class, so that it can be sent to a worker process."""

    def __init__(self, name: str, length: int = 4) -> None:
        self.name = name
        self.length = length

    def __call__(self) -> TransformedEnv:
        return TransformedEnv(Countdown((self.length,), is_batched=False), make_transform(self.name))


class MakeCountdown(MakeEnv):
    def __call__(self) -> Countdown:
        return Countdown((self.length,), is_batched=False)


@pytest.mark.parametrize("name", ["history", "block", "both"])
@pytest.mark.parametrize("kind", ["single", "batched", "one-hot", "serial", "over serial", "gym"])
def test_environment_specs_hold(name: str, kind: str) -> None:
    env = {
        "single": lambda: MakeEnv(name)(),
        "batched": lambda: TransformedEnv(Countdown((2, 5)), make_transform(name)),
        "one-hot": lambda: TransformedEnv(Countdown((2, 5), is_one_hot=True), make_transform(name)),
        "serial": lambda: SerialEnv(2, MakeEnv(name)),
        "over serial": lambda: TransformedEnv(SerialEnv(2, MakeCountdown(name)), make_transform(name)),
        "gym": lambda: TransformedEnv(GymEnv("CartPole-v1"), make_transform(name)),
    }[kind]()
    check_env_specs(env)


def test_specs_hold_over_worker_processes() -> None:
    env = TransformedEnv(
        ParallelEnv(2, [MakeCountdown("both", 3), MakeCountdown("both", 4)], mp_start_method="spawn"),
        block_and_history(),
    )
    try:
        check_env_specs(env)
        assert_rewards_stop_at_the_end(env, lengths=(3, 4))
    finally:
        env.close()


def play(env: TransformedEnv, actions: list) -> list:
    """Data of each step, with resets in between."""
    data = env.reset()
    steps = []
    for action in actions:
        step, data = env.step_and_maybe_reset(data.set("action", torch.tensor(action)))
        steps.append(step)
    return steps


def test_history_is_oldest_first_and_one_hot() -> None:
    env = TransformedEnv(Countdown((9,)), PreviousActions(2))
    first, second = play(env, [[1], [2]])
    #                                            steps, number | older   | newer
    assert first["observation"].tolist() == [[0.0, 0.0, 0, 0, 0, 0, 0, 0]]
    assert first["next", "observation"].tolist() == [[1.0, 0.0, 0, 0, 0, 0, 1, 0]]
    assert second["next", "observation"].tolist() == [[2.0, 0.0, 0, 1, 0, 0, 0, 1]]
    assert second["next", "previous_actions"].tolist() == [[1, 2]]


def test_history_in_key_bits_starts_with_the_first_action() -> None:
    keys = torch.tensor([[1, 0], [0, 1], [1, 1]])  # gas, brake
    env = TransformedEnv(Countdown((9,)), PreviousActions(2, codes=keys, first_action=0))
    (step,) = play(env, [[2]])
    assert step["observation"][0, 2:].tolist() == [1.0, 0.0, 1.0, 0.0]
    assert step["next", "observation"][0, 2:].tolist() == [1.0, 0.0, 1.0, 1.0]


def test_history_of_one_hot_actions() -> None:
    env = TransformedEnv(Countdown((9,), is_one_hot=True), PreviousActions(1))
    data = env.reset().set("action", torch.tensor([[False, False, True]]))
    assert env.step(data)["next", "previous_actions"].tolist() == [[2]]


@pytest.mark.parametrize("kind", ["batched", "over serial"])
def test_history_begins_anew_only_where_an_environment_is_reset(kind: str) -> None:
    base = Countdown((2, 9)) if kind == "batched" else SerialEnv(2, [MakeCountdown("", 2), MakeCountdown("", 9)])
    steps = play(TransformedEnv(base, PreviousActions(2)), [[1, 2], [2, 2], [0, 1]])
    assert steps[1]["next", "previous_actions"].tolist() == [[1, 2], [2, 2]]  # of the step that ended the first one
    assert steps[2]["previous_actions"].tolist() == [[-1, -1], [2, 2]]
    assert steps[2]["observation"][:, 2:].tolist() == [[0, 0, 0, 0, 0, 0], [0, 0, 1, 0, 0, 1]]
    assert steps[2]["next", "previous_actions"].tolist() == [[-1, 0], [2, 1]]


def test_history_says_what_is_wrong() -> None:
    with pytest.raises(ValueError, match="num_previous_actions=0"):
        PreviousActions(0)
    with pytest.raises(ValueError, match=r"codes has shape \(3,\)"):
        PreviousActions(1, codes=torch.zeros(3))
    with pytest.raises(ValueError, match="codes has 2 rows"):
        TransformedEnv(Countdown(), PreviousActions(1, codes=torch.zeros(2, 4))).reset()
    with pytest.raises(ValueError, match="first_action=3"):
        TransformedEnv(Countdown(), PreviousActions(1, first_action=3)).reset()
    with pytest.raises(ValueError, match=r"discrete actions.*Bounded"):
        TransformedEnv(GymEnv("Pendulum-v1"), PreviousActions(1)).reset()
    with pytest.raises(ValueError, match="insert PreviousActions before it"):
        TransformedEnv(Countdown(), Compose(ActionBlock(2), PreviousActions(1))).reset()
    with pytest.raises(KeyError, match=r"no 'floats' .*observation, pixels"):
        TransformedEnv(Countdown(), PreviousActions(1, observation_key="floats")).observation_spec  # noqa: B018
    with pytest.raises(RuntimeError, match="TransformedEnv"):
        PreviousActions(1)(Countdown().reset())
    env = TransformedEnv(Countdown(), PreviousActions(1))
    with pytest.raises(KeyError, match=r"env\.reset\(\)"):
        env.step(env.reset().select("done").set("action", torch.tensor([1])))


def assert_rewards_stop_at_the_end(env: TransformedEnv, *, lengths: tuple[int, int]) -> None:
    assert lengths == (3, 4)
    data = env.reset()
    first, data = env.step_and_maybe_reset(data.set("action", torch.tensor([[1, 2], [2, 2]])))
    assert first["next", "reward"].tolist() == [[3.0], [4.0]]
    assert first["next", "observation"][:, 0].tolist() == [2.0, 2.0]
    second, data = env.step_and_maybe_reset(data.set("action", torch.tensor([[1, 2], [2, 1]])))
    # The first one ends with its third action: the reward of its fourth, 2, or 100 for going on, is not in the sum.
    assert second["next", "reward"].tolist() == [[1.0], [3.0]]
    assert second["next", "observation"][:, 0].tolist() == [3.0, 4.0]
    assert second["next", "done"].tolist() == [[True], [True]]
    assert data["observation"][:, 0].tolist() == [0.0, 0.0]


@pytest.mark.parametrize("kind", ["batched", "serial", "over serial"])
def test_block_sums_rewards_and_stops_where_done(kind: str) -> None:
    env = {
        "batched": lambda: TransformedEnv(Countdown((3, 4)), ActionBlock(2)),
        "serial": lambda: SerialEnv(2, [MakeEnv("both", 3), MakeEnv("both", 4)]),
        "over serial": lambda: TransformedEnv(
            SerialEnv(2, [MakeCountdown("", 3), MakeCountdown("", 4)]), ActionBlock(2)
        ),
    }[kind]()
    assert_rewards_stop_at_the_end(env, lengths=(3, 4))


def test_block_done_by_its_first_action_plays_no_other() -> None:
    base = Countdown((1,), is_batched=False)
    env = TransformedEnv(base, ActionBlock(3))
    step = env.step(env.reset().set("action", torch.tensor([2, 1, 1])))
    assert step["next", "reward"].tolist() == [2.0]
    assert base.taken.item() == 1


def test_block_of_one_is_a_step() -> None:
    (step,) = play(TransformedEnv(Countdown((9, 9)), ActionBlock(1)), [[[1], [2]]])
    assert step["next", "reward"].tolist() == [[1.0], [2.0]]


def test_block_grows_every_kind_of_action_behind_the_batch() -> None:
    assert TransformedEnv(Countdown((3, 4)), ActionBlock(5)).action_spec.shape == (2, 5)
    assert TransformedEnv(Countdown((3, 4), is_one_hot=True), ActionBlock(5)).action_spec.shape == (2, 5, 3)
    assert TransformedEnv(GymEnv("Pendulum-v1"), ActionBlock(5)).action_spec.shape == (5, 1)


def test_block_frees_the_bounds_of_the_reward() -> None:
    beyond = torch.full((2, 1), 200.0)  # twice the most that Countdown pays for one action
    assert not Countdown((3, 4)).reward_spec.is_in(beyond)
    assert TransformedEnv(Countdown((3, 4)), ActionBlock(2)).reward_spec.is_in(beyond)


def test_transforms_before_a_block_see_actions_and_those_after_it_blocks() -> None:
    before = TransformedEnv(Countdown((9,)), Compose(StepCounter(), RewardSum(), ActionBlock(2)))
    after = TransformedEnv(Countdown((9,)), Compose(ActionBlock(2), StepCounter(), RewardSum()))
    actions = [[[1, 2]], [[2, 2]]]
    assert [step["next", "step_count"].item() for step in play(before, actions)] == [2, 4]
    assert [step["next", "step_count"].item() for step in play(after, actions)] == [1, 2]
    assert [step["next", "episode_reward"].item() for step in play(before, actions)] == [3.0, 7.0]
    assert [step["next", "episode_reward"].item() for step in play(after, actions)] == [3.0, 7.0]


def test_history_before_a_block_holds_every_action_that_was_played() -> None:
    first, second = play(TransformedEnv(Countdown((3, 9)), block_and_history()), [[[1, 2], [0, 1]], [[2, 1], [2, 0]]])
    assert first["next", "previous_actions"].tolist() == [[-1, 1, 2], [-1, 0, 1]]
    assert second["next", "previous_actions"].tolist() == [[1, 2, 2], [1, 2, 0]]  # the first one ended after one action


def test_block_equals_single_steps_in_gym() -> None:
    torch.manual_seed(0)
    actions = torch.randint(0, 2, (4, 3))
    blocks = TransformedEnv(GymEnv("CartPole-v1", categorical_action_encoding=True), ActionBlock(3))
    single = GymEnv("CartPole-v1", categorical_action_encoding=True)
    blocks.set_seed(1)
    single.set_seed(1)
    data, other = blocks.reset(), single.reset()
    for block in actions:
        data = blocks.step_mdp(blocks.step(data.set("action", block)))
        for action in block:
            other = single.step_mdp(single.step(other.set("action", action)))
        assert torch.equal(data["observation"], other["observation"])


def test_block_says_what_is_wrong() -> None:
    with pytest.raises(ValueError, match="num_actions=0"):
        ActionBlock(0)
    with pytest.raises(RuntimeError, match="TransformedEnv"):
        ActionBlock(2)(Countdown().reset())
    env = TransformedEnv(Countdown((9, 9)), ActionBlock(2))
    with pytest.raises(ValueError, match=r"'action' has shape \(2, 3\)"):
        env.step(env.reset().set("action", torch.zeros(2, 3, dtype=torch.int64)))
    with pytest.raises(KeyError, match="no 'keys'"):
        TransformedEnv(Countdown(), ActionBlock(2, action_key="keys")).input_spec  # noqa: B018
