"""Weights of single parts from a run folder or a file: what fits is loaded, also into the target network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tm_torchrl.algorithms import make_algorithm
from tm_torchrl.data.saving.checkpoint import Checkpoints
from tm_torchrl.modules import MLPIQNetwork, PolicyValueNetwork
from tm_torchrl.modules.warm_start import load_parts
from tm_torchrl.settings import ConfigError, compose_settings
from tm_torchrl.tasks.task import make_task

SMALL = ["env.track=oval", "env.num_envs=2", "objective.network.hidden_sizes=[8,8]", "precision=float32"]


def algorithm_of(*settings: str, log: Any = print) -> Any:
    composed = compose_settings([*SMALL, *settings])
    return make_algorithm(composed, make_task(composed), log=log)


def filled(value: float, **options: Any) -> dict[str, torch.Tensor]:
    network = MLPIQNetwork(4, 2, **({"hidden_sizes": (8,), "head_size": 8} | options))
    return {name: torch.full_like(each, value) for name, each in network.state_dict().items()}


def which(network: torch.nn.Module, value: float) -> set[str]:
    """The parts of a network whose parameters all have one value."""
    values: dict[str, bool] = {}
    for name, each in network.named_parameters():
        part = ".".join(name.split(".")[: 3 if name.startswith("head") else 1])
        values[part] = values.get(part, True) and bool((each == value).all())
    return {part for part, is_equal in values.items() if is_equal}


@pytest.mark.parametrize("prefix", ["", "network.", "quantile_module.network."])
def test_parts_of_an_actor_or_a_network(prefix: str) -> None:
    network = MLPIQNetwork(4, 2, hidden_sizes=(8,), head_size=8)
    weights = {f"{prefix}{name}": value for name, value in filled(3.0).items()}
    (found,) = load_parts(network, weights, ["floats"])
    assert str(found) == f"floats: 2 tensors loaded from {prefix}encoder"
    assert which(network, 3.0) == {"encoder"}


def test_one_part_alone() -> None:
    network = MLPIQNetwork(4, 2, hidden_sizes=(8,), head_size=8)
    alone = {name.removeprefix("head.decoder.value."): each for name, each in filled(3.0).items() if "value" in name}
    (found,) = load_parts(network, alone, ["value"])
    assert str(found) == "value: 4 tensors loaded from the whole file"
    assert which(network, 3.0) == {"head.decoder.value"}


def test_a_policy_becomes_a_quantile_network() -> None:
    policy = PolicyValueNetwork(4, 2, hidden_sizes=(8,), head_size=8)
    network = MLPIQNetwork(4, 2, hidden_sizes=(8,), head_size=8)
    lines = [str(part) for part in load_parts(network, policy.state_dict())]
    assert lines[0] == "floats: 2 tensors loaded from encoder"
    assert "fractions: not loaded, because the weights have no such part" in lines
    assert torch.equal(network.head.decoder.advantage[0].weight, policy.policy.advantage[0].weight)
    assert torch.equal(network.head.decoder.value[2].bias, policy.value[2].bias)


def test_what_does_not_fit_is_refused_before_anything_changes() -> None:
    network = MLPIQNetwork(4, 2, hidden_sizes=(8,), head_size=8)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    with pytest.raises(ValueError, match="parts") as caught:
        load_parts(network, filled(3.0, head_size=16), ["floats", "value"])
    assert "head.decoder.value.0.weight is [8, 8] here, [16, 8] there" in str(caught.value)
    with pytest.raises(ValueError, match="parts='value'"):
        load_parts(network, {"encoder.layers.0.bias": torch.zeros(8)}, ["floats", "value"])
    with pytest.raises(ValueError, match="parts='vision': this network has no such part"):
        load_parts(network, filled(3.0), ["vision"])
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (torch.full((8,), float("nan")), "encoder.layers.0.bias is not finite"),
        (torch.ones(8).long(), "encoder.layers.0.bias is torch.int64"),
    ],
)
def test_weights_that_are_no_finite_floats(value: torch.Tensor, message: str) -> None:
    weights = {**filled(3.0), "encoder.layers.0.bias": value}
    with pytest.raises(ValueError, match=f"parts: 1 tensors do not fit: {message}"):
        load_parts(MLPIQNetwork(4, 2, hidden_sizes=(8,), head_size=8), weights)


def test_nothing_that_could_be_loaded(tmp_path: Path) -> None:
    Checkpoints(tmp_path / "checkpoints").save_best({"foreign.weight": torch.ones(2)})
    with pytest.raises(ConfigError, match=r"has none of the parts .* its tensors are foreign"):
        algorithm_of(f"warm_start={{source: '{tmp_path}'}}")


def test_tensors_that_are_absent_are_named() -> None:
    weights = {name: value for name, value in filled(3.0).items() if name != "encoder.layers.0.bias"}
    (found,) = load_parts(MLPIQNetwork(4, 2, hidden_sizes=(8,), head_size=8), weights, ["floats"])
    assert str(found) == "floats: 1 tensors loaded from encoder; not loaded, because absent: layers.0.bias"


def test_a_run_folder_warms_up_a_training(tmp_path: Path) -> None:
    first = algorithm_of()
    weights = {name: torch.full_like(value, 3.0) for name, value in first.actor.state_dict().items()}
    Checkpoints(tmp_path / "checkpoints").save_best(weights)
    said: list[str] = []
    warm = algorithm_of(f"warm_start={{source: '{tmp_path}', parts: [floats]}}", "seed=1", log=said.append)
    network = warm.actor.quantile_module.network
    assert which(network, 3.0) == {"encoder"}
    assert said == [f"warm start from {tmp_path}: floats: 6 tensors loaded from quantile_module.network.encoder"]
    target = warm.learner.loss.target_value_network_params
    assert all(bool((value == 3.0).all()) for key, value in target.items(True, True) if "encoder" in key)


def test_a_safetensors_file(tmp_path: Path) -> None:
    library = pytest.importorskip("safetensors.torch")
    path = tmp_path / "weights.safetensors"
    weights = algorithm_of().actor.quantile_module.network.encoder.state_dict()
    library.save_file({name: torch.full_like(value, 3.0) for name, value in weights.items()}, path)
    warm = algorithm_of(f"warm_start={{source: '{path}', parts: [floats]}}")
    assert which(warm.actor.quantile_module.network, 3.0) == {"encoder"}
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ConfigError, match="source="):
        algorithm_of(f"warm_start={{source: '{path}'}}")


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("{source: nowhere}", "warm_start.source=nowhere: must be a run folder or a .safetensors file"),
        ("{source: configs}", "warm_start.source=configs: no complete checkpoint"),
        ("{sauce: nowhere}", "warm_start.sauce"),
        ("{parts: [floats]}", "warm_start.source: this setting is missing"),
    ],
)
def test_sources_that_cannot_be(setting: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        algorithm_of(f"warm_start={setting}")
    assert str(caught.value).startswith(message)
