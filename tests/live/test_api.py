"""What the page asks for: runs, tracks, laps, requests."""

from __future__ import annotations

import json
import os
import threading
import time
from pathlib import Path

import pytest

from tests.live.conftest import Site
from tests.live.run_folders import make_run
from tm_torchrl.live.api import MOST_RACES, Api
from tm_torchrl.live.lap_data import kept_rows
from tm_torchrl.live.runs import Run, Runs, curves
from tm_torchrl.live.server import Request, RequestError
from tm_torchrl.record.folder_claim import claim, is_claimed
from tm_torchrl.record.ghosts import FILE
from tm_torchrl.record.run_folder import append_line, best_laps
from tm_torchrl.tracks.medals import medals_of

AUTHOR = medals_of("oval")
assert AUTHOR is not None


def test_the_list_of_runs(site: Site) -> None:
    status, found, _ = site.ask("api/runs")
    assert status == 200
    (run,) = found["runs"]
    assert (run["id"], run["name"], run["track"], run["medal"]) == ("1", "oval/first", "oval", "author")
    assert (run["frames"], run["seconds"], run["best_lap_s"]) == (3072, 24.0, AUTHOR.author_s)
    assert found["tracks"][0] == "hillside"


def test_a_run_is_sent_again_only_if_it_has_changed(site: Site) -> None:
    status, page, headers = site.ask("api/run?run=1")
    assert status == 200
    assert page["metrics"]["train/loss"] == pytest.approx([1 / k for k in range(1, 7)])
    assert page["evaluations"]["oval"]["best_lap_s"] == [None, None, AUTHOR.author_s]
    assert [one["time_s"] for one in page["ghosts"]["oval"]] == [None, None, AUTHOR.author_s]
    assert page["tracks"][0]["medals"]["author"] == AUTHOR.author_s
    assert not page["is_going_on"]
    known = {"If-None-Match": headers["ETag"]}
    assert site.ask("api/run?run=1", headers=known)[:2] == (304, b"")
    append_line(site.folder / "runs/oval/first/metrics.jsonl", {"frames": 4000, "seconds": 30.0, "train/loss": 0.1})
    status, page, _ = site.ask("api/run?run=1", headers=known)
    assert (status, page["frames"], page["metrics"]["train/loss"][-1]) == (200, 4000, 0.1)


def test_laps_of_all_kinds(site: Site) -> None:
    author = site.ask("api/lap?track=oval&kind=author")[1]
    assert author["time_s"] == AUTHOR.author_s == author["gates_s"][-1]
    assert author["num"] == len(author["speed"]) == len(author["position"]) / 3 == len(author["progress"])
    assert author["progress"][0] == pytest.approx(0.0, abs=1.0)
    length = site.ask("api/track?track=oval")[1]["length_m"]
    assert author["progress"][-1] == pytest.approx(length, abs=4.0), "one step takes the car some metres beyond"
    assert author["keys"][2] & 1, "the author begins with gas"
    assert site.ask("api/lap?run=1&track=oval&kind=best")[1] == {**author, "values": None}
    assert site.ask("api/lap?run=1&track=oval&kind=ghost&frames=3072")[1] == author
    early = site.ask("api/lap?run=1&track=oval&kind=ghost&frames=1024")[1]
    assert (early["num"], early["time_s"]) == (101, None)
    assert early["position"] == author["position"][:303]


@pytest.mark.parametrize(
    ("path", "status", "text"),
    [
        ("api/nothing", 404, "no such data"),
        ("api/run?run=7", 404, "run 7"),
        ("api/run", 404, "run None"),
        ("api/track?track=ovel", 404, "track ovel"),
        ("api/track?track=../../x.npz", 404, "must be one of"),
        ("api/track?run=1&track=hillside", 404, "must be one of oval"),
        ("api/lap?track=oval&kind=own", 404, "no lap is kept"),
        ("api/lap?run=1&track=oval&kind=ghost&frames=5", 404, "after 5 frames"),
        ("api/values?run=1&track=oval&kind=author", 422, "env: "),
    ],
)
def test_what_is_not_there(site: Site, path: str, status: int, text: str) -> None:
    found, answer, _ = site.ask(path)
    assert found == status
    assert text in answer["error"]


def test_requests_reach_a_training(site: Site) -> None:
    folder = site.folder / "runs/oval/first"
    ask = {"run": "1", "what": "save"}
    status, answer, _ = site.ask("api/ask", method="POST", body=ask)
    assert status == 409 and "has ended" in answer["error"]
    with claim(folder):
        assert site.ask("api/run?run=1")[1]["is_going_on"]
        assert site.ask("api/ask", method="POST", body={**ask, "what": "burn"})[0] == 400
        assert site.ask("api/ask", method="POST", body=ask)[0] == 200
    assert (folder / "please_save").is_file()
    (folder / "please_save").unlink()


def test_looking_whether_a_run_goes_on_does_not_keep_it_from_starting(tmp_path: Path) -> None:
    assert not is_claimed(tmp_path)
    assert list(tmp_path.iterdir()) == [], "looking leaves nothing"
    with claim(tmp_path):
        assert is_claimed(tmp_path)
    assert not is_claimed(tmp_path)


