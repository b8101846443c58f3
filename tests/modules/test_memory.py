"""Actors with memory: the state goes from step to step through environments, collectors and evaluations."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from tensordict import TensorDict
from tensordict.nn import TensorDictSequential
from torchrl.collectors import Collector
from torchrl.data import Categorical, Unbounded
from torchrl.envs import InitTracker, TensorDictPrimer, TransformedEnv

from tm_torchrl.collectors.supervised import SupervisedCollector
from tm_torchrl.envs import TrackManiaEnv
from tm_torchrl.envs.gymnasium_batch import GymnasiumBatch
from tm_torchrl.evaluation import play_episodes
from tm_torchrl.evaluation.disturbed import Disturbed
from tm_torchrl.evaluation.laps import RaceSteps, _TransformedSteps, drive_laps
from tm_torchrl.modules import EpsilonGreedy, MLPFQFNetwork, MLPIQNetwork, MLPQRNetwork, QuantileActor
from tm_torchrl.modules.carried import carried_keys
from tm_torchrl.world.tracker import Limits

NETWORKS: list[Any] = [MLPIQNetwork, MLPQRNetwork, MLPFQFNetwork]
SMALL = {"hidden_sizes": (8,), "head_size": 8}


def make_actor(network: Any = MLPQRNetwork, *, core: str = "gru", num_inputs: int = 4, num_actions: int = 2) -> Any:
    torch.manual_seed(0)
    made = network(num_inputs, num_actions, core=core, **SMALL)
    return QuantileActor(made, spec=Categorical(num_actions))


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("core", ["gru", "lstm", "mamba"])
def test_a_step_reads_and_writes_the_state(network: Any, core: str) -> None:
    actor = make_actor(network, core=core)
    torch.manual_seed(1)
    seen = torch.randn(3, 4)
    first = actor(TensorDict({"observation": seen}, [3]))
    assert not first["memory"].any(), "zeros begin an episode"
    after = first["next", "memory"]
    size = actor.quantile_module.network.core.state_size
    assert after.shape == (3, size) and after.any()
    assert carried_keys(actor) == ["memory"] and {"memory", ("next", "memory")} <= set(actor.out_keys)
    second = actor(TensorDict({"observation": seen, "memory": after}, [3]))
    assert torch.equal(second["memory"], after)
    assert not torch.equal(second["action_value"], first["action_value"])
    is_init = torch.tensor([[True], [False], [False]])
    begun = actor(TensorDict({"observation": seen, "memory": after, "is_init": is_init}, [3]))
    torch.testing.assert_close(begun["action_value"][0], first["action_value"][0])
    torch.testing.assert_close(begun["action_value"][1:], second["action_value"][1:])
    module = actor.quantile_module(TensorDict({"observation": seen, "memory": after}, [3]))
    torch.testing.assert_close(module["next", "memory"], second["next", "memory"])


def test_batches_of_several_dimensions_are_steps() -> None:
    actor = make_actor()
    seen, memory = torch.randn(2, 3, 4), torch.randn(2, 3, 256)
    found = actor(TensorDict({"observation": seen, "memory": memory}, [2, 3]))
    flat = actor(TensorDict({"observation": seen.flatten(0, 1), "memory": memory.flatten(0, 1)}, [6]))
    assert found["next", "memory"].shape == (2, 3, 256)
    assert torch.equal(found["next", "memory"].flatten(0, 1), flat["next", "memory"])
    single = actor(TensorDict({"observation": seen[0, 0]}))
    assert single["action"].shape == () and single["next", "memory"].shape == (256,)


def test_our_collector_carries_the_state() -> None:
    """Through batches and ends of episodes, beside what the exploration carries."""
    policy = TensorDictSequential(make_actor(), EpsilonGreedy(0.5, mean_steps=3.0))
    make_env = partial(GymnasiumBatch, "CartPole-v1", num_envs=2, seed=0)
    collector = SupervisedCollector([make_env], policy, frames_per_batch=60, kind="single")
    steps = torch.cat([next(collector).clone() for _ in range(4)], 1)
    collector.shutdown()
    begins = torch.ones(steps.shape, dtype=torch.bool)
    begins[:, 1:] = steps["next", "done"][:, :-1, 0]
    assert begins[:, 1:].any() and not steps["memory"][begins].any()
    before, after = steps["memory"][:, 1:], steps["next", "memory"][:, :-1]
    assert torch.equal(before[~begins[:, 1:]], after[~begins[:, 1:]])


def test_collectors_of_torchrl_need_a_primer() -> None:
    """As for TorchRL's own recurrent modules; without one every step begins with zeros."""
    env = TransformedEnv(GymnasiumBatch("CartPole-v1", num_envs=2, seed=0), InitTracker())
    env.append_transform(TensorDictPrimer(memory=Unbounded((2, 256)), expand_specs=False))
    collector = Collector(env, make_actor(), frames_per_batch=120, total_frames=120)
    steps = next(iter(collector))
    is_first = steps["is_init"][:, 1:, 0]
    before, after = steps["memory"][:, 1:], steps["next", "memory"][:, :-1]
    assert is_first.any() and not before[is_first].any()
    assert torch.equal(before[~is_first], after[~is_first])


