"""The suite's cells: every one has settings, equal ones but for what is compared; what is unknown is refused."""

from __future__ import annotations

import doctest
import importlib
from typing import Any

import pytest

from benchmarks.grids.cells import Cell, Suite, digest
from benchmarks.peers.pace import Pace
from tm_torchrl.algorithms import make_algorithm
from tm_torchrl.objectives.value_estimators import DoubleEstimator, MunchausenEstimator
from tm_torchrl.settings import ConfigError
from tm_torchrl.settings.tree import differences
from tm_torchrl.tasks.task import make_task

SUITE = Suite()
POLICIES = ["ppo", "ppo_untuned", "grpo", "dpo"]
OURS = [name for name, about in SUITE.algorithms.items() if "peer" not in about and name not in POLICIES]
PAIRS = sorted({(cell.algorithm, cell.environment) for grid in SUITE.grids for cell in SUITE.cells(grid)})


@pytest.mark.parametrize("environment", SUITE.environments)
def test_every_cell_of_a_grid_has_settings(environment: str) -> None:
    algorithms = [algorithm for algorithm, where in PAIRS if where == environment]
    assert algorithms, "an environment that no grid has"
    parts = SUITE.environment(environment).get("parts", {})
    of_parts = {str([part for part in SUITE.algorithms[a].get("parts", []) if part in parts]): a for a in algorithms}
    for algorithm in of_parts.values():
        settings = SUITE.settings(Cell(algorithm, environment, 3))
        assert settings["seed"] == 3
        assert settings["evaluation"]["target_score"] is None and settings["max_minutes"] is None, "frames are fixed"
        assert settings.get("peer") == SUITE.algorithms[algorithm].get("peer")
        assert "threshold" in SUITE.environment(environment) and "measure" in SUITE.environment(environment)


@pytest.mark.parametrize("algorithm", OURS)
@pytest.mark.parametrize("environment", ["cartpole", "hillside"])
def test_every_algorithm_can_be_built(algorithm: str, environment: str) -> None:
    settings = SUITE.settings(Cell(algorithm, environment, 0))
    task = make_task(settings)
    built: Any = make_algorithm({**settings, "precision": "float32"}, task)
    actor, learner = built.actor, built.learner
    trained = {id(weights) for group in learner.optimizer.param_groups for weights in group["params"]}
    assert trained >= {id(weights) for weights in actor.parameters() if weights.requires_grad}
    estimator = {f"tm_torchrl.objectives.{kind.__name__}": kind for kind in (DoubleEstimator, MunchausenEstimator)}.get(
        settings["estimator"]["_target_"]
    )
    assert estimator is None or algorithm == "dqn" or type(learner.loss.value_estimator) is estimator
    assert built.schedules().keys() <= {"epsilon", "perturbed", "learning_rate", "gamma", "beta"}


@pytest.mark.parametrize("algorithm", ["ppo", "grpo", "dpo"])
def test_policies_have_their_own_settings_and_more_frames(algorithm: str) -> None:
    """Nothing is left of what an environment says for the quantile family; its own settings remain."""
    for environment, frames in (("cartpole", 150_000), ("hillside", 1_228_800)):
        settings = SUITE.settings(Cell(algorithm, environment, 0))
        assert settings["total_frames"] == frames and settings["collector"]["kind"] == "single"
        assert settings["algorithm"]["_target_"].endswith(f".{algorithm.upper()}Algorithm")
        assert not {"replay", "estimator", "exploration", "target_update"} & settings.keys()
        assert settings["learner"]["clip_norm"] == 0.5, "the preset's"
        make_algorithm(settings, make_task(settings))


@pytest.mark.parametrize("environment", ["cartpole", "hillside", "lunarlander"])
def test_algorithms_differ_in_loss_and_target_alone(environment: str) -> None:
    """BTR is a set of choices, exploration and replay among them; others have equal ones, but for what was searched.

    What is like other libraries' has besides other exploration, discounts and targets.
    """
    searched = {"learning_rate"} if environment in SUITE.tuned else set()
    base = SUITE.settings(Cell("qrdqn", environment, 0))
    for algorithm in OURS if environment in SUITE.tuned else OURS[:6]:
        changed = differences(SUITE.settings(Cell(algorithm, environment, 0)), base)
        kinds = {line.split(":")[0].split(".")[0] for line in changed}
        own = {"exploration", "replay", "target_update"} if algorithm == "btr_floats" else set()
        own |= {"exploration", "gamma", "precision", "replay", "target_update"} if "_plain" in algorithm else set()
        own |= {"optimizer"} if algorithm.endswith("_epsilon") else set()
        assert kinds <= {"objective", "estimator"} | own | searched, algorithm
        sizes = ("hidden_sizes", "head_size", "trunk") + (() if "_plain" in algorithm else ("activation",))
        assert not [line for line in changed if line.startswith(tuple(f"objective.network.{size}" for size in sizes))]


