"""Scores by hand, evaluations of several tracks together, tables that are read as they were written."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from benchmarks.grids.results import HELD_OUT, SEEN, Results, costs_of, curve_of, lap_score
from tm_torchrl.settings.construct import ConfigError

TABLES = ("cartpole_cells.csv", "cartpole_curves.csv")
ABOUT = {"worst": -100.0, "best": 100.0}


def lap_row(track: str, times: list[float | None], *, is_blind: bool = False, frames: int = 10) -> dict[str, Any]:
    finished = [time for time in times if time is not None]
    facts = {"track": track, "is_blind": is_blind, "frames": frames, "updates": 3, "cpu_s": 1.5, "seconds": 2.0}
    laps = {"lap_times_s": times, "progress_m": [500.0] * len(times), "finish_rate": len(finished) / len(times)}
    return {**facts, **laps, "return_mean": 1.0, "median_lap_s": None, "best_lap_s": None, "medal_of_median": "gold"}


def write(run: Path, rows: list[dict[str, Any]]) -> None:
    run.mkdir(parents=True, exist_ok=True)
    (run / "evaluations.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))


def test_a_task_s_score_lies_between_worst_and_best(tmp_path: Path) -> None:
    row = {"task": "x", "frames": 10, "updates": 1, "cpu_s": 0.5, "seconds": 1.0, "return_mean": 50.0}
    write(tmp_path, [row, {**row, "frames": 20, "return_mean": -100.0}])
    curve = curve_of(tmp_path, ABOUT, every_frames=10)
    assert [(at["frames"], at["score"], at["which"]) for at in curve] == [(10, 0.75, SEEN), (20, 0.0, SEEN)]


def test_laps_count_by_the_author_s_time() -> None:
    """The author needs 20.56 s on the oval: twice as long is 1/2, unfinished is 0, together 3/2 of 3."""
    assert lap_score(lap_row("oval", [20.56, 41.12, None])) == 0.5
    assert lap_score(lap_row("nowhere", [10.0]), reference_speed=25.0) == 500.0 / 25.0 / 10.0
    assert lap_score(lap_row("nowhere", [None])) == 0.0
    with pytest.raises(ValueError, match="nowhere: it has no medals; give reference_speed"):
        lap_score(lap_row("nowhere", [10.0]))


def test_held_out_tracks_are_kept_apart(tmp_path: Path) -> None:
    rows = [lap_row("oval", [20.56]), lap_row("oval", [None]), lap_row("oval", [41.12], is_blind=True)]
    write(tmp_path, rows)
    seen, held_out = curve_of(tmp_path, {}, every_frames=10)
    assert (seen["which"], seen["score"], seen["finish_rate"]) == (SEEN, 0.5, 0.5)
    assert (held_out["which"], held_out["score"], held_out["medal"]) == (HELD_OUT, 0.5, "gold")
    assert "medal" not in seen, "several tracks have no one medal"


def test_evaluations_where_a_run_was_interrupted_are_left_out(tmp_path: Path) -> None:
    """Every 10 frames and at the end, 35; the one at 14 was made when somebody pressed Ctrl-C."""
    row = {"task": "x", "updates": 1, "cpu_s": 0.5, "seconds": 1.0, "return_mean": 50.0}
    write(tmp_path, [{**row, "frames": frames} for frames in (10, 14, 22, 30, 35)])
    assert [point["frames"] for point in curve_of(tmp_path, ABOUT, every_frames=10)] == [10, 22, 30, 35]


def test_costs_of_a_run(tmp_path: Path) -> None:
    """The last gap, the mean churn, the most memory."""
    write(tmp_path / "run", [lap_row("oval", [20.56], frames=10), lap_row("oval", [20.56], frames=20)])
    metrics = [
        {"frames": 1, "memory/rss_mb": 300.0, "diagnostics/action_gap": 1.0, "diagnostics/crossing_rate": 0.5},
        {"frames": 2, "memory/rss_mb": 200.0, "diagnostics/action_gap": 3.0, "diagnostics/policy_churn": 0.5},
        {"frames": 3, "diagnostics/policy_churn": 0.25},
    ]
    (tmp_path / "run" / "metrics.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in metrics))
    (tmp_path / "result.json").write_text('{"parameters": 7}')
    run = {"frames": 20, "updates": 3, "cpu_s": 1.5, "seconds": 2.0, "parameters": 7, "num_kills": None}
    measures = {"memory_mb": 300.0, "action_gap": 3.0, "crossing_rate": 0.5, "policy_churn": 0.375}
    assert costs_of(tmp_path) == {**run, **measures}


def test_tables_come_back_as_they_were(tmp_path: Path) -> None:
    """A git hash of digits is a text; what is absent is None; a cell that is put again is exchanged."""
    results = Results(tmp_path / "new")
    cell = {"algorithm": "iqn", "seed": 1, "status": "done", "cpu_s": 1.25, "git": "1234567", "settings": "12e4"}
    cell["why"] = ""
    points = [{"which": SEEN, "frames": 10, "score": 0.125}, {"which": SEEN, "frames": 20, "score": 0.5}]
    results.put("cartpole", cell, points)
    results.put("cartpole", {**cell, "algorithm": "fqf"}, points[:1])
    results.put("cartpole", {**cell, "cpu_s": 2.0}, points[1:])
    found = results.cell("cartpole", "iqn", 1)
    assert (found["git"], found["settings"], found["why"], found["cpu_s"]) == ("1234567", "12e4", None, 2.0)
    assert [(row["algorithm"], row["seed"], row["frames"], row["score"]) for row in results.curves("cartpole")] == [
        ("fqf", 1, 10, 0.125),
        ("iqn", 1, 20, 0.5),
    ]
    assert results.cell("cartpole", "iqn", 2) is None and results.cells("hillside") == []
    left = sorted(path.name for path in (tmp_path / "new").iterdir())
    assert left in ([*TABLES], [".lock", *TABLES])


def test_two_suites_may_fill_one_folder(tmp_path: Path) -> None:
    """Each has its own lock on the folder, as two processes have."""

    def fill(name: str) -> None:
        for seed in range(25):
            Results(tmp_path).put("x", {"algorithm": name, "seed": seed, "status": "done"}, [])

    with ThreadPoolExecutor(2) as both:
        list(both.map(fill, "ab"))
    assert len(Results(tmp_path).cells("x")) == 50


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda text: text.replace(",0.5,", ",half,"), "row 2, score=half: must be a number"),
        (lambda text: text.replace(",0.5,", ",nan,"), "row 2, score=nan: must be a number"),
        (lambda text: text.replace(",0.5,", ",,"), "row 2 has no score"),
        (lambda text: text.replace("score", "scores"), "its first line has no score"),
        (lambda text: text[: text.index("0.5")], "row 2 has 8 values instead of 13"),
        (lambda text: text.rstrip() + ",more\n", "row 2 has 14 values instead of 13"),
        (lambda text: "", "its first line has no algorithm"),
    ],
    ids=["text", "nan", "absent", "header", "cut off", "too many", "empty"],
)
def test_a_damaged_table_is_named(damage: Callable[[str], str], said: str, tmp_path: Path) -> None:
    points = [{"which": SEEN, "frames": 10, "score": 0.125}, {"which": SEEN, "frames": 20, "score": 0.5}]
    Results(tmp_path).put("x", {"algorithm": "iqn", "seed": 1, "status": "done"}, points)
    path = tmp_path / "x_curves.csv"
    path.write_text(damage(path.read_text()))
    with pytest.raises(ConfigError, match=re.escape(f"{path}: {said}")) as caught:
        Results(tmp_path).curves("x")
    assert "take it from the last commit" in str(caught.value)
