"""The catalogue of networks is what the configuration builds, and leaves nothing out; every line learns."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
from tensordict import TensorDictBase

from benchmarks.pages.networks import STACKS, line, overrides_of, page
from benchmarks.pages.tables import table
from tm_torchrl.agents.export import GreedyPolicy, export_policy
from tm_torchrl.algorithms import QuantileAlgorithm, make_algorithm
from tm_torchrl.modules.encoders.pooling import _POOLS
from tm_torchrl.modules.freezing import parts_of
from tm_torchrl.modules.layers.activations import ACTIVATIONS
from tm_torchrl.modules.quantiles.slots import MIXERS
from tm_torchrl.settings import compose_settings
from tm_torchrl.settings.folder import config_folder
from tm_torchrl.tasks.task import make_task

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs" / "networks.md").read_text(encoding="utf-8")
LINES = [
    pytest.param(name, settings, id=f"{title}: {name}") for title, rows in STACKS.items() for name, settings in rows
]
FEW = {"capacity": 64, "learning_starts": 0, "batch_size": 4}
SHORT = {"length": 4, "burn_in": 1, "num_steps": 2}  # of sequences
NUM_CARS, NUM_STEPS = 4, 8


def made(settings: str) -> tuple[Any, TensorDictBase]:
    """The algorithm of a line, in its own settings but with a small replay, and a batch of a short drive."""
    composed = compose_settings(overrides_of(settings))
    has_sequences = composed["replay"]["_target_"].endswith("Sequences")
    composed["replay"] |= FEW | (SHORT if has_sequences else {"held_out_share": 0.0})
    composed["env"] |= {"num_envs": NUM_CARS} | ({"track": "oval"} if "track" in composed["env"] else {})
    composed["precision"] = "float32"
    torch.manual_seed(0)
    task = make_task(composed)
    with mock.patch.object(QuantileAlgorithm, "_try_loss"):  # which makes one more network
        algorithm: Any = make_algorithm(composed, task)
    env = task.make_env(num_envs=NUM_CARS)
    with torch.no_grad():
        algorithm.memory.extend(env.rollout(NUM_STEPS, algorithm.policy, break_when_any_done=False))
    env.close()
    algorithm.learner.learning_rate = 3e-4
    return algorithm, algorithm.memory.sample()


def losses_of(algorithm: Any, batch: TensorDictBase, *, num_updates: int) -> list[float]:
    """Of updates from one batch, in which every part of the network moves."""
    network = algorithm.actor.quantile_module.network
    before = {name: value.clone() for name, value in network.named_parameters()}
    losses = [float(algorithm.learner.update(batch)["loss"]) for _ in range(num_updates)]
    assert algorithm.learner.num_updates == num_updates  # none was skipped, as one with a loss that is not finite is
    moved = [name for name, value in network.named_parameters() if not torch.equal(value, before[name])]
    for part, modules in parts_of(network).items():
        assert any(name.startswith(f"{path}.") for name in moved for path in modules), part
    return losses


@pytest.mark.parametrize(("name", "settings"), LINES)
def test_a_line_is_right_and_learns(name: str, settings: str) -> None:
    algorithm, batch = made(settings)
    assert table([], [line(name, settings, algorithm.actor.quantile_module.network)])[-1] in TEXT.splitlines()
    losses_of(algorithm, batch, num_updates=3)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "settings"), LINES)
def test_a_line_is_trained_and_exported(name: str, settings: str, tmp_path: Path) -> None:
    algorithm, batch = made(settings)
    losses = losses_of(algorithm, batch, num_updates=50)
    sums = [sum(losses[start : start + 5]) for start in range(46)]
    assert min(sums[5:]) < sums[0]  # the least loss grows with the spread of the targets, which move
    network = algorithm.actor.quantile_module.network
    states = [batch[key].flatten(0, batch.ndim - 1) for key in algorithm.task.in_keys]
    if network.core is not None:
        states.append(torch.randn(len(states[0]), network.core.state_size))
    policy = GreedyPolicy(algorithm.actor)
    act = export_policy(policy, states, tmp_path / "policy.pt2")
    with torch.no_grad():
        found = policy(*states)
    assert torch.equal(act(states), found if network.core is None else found[0])


def test_the_page_is_up_to_date() -> None:
    """But for the numbers of its lines, of which each has a test above."""
    numbers = dict(re.findall(r"(`[^`]+`) \| ([\d,]+ \| [\d,]+ \| [\d,.]+) \|$", TEXT, re.MULTILINE))

    def line_of(name: str, settings: str) -> tuple[str, ...]:
        return name, f"`{settings}`", numbers[f"`{settings}`"]

    assert page(line_of) == TEXT, "run python benchmarks/pages/networks.py"


@pytest.mark.parametrize("group", ["network", "objective"])
def test_every_choice_is_on_the_page(group: str) -> None:
    elsewhere = {"policy", "autoencoder", "vae", "simclr"}  # PPO's network, for cloning; pretraining of any encoder
    names = {path.stem for path in (config_folder() / group).glob("*.yaml")} - elsewhere
    assert [name for name in names if f"{group}={name}" not in TEXT] == []


def test_every_slot_is_on_the_page() -> None:
    assert [name for name in ACTIVATIONS if name != "leaky_relu" and f"activation={name}" not in TEXT] == []
    assert [name for name in _POOLS if f"pooling={name}" not in TEXT] == []
    assert [name for name in MIXERS if f"mixer={name}" not in TEXT] == []
    assert [name for name in ("residual", "all") if f"spectral_norm={name}" not in TEXT] == []


def test_every_preset_is_on_the_page() -> None:
    """Experiments change one thing, which has a line of its own; tasks without a camera or blocks are no networks."""
    presets = [path.stem for path in (config_folder() / "experiment").glob("*.yaml")]
    others = ("exp_", "cartpole_", "lunarlander_", "short_", "fast_")
    ours = [name for name in presets if not name.startswith(others)]
    assert [name for name in ours if f"experiment={name}" not in TEXT] == []
