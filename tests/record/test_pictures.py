"""Views and figures."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tm_torchrl.record import driven_line, track_gallery
from tm_torchrl.record.curves import compare_runs, labels_of
from tm_torchrl.record.dashboard import Dashboard
from tm_torchrl.sim import Simulator
from tm_torchrl.sim.camera.scenery import COLOUR, Paint
from tm_torchrl.sim.camera.views import chase_view, top_view
from tm_torchrl.tracks import load_track
from tm_torchrl.world.car_row import CAR_ROW


@pytest.fixture(scope="module")
def row() -> np.ndarray:
    return Simulator(load_track("oval"), num_cars=1).rows()[0].numpy().copy()


def test_top_view_is_a_map_in_metres():
    track = load_track("oval")
    picture = top_view(track)
    x0, z0 = track.raster.origin
    x, _, z = track.centreline[40]
    asphalt = picture[round(z - z0), round(x - x0 + 4)]
    assert np.abs(asphalt.astype(int) - COLOUR[Paint.ASPHALT]).max() < 12
    assert picture.shape[:2] == tuple(size - 1 for size in track.raster.height.shape)


def test_chase_view(row: np.ndarray):
    picture = chase_view(load_track("oval"), row, width=200, height=120)
    assert picture.shape == (120, 200, 3)
    sky, road = picture[3, 100].astype(int), picture[100, 60].astype(int)
    assert sky[2] > sky[0] + 40, "the sky is blue"
    assert np.ptp(road) < 25, "the road is grey"
    red = (picture[:, :, 0] > 150) & (picture[:, :, 1] < 90) & (picture[:, :, 2] < 90)
    columns = np.nonzero(red.any(axis=0))[0]
    assert 80 < columns.mean() < 120, "the car is in the middle"


def test_dashboard_lights_the_keys(row: np.ndarray):
    dashboard = Dashboard(load_track("oval"))
    idle = dashboard.frame([row])
    pressed = row.copy()
    pressed[CAR_ROW.start("input_gas")] = 1.0
    pressed[CAR_ROW.start("input_steer")] = -1.0
    changed = np.abs(dashboard.frame([pressed]).astype(int) - idle).sum(axis=2) > 60
    assert changed[96:123, 20:50].any(), "left"
    assert changed[96:123, 56:86].any(), "gas"
    assert not changed[96:123, 92:158].any(), "neither brake nor right"


def test_figures_are_drawn(tmp_path):
    track_gallery([load_track("oval"), load_track("ring")]).savefig(tmp_path / "gallery.png", dpi=40)
    steps = np.linspace(0, 6, 50)
    position = np.stack([16 * np.sin(steps), 0 * steps, 16 * np.cos(steps)], axis=1)
    driven_line(load_track("oval"), position, 20 + steps, title="test").savefig(tmp_path / "line.png", dpi=40)
    assert {path.stat().st_size > 5000 for path in tmp_path.iterdir()} == {True}
    with pytest.raises(ValueError, match="tracks"):
        track_gallery([])


def test_the_gallery_tells_the_length_of_a_lap_and_keeps_a_margin():
    """Three laps of 469 m; at 10 dots per inch the picture is 36 dots wide."""
    track = load_track("ring")
    figure = track_gallery([track])
    figure.canvas.draw()
    title = figure.subfigs[0].axes[0]._right_title
    assert title.get_text() == f"{track.num_laps} laps of {track.length / 3:.0f} m"
    assert title.get_window_extent().x1 < 0.995 * figure.bbox.width


def test_runs_compared_on_a_track_that_they_have_not_driven(tmp_path: Path) -> None:
    (tmp_path / "evaluations.jsonl").write_text('{"frames": 1, "seconds": 1.0, "track": "oval", "finish_rate": 0.0}\n')
    with pytest.raises(ValueError, match=r"track='ring'.*oval"):
        compare_runs([tmp_path], track="ring")


def test_runs_are_labelled_by_what_differs(tmp_path: Path) -> None:
    for name, seed, estimator in (("a", 0, "SoftEstimator"), ("b", 1, "SoftEstimator"), ("c", 0, "DoubleEstimator")):
        (tmp_path / name).mkdir()
        text = f"seed: {seed}\nestimator: {{_target_: tm_torchrl.objectives.{estimator}}}\nresume: {name}\n"
        (tmp_path / name / "config.yaml").write_text(text, encoding="utf-8")
    a, b, c = (str(tmp_path / name) for name in "abc")
    assert labels_of([a, b]) == {a: "seed=0", b: "seed=1"}
    assert labels_of([a, c]) == {a: "estimator=SoftEstimator", c: "estimator=DoubleEstimator"}
    assert labels_of([a, str(tmp_path / "old")])[a].startswith("seed=0")
    assert labels_of([a]) == {a: "a"}


def test_compared_runs_share_axes_name_medals_and_survive_damaged_rows(tmp_path: Path) -> None:
    """One run is slower than all medals, the other has a row of text, one without frames, and one of another track."""
    row = {"frames": 100, "seconds": 60.0, "track": "oval", "median_lap_s": 30.0, "finish_rate": 0.5}
    damaged = [{**row, "median_lap_s": "30", "seconds": []}, {"track": "oval"}, {**row, "track": "ring", "frames": 900}]
    slow = [{**row, "frames": frames, "median_lap_s": 90.0} for frames in (200, 300)]
    slow.append({**row, "frames": 400, "median_lap_s": None})
    for name, rows in (("$\\frac{$", [row, *damaged]), ("slow", slow)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "evaluations.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    figure = compare_runs(sorted(tmp_path.iterdir()))
    figure.savefig(tmp_path / "compare.png", dpi=30)
    laps, later, finished, _ = figure.axes
    assert figure.get_suptitle() == "Learning on oval"
    assert laps.get_xlim() == finished.get_xlim()
    assert 400 < laps.get_xlim()[1] < 500, "the other track's row is not drawn"
    assert laps.get_ylim()[1] > 90.0, "each run is seen"
    assert [text.get_text() for text in later.texts] == ["author", "gold", "silver", "bronze"], "from the lowest up"
    right = later.get_window_extent().x1
    assert all(text.get_window_extent().x0 > right for text in later.texts), "they cover no point"
    assert not laps.texts
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["$\\frac{$", "slow"]
