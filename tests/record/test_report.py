"""The page about a run: what it shows, what it leaves out, and what damaged or hostile files do to it."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from tm_torchrl.record import figures
from tm_torchrl.record.plots import BLUE, INK, medal_times
from tm_torchrl.record.report import write_report
from tm_torchrl.record.svg import inline_svg
from tm_torchrl.world.car_row import CAR_ROW

SCRIPT = "<script>alert(1)</script>"
LAP = {"frames": 512, "seconds": 6.0, "track": "oval", "num_laps": 2, "finish_rate": 0.5, "median_lap_s": 31.0}


def page_of(
    run: Path, *, evaluations: Sequence[object] = (), metrics: Sequence[object] = (), facts: object = None
) -> str:
    for name, rows in (("evaluations", evaluations), ("metrics", metrics)):
        lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
        (run / f"{name}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    if facts is not None:
        (run / "run.json").write_text(facts if isinstance(facts, str) else json.dumps(facts), encoding="utf-8")
    return write_report(run).read_text(encoding="utf-8")


def lap_rows(
    speeds: Sequence[float], *, touching: Sequence[int] = (), passed: Sequence[tuple[int, int]] = ()
) -> np.ndarray:
    """Car rows on a straight, with steps that touch a wall, and steps that pass a gate at a race time in ms."""
    rows = np.zeros((len(speeds), CAR_ROW.size), dtype=np.float32)
    rows[:, CAR_ROW.start("velocity")] = speeds
    rows[:, CAR_ROW.start("position")] = 0.05 * np.cumsum(speeds)
    rows[list(touching), CAR_ROW.start("has_lateral_contact")] = 1.0
    for step, time_ms in passed:
        rows[step:, CAR_ROW.start("checkpoint_count")] += 1
        rows[step:, CAR_ROW.start("last_checkpoint_time_ms")] = time_ms
    return rows


def keep_lap(run: Path, name: str, rows: np.ndarray) -> None:
    (run / "laps").mkdir()
    np.savez(run / "laps" / f"{name}.npz", rows=rows)


def test_a_run_without_results_says_so(tmp_path: Path) -> None:
    page = page_of(tmp_path)
    assert "not been evaluated" in page
    assert "No metrics" in page
    assert "<svg" not in page


@pytest.mark.parametrize("row", [{**LAP, "progress_m": [120.0, 80.0]}, {"frames": 5, "task": "T", "return_mean": 3.0}])
def test_one_evaluation_is_told_without_empty_axes(row: dict[str, object], tmp_path: Path) -> None:
    page = page_of(tmp_path, evaluations=[row], metrics=[{"frames": 5, "train/loss": 0.25}])
    assert "<svg" not in page
    assert "loss: 0.25" in page
    assert ("The median lap came 100 m" in page) == ("progress_m" in row)


def test_metres_are_drawn_before_the_first_finish(tmp_path: Path) -> None:
    rows = [{**LAP, "frames": frames, "progress_m": [frames / 2, frames / 4]} for frames in (100, 200)]
    page = page_of(tmp_path, evaluations=rows)
    assert page.count("<svg") == 1
    assert "oval: metres over frames" in page
    assert "100 m" in page, "the farthest of 200 / 2"
    assert "no lap has finished yet" in page


def test_lap_times_are_drawn_with_all_medals_by_name(tmp_path: Path) -> None:
    rows = [{**LAP, "frames": frames, "best_lap_s": 30.0, "lap_times_s": [30.0, 31.5]} for frames in (100, 200)]
    page = page_of(tmp_path, evaluations=rows)
    curve = page[page.index("oval: lap times over frames") : page.index("</svg>")]
    for name, _, _ in medal_times("oval"):
        assert f">{name}</text>" in curve, name
    assert "Times of the 4 finished laps of all evaluations." in page
    keep_lap(tmp_path, "oval_30000", lap_rows([10.0, 20.0, 30.0]))
    page = page_of(tmp_path, evaluations=rows)
    author_s = medal_times("oval")[-1][1]
    assert f"{30 - author_s:.2f} s to go" in page


def test_the_first_slow_laps_leave_the_picture_only_among_many() -> None:
    times = [90.0, 30.0, 29.0, 28.0, 27.0]
    rows = [{"frames": i, "best_lap_s": time, "median_lap_s": time} for i, time in enumerate(times)]
    bronze_s = medal_times("oval")[0][1]
    few, many = figures.lap_curves(rows[:4], track="oval"), figures.lap_curves(rows, track="oval")
    assert few is not None and many is not None
    assert few.axes[0].get_ylim()[1] == pytest.approx(91.0)
    assert many.axes[0].get_ylim()[1] == pytest.approx(1.25 * bronze_s + 1.0)


def test_long_curves_have_a_mean_over_their_fiftieth_part() -> None:
    """200 rows that alternate between 1 and 3: each four of them have the mean 2."""
    rows = [{"frames": i, "train/loss": 1.0 + 2.0 * (i % 2)} for i in range(200)]
    raw, mean = figures.metric_curve(rows, "train/loss").axes[0].lines
    assert len(raw.get_ydata()) == 200
    assert mean.get_ydata() == pytest.approx(np.full(197, 2.0))
    assert mean.get_xdata()[0] == pytest.approx(1.5), "the middle of rows 0 to 3"
    assert len(figures.metric_curve(rows[:199], "train/loss").axes[0].lines) == 1


def test_wall_hits_take_speed_at_once_and_touch() -> None:
    """4 m/s are lost at step 2 without contact, at 4 with contact (and again at 5), at 11 only 2 m/s."""
    speeds = [20.0, 20, 16, 16, 12, 8, 8, 8, 8, 8, 8, 6]
    assert figures.wall_hits(lap_rows(speeds, touching=[4, 5, 11])).tolist() == [4]


def test_lost_time_is_told_by_sector(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    author = lap_rows([10.0] * 6, passed=[(2, 7000), (4, 20000)])
    monkeypatch.setattr("tm_torchrl.record.report._author_rows", lambda name: author)
    keep_lap(tmp_path, "oval_21500", lap_rows([10.0] * 6, passed=[(3, 9000), (5, 21500)]))
    page = page_of(tmp_path, evaluations=[{**LAP, "best_lap_s": 21.5}])
    lost = re.findall(r"<td>(\d|all)</td><td>([\d.]+) s</td><td>([\d.]+) s</td><td>([+-][\d.]+) s</td>", page)
    assert lost == [
        ("1", "9.00", "7.00", "+2.00"),
        ("2", "12.50", "13.00", "-0.50"),
        ("all", "21.50", "20.00", "+1.50"),
    ]


def test_figures_have_the_colours_of_the_page(tmp_path: Path) -> None:
    metrics = [{"frames": frames, "train/loss": 1 / frames} for frames in (1, 2, 3)]
    page = page_of(tmp_path, metrics=metrics)
    svg = page[page.index("<svg") : page.index("</svg>")]
    assert not re.findall("#[0-9a-f]{6}", svg)
    assert "var(--blue)" in svg
    for colour in (BLUE, INK):
        assert colour in page[: page.index("<svg")], "the light page's"
    assert "prefers-color-scheme: dark" in page


def test_svg_of_the_same_figure_is_the_same_and_its_names_differ_by_label() -> None:
    rows = [{"frames": frames, "train/loss": frames} for frames in (1, 2)]
    first, again, other = (
        inline_svg(figures.metric_curve(rows, "train/loss"), label) for label in ("a", "a", 'b"<script>')
    )
    assert first == again
    names = [set(re.findall(r'id="([^"]+)"', text)) for text in (first, other)]
    assert names[0] and not names[0] & names[1], "ids of one page"
    assert "<script" not in other


def test_nothing_in_files_becomes_markup(tmp_path: Path) -> None:
    run = tmp_path / "<img src=x onerror=alert(1)>"
    run.mkdir()
    (run / "config.yaml").write_text(f"name: {SCRIPT}", encoding="utf-8")
    rows = [
        {"frames": 1, "task": "x", "num_episodes": SCRIPT, "return_mean": SCRIPT},
        {**LAP, "track": SCRIPT, "num_laps": SCRIPT, "finish_rate": SCRIPT, "progress_m": [SCRIPT]},
        {"frames": 2, "task": f'"{SCRIPT}', "num_episodes": SCRIPT, "seconds": SCRIPT},
        *({"frames": frames, "task": f'"{SCRIPT}', "return_mean": frames} for frames in (3, 4)),
    ]
    keys = ("git", "python", "platform", "seed", "precision", "device", "started")
    facts = {**dict.fromkeys(keys, SCRIPT), "packages": {SCRIPT: SCRIPT}, "command": [SCRIPT]}
    keep_lap(run, "%3Cscript%3E_30000", lap_rows([10.0, 20.0, 30.0]))
    page = page_of(run, evaluations=rows, facts=facts)
    assert page.count("&lt;script") > 10
    assert "<script" not in page
    assert "<img" not in page
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page)
    assert policy and policy[1] == "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
    assert page.index("Content-Security-Policy") < page.index("<style"), "it holds for what follows it"


DAMAGED = ['"text"', "1e400", "-1e400", "NaN", "null", "[]", "{}", "[1, [2]]", "1" + "0" * 400, "1e99", "true", "-5"]


@pytest.mark.parametrize("damaged", [*DAMAGED, "[" * 3000 + "]" * 3000, "9" * 5000], ids=lambda text: text[:8])
def test_damaged_values_are_not_drawn(damaged: str, tmp_path: Path) -> None:
    """Every key in turn has a value of another kind, or is missing."""
    lap = {**LAP, "best_lap_s": 30.0, "lap_times_s": [30.0, 31.0], "progress_m": [5.0]}
    task = {"frames": 1, "seconds": 1.0, "task": "T", "num_episodes": 3, "return_mean": 1, "return_min": 0}
    metrics = {"frames": 1, "seconds": 1.0, "train/loss": 0.5, "train/gradient_norm": 1.0}
    lines = {}
    for name, whole in (("evaluations", lap), ("tasks", task), ("metrics", metrics)):
        changed = [json.dumps({**whole, key: "?"}).replace('"?"', damaged) for key in whole]
        missing = [{other: value for other, value in whole.items() if other != key} for key in whole]
        lines[name] = [whole, *changed, *missing, {**whole, "frames": 9}, '{"frames": 12, "train/lo']
    page = page_of(tmp_path, evaluations=lines["evaluations"] + lines["tasks"], metrics=lines["metrics"])
    assert "oval: lap times over frames" in page
    assert "T: returns over frames" in page


@pytest.mark.parametrize(
    "facts", ["[" * 3000, "[]", "{", {"packages": [1], "command": 3, "started": None}], ids=lambda facts: str(facts)[:8]
)
def test_damaged_facts_are_left_out(facts: object, tmp_path: Path) -> None:
    assert "commit unknown" in page_of(tmp_path, facts=facts)


@pytest.mark.parametrize("name", ["x" * 5000, "../../secret", "a\0b", "$\\frac{$"], ids=["long", "path", "NUL", "math"])
def test_names_of_tracks_are_no_files(name: str, tmp_path: Path) -> None:
    rows = [{**LAP, "track": name, "frames": frames, "best_lap_s": 30.0} for frames in (100, 200)]
    assert page_of(tmp_path, evaluations=rows).count("<svg") == 1


def test_the_page_breaks_no_time_and_says_why_the_return_falls(tmp_path: Path) -> None:
    run = tmp_path / "oval" / "2026-01-31"
    run.mkdir(parents=True)
    rows = [{"frames": frames, "seconds": 75.0, "episode/return": float(-frames)} for frames in (1, 2)]
    page = page_of(run, evaluations=[{**LAP, "frames": 1}], metrics=rows)
    assert "<h1><span>oval</span>/<span>2026-01-31</span></h1>" in page
    assert '<div class="value">1:15 </div>' in page
    assert "laps that come further also lose more for their time" in page
    assert "lose more" not in page_of(run, evaluations=[], metrics=rows)


def test_a_damaged_lap_leaves_the_rest_of_the_page(tmp_path: Path) -> None:
    keep_lap(tmp_path, "oval_30000", np.full((3, CAR_ROW.size), np.nan))
    (tmp_path / "laps" / "ring_30000.npz").write_bytes(b"no archive")
    rows = [{**LAP, "track": track, "frames": 1} for track in ("oval", "ring")]
    page = page_of(tmp_path, evaluations=rows)
    assert page.count("30.00 s") >= 4, "a tile and a line of the medal table, each"
    assert "line of the best lap" not in page
