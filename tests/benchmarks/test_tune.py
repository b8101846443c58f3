"""The search for settings: equal trials for all, judged by all seeds, and the suite takes what was best."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from benchmarks import tune
from benchmarks.grids.cells import SUITE, Cell, Suite
from benchmarks.grids.results import Results, read_table
from benchmarks.tune import FIRST_SEED, Search, best_of, drawn, write_tuned
from tm_torchrl.settings import ConfigError

PLAIN = Suite(tuned=None)


@pytest.mark.parametrize("name", PLAIN.tuning)
def test_every_trial_has_settings(name: str) -> None:
    search = Search(PLAIN, name)
    for cell in search.cells(search.about["algorithms"][-1:]):
        if cell.seed % 20 == 0:
            assert cell.environment == name.removesuffix("_ppo"), "a search of its own has its environment's cells"
            settings = PLAIN.settings(cell)
            assert settings["seed"] == cell.seed and settings["max_minutes"] is None


def test_all_algorithms_get_the_same_trials() -> None:
    """What they share is drawn alike; the temperature is for Munchausen alone; the first trial changes nothing."""
    search = Search(PLAIN, "cartpole")
    shared = [f"{key}=" for key in search.about["space"]]
    for trial in range(1, search.about["trials"]):
        qrdqn, m_iqn = (search.overrides(name, trial) for name in ("qrdqn", "m_iqn"))
        assert (
            [each for each in qrdqn if each.startswith(tuple(shared))] == qrdqn[: len(shared)] == m_iqn[: len(shared)]
        )
        assert [each.partition("=")[0] for each in m_iqn[len(qrdqn) :]] == ["estimator.temperature"]
    assert search.overrides("m_iqn", 0) == []
    assert len({tuple(search.overrides("qrdqn", trial)) for trial in range(search.about["trials"])}) == 8
    cells = search.cells(["qrdqn", "m_iqn"])
    counts = [sum(cell.algorithm == name for cell in cells) for name in ("qrdqn", "m_iqn")]
    assert counts == [search.about["trials"] * search.about["seeds"]] * 2
    assert len({cell.name for cell in cells}) == len(cells)
    assert (
        min(cell.seed for cell in cells) == FIRST_SEED > max(c.seed for grid in PLAIN.grids for c in PLAIN.cells(grid))
    )


def test_draws_lie_in_their_space() -> None:
    values = [drawn(["log", 0.01, 1.0], name=f"x/{i}") for i in range(300)]
    assert 0.01 <= min(values) < 0.012 and 0.8 < max(values) <= 1.0
    assert 90 < sum(value < 0.1 for value in values) < 210, "half of a logarithmic space lies below its middle"
    assert {drawn(["choice", 1, 2], name=f"x/{i}") for i in range(20)} == {1, 2}
    with pytest.raises(ConfigError, match="'uniform'"):
        drawn(["uniform", 0, 1], name="x")


def put(results: Results, algorithm: str, seed: int, scores: list[float]) -> None:
    cell = {"algorithm": algorithm, "seed": seed, "status": "done", "cpu_s": 60.0}
    points = [{"which": "seen", "frames": 10 * (i + 1), "score": score} for i, score in enumerate(scores)]
    results.put("cartpole", cell, points)


def test_trials_are_judged_by_all_seeds(tmp_path: Path) -> None:
    """Trial 0: areas 0.5, 0.5 and 0.5. Trial 1: 0.25, 0.5 and 1, which is more. Trial 2 lacks a seed."""
    search, results = Search(PLAIN, "cartpole"), Results(tmp_path)
    search.about = {**search.about, "seeds": 3}
    for seed, scores in enumerate([[0.5, 0.5], [0.0, 1.0], [0.5, 0.5]]):
        put(results, "iqn", 1_000 + seed, scores)
    for seed, scores in enumerate([[0.0, 0.5], [0.5, 0.5], [1.0, 1.0]]):
        put(results, "iqn", 1_010 + seed, scores)
    put(results, "iqn", 1_020, [9.0, 9.0])
    first, second = search.trials(results, ["iqn"])
    assert (first["trial"], first["area"], first["settings"], first["cpu_s"]) == (0, 0.5, "", 180.0)
    assert (second["trial"], second["runs"]) == (1, 3)
    assert second["area"] == pytest.approx((0.25 + 0.5 + 1.0) / 3)
    assert second["settings"].split() == search.overrides("iqn", 1)
    assert best_of([first, second], "iqn") is second
    assert best_of([first, second], "fqf") is None


def test_a_search_of_some_algorithms_keeps_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for algorithm in ("dqn", "iqn"):
        for seed in range(PLAIN.tuning["cartpole"]["seeds"]):
            put(Results(tmp_path), algorithm, FIRST_SEED + seed, [0.5])
    monkeypatch.setattr(tune, "Runner", lambda *_, **__: SimpleNamespace(run=lambda **_: {}))
    monkeypatch.setattr(sys, "argv", ["tune.py", "cartpole", "--algorithms", "iqn", "--results", str(tmp_path)])
    with pytest.raises(SystemExit) as ended:
        tune.main()
    assert ended.value.code == 0
    found = read_table(tmp_path / "cartpole_trials.csv", tune.COLUMNS)
    assert [row["algorithm"] for row in found] == ["dqn", "iqn"]


def test_the_suite_takes_what_was_best(tmp_path: Path) -> None:
    path = tmp_path / "tuned.yaml"
    path.write_text("hillside:\n  iqn: [gamma=0.5]\n")
    write_tuned(path, "cartpole", {"iqn": {"settings": "learning_rate=0.004 replay.batch_size=32"}})
    assert yaml.safe_load(path.read_text())["hillside"] == {"iqn": ["gamma=0.5"]}, "others stay"
    tuned = Suite(SUITE, tuned=path)
    settings = tuned.settings(Cell("iqn", "cartpole", 0))
    assert (settings["learning_rate"], settings["replay"]["batch_size"]) == (0.004, 32)
    assert tuned.settings(Cell("qrdqn", "cartpole", 0)) == PLAIN.settings(Cell("qrdqn", "cartpole", 0))


def test_an_environment_without_a_space_is_refused() -> None:
    with pytest.raises(ConfigError, match="environment=cartpol: unknown; did you mean cartpole"):
        Search(PLAIN, "cartpol")