def test_new_runs_are_found_and_keep_their_numbers(tmp_path: Path) -> None:
    make_run(tmp_path / "oval" / "a", evaluations=1)
    runs = Runs([tmp_path])
    assert [run["name"] for run in runs.summaries()] == ["oval/a"]
    make_run(tmp_path / "oval" / "b", evaluations=2)
    os.utime(tmp_path / "oval" / "b" / "evaluations.jsonl", (9e9, 9e9))
    assert [(run["id"], run["name"]) for run in runs.summaries()] == [("2", "oval/b"), ("1", "oval/a")]
    assert [run["name"] for run in Runs([tmp_path / "oval" / "a"]).summaries()] == ["oval/a"]


def test_a_run_without_tracks(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("env: {name: CartPole-v1}\nalgorithm: {}\n")
    for frames in (100, 200):
        append_line(
            tmp_path / "evaluations.jsonl", {"task": "CartPole-v1", "frames": frames, "return_mean": frames / 2}
        )
    append_line(tmp_path / "metrics.jsonl", {"frames": 300, "seconds": 2.0})
    page = Runs([tmp_path])["1"].page()
    assert (page["frames"], page["return_mean"], page["tracks"]) == (300, 100.0, [])
    assert page["evaluations"]["CartPole-v1"]["return_mean"] == [50.0, 100.0]


def test_damaged_runs_are_shown_as_far_as_they_go(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "runs" / "bad")
    (folder / "config.yaml").write_text("[" * 500)
    (folder / "run.json").write_text("7")
    for row in ({"frames": "x", "track": 5}, {"frames": 1e400, "track": None}, {"frames": True}, {"seconds": []}):
        append_line(folder / "evaluations.jsonl", row)
        append_line(folder / "metrics.jsonl", row)
    append_line(folder / FILE, {"track": "oval", "frames": 9, "actions": "?"})
    run = Runs([tmp_path])["1"]
    page = run.page()
    assert page["evaluations"]["oval"]["best_lap_s"][-1] == AUTHOR.author_s
    assert page["facts"] == {}
    assert page["evaluations"]["5"]["frames"] == [], "its only row has no frames"
    assert json.loads(json.dumps(page, allow_nan=False)) == page


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes")
def test_a_hostile_run_leaves_the_others(tmp_path: Path) -> None:
    """Aliases that stand for billions of values, pipes instead of files, and rows without end."""
    bad, good = make_run(tmp_path / "runs" / "bad"), make_run(tmp_path / "runs" / "good")
    lines = ["env:", "  track: &a0 [x]", *(f"  a{k}: &a{k} [{', '.join([f'*a{k - 1}'] * 9)}]" for k in range(1, 12))]
    (bad / "config.yaml").write_text("\n".join(lines))
    for path in (bad / "run.json", *best_laps(bad).values()):
        path.unlink()
        os.mkfifo(path)
    runs = Runs([tmp_path])
    names = {run["name"]: run["id"] for run in runs.summaries()}
    assert set(names) == {"runs/bad", "runs/good"}
    assert runs[names["runs/bad"]].page()["facts"] == {}
    with pytest.raises(ValueError, match="regular file"):
        kept_rows(next(iter(best_laps(bad).values())))
    with (bad / "metrics.jsonl").open("wb") as file:
        file.truncate(2**31)
    assert [run["name"] for run in Runs([tmp_path]).summaries()] == ["runs/good"]
    assert good.is_dir()


def test_values_that_json_does_not_have_are_an_answer(site: Site) -> None:
    facts = site.folder / "runs/oval/first/run.json"
    before = facts.read_text()
    facts.write_text('{"started": NaN}')
    status, answer, _ = site.ask("api/run?run=1")
    facts.write_text(before)
    assert status == 422 and "JSON compliant" in answer["error"]


def test_races_at_once_are_counted_before_they_begin(site: Site) -> None:
    api = Api(Runs([site.folder / "runs"]), drives=site.folder / "drives")
    request = Request({"track": "oval"}, False, None)
    begun = [api.race(request) for _ in range(MOST_RACES)]
    with pytest.raises(RequestError, match="races are driven already"):
        api.race(request)
    del begun


@pytest.mark.skipif(os.name == "nt", reason="links need rights there")
def test_links_in_a_run_folder_are_not_followed(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run")
    other = make_run(tmp_path / "elsewhere" / "secret")
    (best,) = best_laps(folder).values()
    best.unlink()
    best.symlink_to(*best_laps(other).values())
    for name in ("config.yaml", "run.json", "metrics.jsonl", "evaluations.jsonl", FILE):
        (folder / name).unlink()
        (folder / name).symlink_to(other / name)
    page = Runs([folder])["1"].page()
    assert (page["facts"], page["evaluations"], page["ghosts"], page["tracks"]) == ({}, {}, {}, [])
    assert page["best_lap_s"] is None


def test_long_curves_are_thinned_to_their_last_row() -> None:
    rows = [{"frames": k, "train/loss": float(k)} for k in range(1, 1002)]
    found = curves(rows, ["train/loss", "train/kl"])
    assert found["train/loss"] == found["frames"]
    assert len(found["frames"]) == 334 and found["frames"][-1] == 1001  # ceil(1001 / 400) = 3, every third from the end
    assert "train/kl" not in found


def test_tabs_are_answered_one_by_one(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    at_once, most = [0], [0]

    def slow(run: Run) -> dict[str, object]:
        at_once[0] += 1
        most[0] = max(most[0], at_once[0])
        time.sleep(0.1)
        at_once[0] -= 1
        return {}

    monkeypatch.setattr(Run, "page", slow)
    threads = [threading.Thread(target=site.ask, args=("api/run?run=1",)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1]
