"""Saving, loading, and files that are not what they should be."""

from __future__ import annotations

import numpy as np
import pytest

from tm_torchrl.tracks import Track, generate_track, load_track


@pytest.fixture
def saved(tmp_path):
    return generate_track(4, features=["dirt"]).save(tmp_path / "four.npz")


def test_round_trip_is_exact(saved):
    track, again = generate_track(4, features=["dirt"]), load_track(saved)
    for name in ("centreline", "half_width", "bank", "surface", "checkpoints"):
        assert (getattr(track, name) == getattr(again, name)).all()
    assert (track.raster.height == again.raster.height).all()
    assert (track.name, track.start, track.finish, track.is_circuit) == (
        again.name, again.start, again.finish, again.is_circuit,
    )  # fmt: skip


def test_a_file_cut_short(saved):
    saved.write_bytes(saved.read_bytes()[:-200])
    with pytest.raises(ValueError, match=r"four\.npz"):
        load_track(saved)


def test_not_a_track(tmp_path):
    path = tmp_path / "other.npz"
    np.savez(path, picture=np.zeros(3))
    with pytest.raises(ValueError, match=r"other\.npz"):
        Track.load(path)


def test_a_future_version(saved):
    with np.load(saved) as file:
        arrays = dict(file)
    arrays["format_version"] = np.array(99)
    np.savez(saved, **arrays)
    with pytest.raises(ValueError, match="99"):
        load_track(saved)


def test_unknown_name_shows_the_nearest():
    with pytest.raises(ValueError, match="did you mean hillside"):
        load_track("hilside")
    with pytest.raises((ValueError, OSError), match=r"missing\.npz"):
        load_track("missing.npz")


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"centreline": np.zeros((5, 2))}, "centreline"),
        ({"centreline": np.full((50, 3), np.nan)}, "centreline"),
        ({"half_width": -1.0}, "half_width"),
        ({"half_width": np.ones(3)}, "half_width"),
        ({"surface": np.array(99)}, "surface"),
        ({"wall_offset": 0.0}, "wall_offset"),
        ({"finish": 500}, "finish"),
        ({"checkpoints": [70, 60]}, "checkpoints"),
        ({"num_laps": 2}, "num_laps"),
    ],
)
def test_bad_arguments_are_named(change: dict, text: str):
    z = np.arange(100.0)
    good = {"centreline": np.stack([0 * z, 0 * z, z], axis=1), "start": 5, "finish": 95, "checkpoints": [50]}
    Track("good", **good)
    with pytest.raises(ValueError, match=text):
        Track("bad", **{**good, **change})
