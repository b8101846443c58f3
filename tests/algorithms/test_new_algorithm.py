"""The price of a new algorithm: this file and a YAML, with no edit to the package.

The toy is REINFORCE over the sequences ``[N, T]`` of a collected batch, with noise that the policy carries from step to
step. It trains, saves, resumes bit for bit, evaluates and exports like any other algorithm.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from tensordict import TensorDict, TensorDictBase
from tensordict.nn import TensorDictModuleBase
from torch import Tensor, nn
from torchrl.data import ReplayBuffer

from tests.trainers.test_training import numbers, quiet, weights
from tm_torchrl.agents import load_agent
from tm_torchrl.agents.export import GreedyPolicy, disagreements, export_policy, visited_states
from tm_torchrl.algorithms.algorithm import Schedules
from tm_torchrl.record.run_folder import read_metrics
from tm_torchrl.settings import ConfigError, make_schedule
from tm_torchrl.tasks import Task

TOY = [
    f"hydra.searchpath=['file://{Path(__file__).parent / 'toy'}']",
    "algorithm=toy",
    "collector=single",
    "collector.frames_per_batch=64",
    "log.tensorboard=false",
    "log.every_frames=64",
    "log.diagnostics_every=1",
    "evaluation.every_frames=256",
    "evaluation.num=2",
]
CARTPOLE = [*TOY, "env=gym", "env.name=CartPole-v1", "env.num_envs=4"]
OVAL = [*TOY, "env.track=oval", "env.num_envs=4", "env.evaluation_limits.race_s=3"]


class Actor(TensorDictModuleBase):
    """The most probable action."""

    in_keys, out_keys = ["observation"], ["action"]

    def __init__(self, num_inputs: int, num_actions: int, hidden_size: int, normalize: nn.Module | None) -> None:
        super().__init__()
        first = nn.Identity() if normalize is None else normalize
        self.network = nn.Sequential(
            first, nn.Linear(num_inputs, hidden_size), nn.Tanh(), nn.Linear(hidden_size, num_actions)
        )

    def forward(self, tensordict: TensorDictBase) -> TensorDictBase:
        return tensordict.set("action", self.network(tensordict["observation"]).argmax(-1))


class Policy(TensorDictModuleBase):
    """Adds noise to the logits that is halved and drawn anew in each step, so that it lasts for some steps."""

    in_keys, out_keys, carried_keys = ["observation"], ["action", "noise"], ["noise"]

    def __init__(self, actor: Actor) -> None:
        super().__init__()
        self.actor = actor
        self.register_buffer("scale", torch.tensor(1.0))

    def forward(self, tensordict: TensorDictBase) -> TensorDictBase:
        logits = self.actor.network(tensordict["observation"])
        noise = 0.5 * tensordict.get("noise", torch.zeros_like(logits)) + torch.randn_like(logits)
        tensordict["noise"] = noise
        return tensordict.set("action", (logits + self.scale * noise).argmax(-1))


class LastBatch:
    """A memory of one batch of sequences, learnt from twice."""

    def __init__(self) -> None:
        self.steps: TensorDictBase | None = None
        self.num_seen = 0

    def extend(self, steps: TensorDictBase) -> None:
        self.steps = steps.select("observation", "action", ("next", "reward"))

    def batches(self) -> Iterator[TensorDictBase]:
        assert self.steps is not None
        for _ in range(2):
            yield self.steps

    def seen(self, batch: TensorDictBase) -> None:
        self.num_seen += 1

    def set_frames(self, frames: int) -> None: ...

    def contents(self) -> dict[str, ReplayBuffer]:
        return {}

    def metrics(self) -> dict[str, float]:
        return {"batches_seen": float(self.num_seen)}

    def state_dict(self) -> dict[str, Any]:
        return {"num_seen": self.num_seen}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.num_seen = state["num_seen"]


class Reinforce:
    """A learner: log-probabilities times returns to the end of the sequence."""

    def __init__(self, network: nn.Module) -> None:
        self.network = network
        self.optimizer = torch.optim.Adam(network.parameters())
        self.num_updates = self.num_samples = 0

    def update(self, batch: TensorDictBase) -> dict[str, Tensor]:
        returns = batch["next", "reward"].squeeze(-1).flip(1).cumsum(1).flip(1)
        log_probs = self.network(batch["observation"]).log_softmax(-1)
        chosen = log_probs.gather(-1, batch["action"].unsqueeze(-1)).squeeze(-1)
        loss = -(chosen * (returns - returns.mean())).mean()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.num_updates += 1
        self.num_samples += batch.numel()
        return {"loss": loss.detach()}

    def state_dict(self) -> dict[str, Any]:
        return {"optimizer": self.optimizer.state_dict(), "num_updates": self.num_updates}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.optimizer.load_state_dict(state["optimizer"])
        self.num_updates = state["num_updates"]


class ToyAlgorithm:
    def __init__(
        self,
        task: Task,
        *,
        hidden_size: int,
        learning_rate: float,
        device: torch.device | str = "cpu",
        seed: int = 0,
        log: Callable[[str], None] = print,
    ) -> None:
        if hidden_size < 1:
            raise ValueError(f"hidden_size={hidden_size}: must be at least 1")
        self.actor = self.make_actor(task, hidden_size=hidden_size, device=device)
        self.policy = Policy(self.actor)
        self.memory = LastBatch()
        self.learner = Reinforce(self.actor.network)
        self.learning_rate = make_schedule(learning_rate, name="learning_rate")

    @staticmethod
    def make_actor(task: Task, *, hidden_size: int, device: torch.device | str = "cpu") -> Actor:
        given = task.network_arguments()
        return Actor(given["num_inputs"], given["num_actions"], hidden_size, given["normalize"]).to(device)

    def schedules(self) -> Schedules:
        (group,) = self.learner.optimizer.param_groups
        return {"learning_rate": (self.learning_rate, partial(group.__setitem__, "lr"))}

    def metrics(self) -> dict[str, float]:
        return {"updates": float(self.learner.num_updates), **self.memory.metrics()}

    def measure(self) -> dict[str, float]:
        return {"weight_norm": float(self.actor.network[1].weight.detach().norm())}  # type: ignore[union-attr,operator]

    def explain(self, observations: Tensor, actions: Tensor) -> dict[str, Tensor]:
        return {"logits": self.actor.network(observations)}

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None: ...


def test_it_trains_evaluates_and_exports(tmp_path: Path) -> None:
    run = tmp_path / "run"
    summary = quiet([*CARTPOLE, "total_frames=512"], run)
    assert summary.frames == 512
    (first, *_, last) = read_metrics(run)
    assert (last["train/updates"], last["train/batches_seen"]) == (16.0, 16.0), "two for each of eight batches"
    assert first["diagnostics/weight_norm"] != last["diagnostics/weight_norm"]
    agent = load_agent(run, trust=["tests"])
    assert agent.evaluate(laps=2)[0]["num_episodes"] == 2
    states = visited_states(agent, 50)
    assert disagreements(agent, export_policy(GreedyPolicy(agent.actor), states, tmp_path / "policy.pt2"), states) == 0


def test_it_resumes_bit_for_bit(tmp_path: Path) -> None:
    """The noise that the policy carries goes on too: 192 frames are three batches, in the middle of an episode."""
    quiet([*OVAL, "total_frames=384"], tmp_path / "whole")
    quiet([*OVAL, "total_frames=192"], tmp_path / "parts")
    quiet(["total_frames=384", "trust=[tests]", f"resume='{tmp_path / 'parts'}'"], tmp_path / "ignored")
    assert numbers(tmp_path / "parts") == numbers(tmp_path / "whole")
    whole, parts = weights(tmp_path / "whole"), weights(tmp_path / "parts")
    assert all(torch.equal(value, parts[name]) for name, value in whole.items())


def test_its_run_is_refused_unless_it_is_trusted(tmp_path: Path) -> None:
    quiet([*CARTPOLE, "total_frames=64"], tmp_path / "run")
    with pytest.raises(ConfigError, match=r"algorithm\._target_=tests\.algorithms\.test_new_algorithm\.ToyAlgorithm"):
        load_agent(tmp_path / "run")


def test_its_own_settings_are_checked(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="hidden_size=0"):
        quiet([*CARTPOLE, "algorithm.hidden_size=0"], tmp_path / "run")
    with pytest.raises(ConfigError, match="hidden_sise"):
        quiet([*CARTPOLE, "+algorithm.hidden_sise=8"], tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_sequence_batch_reaches_the_learner() -> None:
    memory = LastBatch()
    steps = TensorDict({"observation": torch.zeros(2, 3, 4), "action": torch.zeros(2, 3).long()}, [2, 3])
    steps["next", "reward"] = torch.ones(2, 3, 1)
    memory.extend(steps)
    assert [batch.shape for batch in memory.batches()] == [(2, 3), (2, 3)]