def test_episodes_are_evaluated_with_memory() -> None:
    """The actions of an evaluation are those of an actor that is stepped by hand."""
    actor, env = make_actor(), GymnasiumBatch("CartPole-v1", num_envs=2, seed=0)
    found = play_episodes(env, actor, num_episodes=2)
    by_hand = GymnasiumBatch("CartPole-v1", num_envs=2, seed=0)
    lengths, state = torch.zeros(2, dtype=torch.int64), by_hand.reset()
    memory, is_playing = torch.zeros(2, 256), torch.ones(2, dtype=torch.bool)
    while bool(is_playing.any()):
        acted = actor(TensorDict({"observation": state["observation"], "memory": memory}, [2]))
        memory = acted["next", "memory"]
        after = by_hand.step(TensorDict({"action": acted["action"]}, [2]))["next"]
        lengths += is_playing
        done = after["done"].squeeze(-1)
        is_playing &= ~done
        memory = memory.masked_fill(done.unsqueeze(-1), 0.0)
        state = by_hand.reset(after.set("_reset", after["done"])) if bool(done.any()) else after
    assert found.lengths.tolist() == lengths.tolist()


class Recorder(Disturbed):
    """Keeps the states that an actor is given."""

    def __init__(self, policy: Any) -> None:
        super().__init__(policy, num_actions=12)
        self.given: list[torch.Tensor] = []

    def forward(self, tensordict: Any) -> Any:
        self.given.append(tensordict.get("memory", torch.zeros(2, 256)).clone())
        return super().forward(tensordict)


@pytest.mark.parametrize("is_transformed", [False, True])
def test_laps_are_driven_with_memory(is_transformed: bool) -> None:
    """Also behind disturbances, and in a second round, whose laps begin with zeros."""
    env: Any = TrackManiaEnv(2, track="oval", limits=Limits(race_s=0.5), seed=0)
    env = TransformedEnv(env, InitTracker()) if is_transformed else env
    actor = Recorder(make_actor(num_inputs=184, num_actions=12))
    drive_laps(env, actor, num_laps=4)
    num = len(actor.given) // 2
    for number in (0, num):
        assert not actor.given[number].any()
        assert actor.given[number + 1].any()
        assert not torch.equal(actor.given[number + 1], actor.given[number + 2])


@pytest.mark.parametrize("kind", [RaceSteps, _TransformedSteps])
def test_cars_keep_their_memory_while_others_are_reset(kind: Any) -> None:
    env: Any = TrackManiaEnv(2, track="oval", seed=0)
    env = TransformedEnv(env, InitTracker()) if kind is _TransformedSteps else env
    actor = Recorder(make_actor(num_inputs=184, num_actions=12))
    steps = kind(env, actor)
    steps.reset(None)
    steps.step()
    steps.reset(torch.tensor([True, False]))
    steps.step()
    assert actor.given[1][1].any()


def test_states_along_an_episode() -> None:
    actor = make_actor()
    seen = torch.randn(6, 4)
    along = actor.quantile_module.with_memory(TensorDict({"observation": seen}, [6]))["memory"]
    memory = torch.zeros(1, 256)
    for t in range(6):
        torch.testing.assert_close(along[t : t + 1], memory)
        memory = actor(TensorDict({"observation": seen[t : t + 1], "memory": memory}, [1]))["next", "memory"]


def test_greedy_takes_and_gives_the_state() -> None:
    actor = make_actor()
    seen, memory = torch.randn(3, 4), torch.randn(3, 256)
    action, after = actor.greedy(seen, memory)
    given = TensorDict({"observation": seen, "memory": memory}, [3])
    assert torch.equal(action, actor(given)["action"]) and torch.equal(after, given["next", "memory"])