@pytest.mark.parametrize("environment", ["cartpole", "hillside"])
@pytest.mark.parametrize("algorithm", ["qrdqn", "iqn"])
def test_plain_ones_are_as_others_and_have_what_was_found_for_the_whole_ones(algorithm: str, environment: str) -> None:
    plain, whole = (SUITE.settings(Cell(name, environment, 0)) for name in (f"{algorithm}_plain", algorithm))
    for name, of_plain in vars(Pace.of(plain)).items():  # which is all that other libraries take
        of_whole = getattr(Pace.of(whole), name)
        ways = [
            [each(frames) for frames in (0, 1_000, 100_000)] if callable(each) else each
            for each in (of_plain, of_whole)
        ]
        assert ways[0] == ways[1], name
    assert "tau" not in plain["target_update"]
    assert plain["objective"]["network"]["dueling"] is False and plain["exploration"].get("mean_steps") is None
    assert plain["objective"]["loss"]["kappa"] == 1.0 and plain["replay"]["cut_at_exploration"] is False


@pytest.mark.parametrize("environment", sorted(SUITE.tuned))
def test_what_the_search_found_lies_in_its_space(environment: str) -> None:
    searches = [about for name, about in SUITE.tuning.items() if about.get("environment", name) == environment]
    for algorithm, found in SUITE.tuned[environment].items():
        about = next(about for about in searches if algorithm in about["algorithms"])
        parts = about.get("parts", {})
        spaces = [about["space"], *(parts.get(part, {}) for part in SUITE.algorithms[algorithm]["parts"])]
        values = {key: value for space in spaces for key, value in space.items()}
        for line in found:
            key, value = line.split("=")
            kind, *rest = values[key]
            assert value in map(str, rest) if kind == "choice" else rest[0] <= float(value) <= rest[1], line


def test_seeds_come_one_after_the_other_and_no_cell_twice() -> None:
    cells = SUITE.cells("standard")
    assert [cell.seed for cell in cells] == sorted(cell.seed for cell in cells)
    assert len({cell.name for cell in cells}) == len(cells)
    seeds = {name: sum((c.algorithm, c.environment) == (name, "hillside") for c in cells) for name in ("m_iqn", "fqf")}
    assert seeds == {"m_iqn": 10, "fqf": 5}, "the headline has ten"


def test_cells_are_chosen_by_the_beginning_of_their_names() -> None:
    cells = SUITE.cells("quick")
    own = [cell.name for cell in SUITE.chosen(cells, ["m_iqn"])]
    assert own == ["m_iqn/cartpole/0", "m_iqn/hillside/0", "m_iqn/cartpole/1"]
    several = [cell.name for cell in SUITE.chosen(cells, ["iqn/cartpole/1", "iqn", "qrdqn/cartpole"])]
    assert several == [f"{name}/cartpole/{seed}" for seed in (0, 1) for name in ("iqn", "qrdqn")]


def test_unknown_names_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"iqn/cartpol/0: no such cell in this grid; did you mean iqn/cartpole[?]"):
        SUITE.chosen(SUITE.cells("quick"), ["iqn/cartpol/0"])
    with pytest.raises(ConfigError, match="environment=cartpol: unknown; did you mean cartpole"):
        SUITE.environment("cartpol")


def test_what_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.grids.cells.is_there", lambda name: name != "Box2D")
    assert SUITE.lacking(Cell("iqn", "lunarlander", 0)) == ["Box2D"]
    assert SUITE.lacking(Cell("iqn", "cartpole", 0)) == []


def test_settings_have_names_and_grids_change_them() -> None:
    one, other = (SUITE.settings(Cell("iqn", "cartpole", seed)) for seed in (0, 1))
    assert digest(one) != digest(other)
    assert SUITE.settings(Cell("iqn", "cartpole", 0, ("total_frames=7",)))["total_frames"] == 7


@pytest.mark.parametrize("name", ["grids.cells", "grids.results", "grids.scores", "pages.policies", "report", "tune"])
def test_examples(name: str) -> None:
    module = importlib.import_module(f"benchmarks.{name}")
    found = doctest.testmod(module, optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    assert found.attempted > 0 and found.failed == 0
