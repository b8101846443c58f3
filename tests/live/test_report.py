"""The report: what it holds, what it leaves out, and what damaged or hostile files do to it."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.live.run_folders import make_run
from tm_torchrl.live.lap_data import wall_hits
from tm_torchrl.live.one_file import page_with, script_of
from tm_torchrl.live.report import MOST_GHOSTS, write_report
from tm_torchrl.record.folder_claim import claim
from tm_torchrl.record.run_folder import append_line
from tm_torchrl.world.car_row import CAR_ROW

SCRIPT = "<script>alert(1)</script>"
LAP = {"frames": 512, "seconds": 6.0, "track": "oval", "num_laps": 2, "finish_rate": 0.5, "median_lap_s": 31.0}


def report_of(
    run: Path, *, evaluations: Sequence[object] = (), metrics: Sequence[object] = (), facts: object = None
) -> str:
    for name, rows in (("evaluations", evaluations), ("metrics", metrics)):
        lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
        (run / f"{name}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    if facts is not None:
        (run / "run.json").write_text(facts if isinstance(facts, str) else json.dumps(facts), encoding="utf-8")
    return write_report(run).read_text(encoding="utf-8")


def answers_in(page: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(page.split('id="answers">')[1].split("</script>")[0])
    return found


def run_in(page: str) -> dict[str, Any]:
    found: dict[str, Any] = answers_in(page)["run\n1"]
    return found


def lap_rows(speeds: Sequence[float], *, touching: Sequence[int] = ()) -> np.ndarray:
    """Car rows on a straight, with steps that touch a wall."""
    rows = np.zeros((len(speeds), CAR_ROW.size), dtype=np.float32)
    rows[:, CAR_ROW.start("velocity")] = speeds
    rows[:, CAR_ROW.start("position")] = 0.05 * np.cumsum(speeds)
    rows[list(touching), CAR_ROW.start("has_lateral_contact")] = 1.0
    return rows


def keep_lap(run: Path, name: str, rows: np.ndarray, **more: np.ndarray) -> None:
    (run / "laps").mkdir(exist_ok=True)
    np.savez(run / "laps" / f"{name}.npz", rows=rows, **more)


def test_a_report_answers_what_the_page_asks(tmp_path: Path) -> None:
    """The laps of three evaluations, of which the last one is also the best lap, and the author's."""
    run = make_run(tmp_path / "runs" / "oval" / "first", evaluations=3)
    found = answers_in(write_report(run).read_text(encoding="utf-8"))
    laps = [key.split("\n")[3:] for key in found if key.startswith("lap")]
    assert sorted(laps) == [["author"], ["best"], *(["ghost", str(1024 * k)] for k in (1, 2, 3))]
    assert found["track\noval\n1"]["medals"]["author"] == found["lap\noval\n1\nauthor"]["time_s"]
    page = found["run\n1"]
    assert page["name"] == "oval/first"
    assert page["metrics"]["train/loss"][0] == 1.0
    assert page["settings"].startswith("env: {track: oval}")
    assert page["commands"][0][0].startswith("tm-torchrl evaluate")


def test_a_training_that_writes_its_report_is_no_training_in_it(tmp_path: Path) -> None:
    run = make_run(tmp_path / "first")
    with claim(run):
        assert run_in(write_report(run).read_text(encoding="utf-8"))["is_going_on"] is False


def test_many_evaluations_have_a_few_laps(tmp_path: Path) -> None:
    run = make_run(tmp_path / "first", evaluations=13)
    page = run_in(write_report(run).read_text(encoding="utf-8"))
    assert [row["frames"] // 1024 for row in page["ghosts"]["oval"]] == [1, 4, 7, 10, 13]
    assert len(page["ghosts"]["oval"]) <= MOST_GHOSTS


def test_a_run_without_results_and_settings_has_a_report(tmp_path: Path) -> None:
    page = run_in(report_of(tmp_path))
    assert page["evaluations"] == {} and page["tracks"] == [] and page["settings"] == ""


def test_the_report_of_a_run_that_is_no_folder(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="run="):
        write_report(tmp_path / "nothing")


def test_the_only_script_is_the_pages_own(tmp_path: Path) -> None:
    page = report_of(tmp_path)
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page)
    digest = base64.b64encode(hashlib.sha256(script_of("main.js").encode()).digest()).decode()
    expected = f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    assert policy and policy[1] == expected
    assert f"<script>{script_of('main.js')}</script>" in page
    assert page.index("Content-Security-Policy") < page.index("<style"), "it holds for what follows it"
    assert not re.findall(r'(?:src|href)="(?!data:)[^"]', page), "nothing is fetched"


def test_the_script_holds_every_module_after_those_that_it_imports() -> None:
    script = script_of("main.js")
    names = [entry.name for entry in (files("tm_torchrl.live") / "page").iterdir() if entry.name.endswith(".js")]
    places = {name: script.index(f"const module_{name[:-3]} = ") for name in names}
    for name in names:
        source = (files("tm_torchrl.live") / "page" / name).read_text(encoding="utf-8")
        for imported in re.findall(r'from "\./([^"]+)"', source):
            assert places[imported] < places[name], (imported, name)
    assert not re.findall(r"^(?:import|export)\b.*", script, re.MULTILINE)


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
    append_line(run / "messages.jsonl", {"seconds": 1.0, "message": SCRIPT})
    keep_lap(run, "%3Cscript%3E_30000", lap_rows([10.0, 20.0, 30.0]))
    page = report_of(run, evaluations=rows, facts=facts)
    assert page.count("<script") == 2, "the data and the page's own"
    assert page.count("\\u003cscript") > 10
    assert "<img src=x" not in page
    assert SCRIPT in answers_in(page)["run\n1"]["settings"]
    assert page_with({"</script>": SCRIPT}).count("</script") == 2


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
    page = run_in(report_of(tmp_path, evaluations=lines["evaluations"] + lines["tasks"], metrics=lines["metrics"]))
    assert page["evaluations"]["oval"]["best_lap_s"][0] == 30.0
    assert page["evaluations"]["T"]["return_mean"][0] == 1.0
    for curve in page["metrics"].values():
        assert all(value is None or abs(value) < 1e100 for value in curve)


@pytest.mark.parametrize(
    "facts", ["[" * 3000, "[]", "{", {"packages": [1], "command": 3, "started": None}], ids=lambda facts: str(facts)[:8]
)
def test_damaged_facts_are_left_out(facts: object, tmp_path: Path) -> None:
    assert run_in(report_of(tmp_path, facts=facts))["about"][0].startswith("commit unknown")


@pytest.mark.parametrize("name", ["x" * 5000, "../../secret", "a\0b", "$\\frac{$"], ids=["long", "path", "NUL", "math"])
def test_names_of_tracks_are_no_files(name: str, tmp_path: Path) -> None:
    rows = [{**LAP, "track": name, "frames": frames, "best_lap_s": 30.0} for frames in (100, 200)]
    found = answers_in(report_of(tmp_path, evaluations=rows))
    assert sorted(found) == ["run\n1", "runs"]


def test_a_damaged_lap_leaves_the_rest_of_the_report(tmp_path: Path) -> None:
    keep_lap(tmp_path, "oval_30000", np.full((3, CAR_ROW.size), np.nan))
    (tmp_path / "laps" / "ring_30000.npz").write_bytes(b"no archive")
    keep_lap(tmp_path, "leaps_30000", lap_rows([10.0, 20.0]), quantiles=np.full((1, 8), np.inf, dtype=np.float32))
    rows = [{**LAP, "track": track, "frames": 1} for track in ("oval", "ring", "leaps")]
    found = answers_in(report_of(tmp_path, evaluations=rows))
    assert [track["best_lap_s"] for track in found["run\n1"]["tracks"]] == [30.0, 30.0, 30.0]
    assert [key for key in found if key.endswith("best")] == ["lap\nleaps\n1\nbest"]
    assert found["lap\nleaps\n1\nbest"]["values"] is None


def test_values_along_a_kept_lap(tmp_path: Path) -> None:
    """Of the quantiles 0, 1, 2 the 5th, 50th and 95th percentiles are 0.1, 1 and 1.9."""
    run = make_run(tmp_path / "first")
    keep_lap(run, "oval_10000", lap_rows([10.0, 20.0]), quantiles=np.array([[0.0, 1.0, 2.0]], dtype=np.float32))
    found = answers_in(write_report(run).read_text(encoding="utf-8"))
    assert found["lap\noval\n1\nbest"]["values"] == [[0.1], [1.0], [1.9]]


def test_wall_hits_take_speed_at_once_and_touch() -> None:
    """4 m/s are lost at step 2 without contact, at 4 with contact (and again at 5), at 11 only 2 m/s."""
    speeds = [20.0, 20, 16, 16, 12, 8, 8, 8, 8, 8, 8, 6]
    assert wall_hits(lap_rows(speeds, touching=[4, 5, 11])).tolist() == [4]
