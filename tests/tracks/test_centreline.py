"""Tracks from the community's files of points."""

from __future__ import annotations

import numpy as np
import pytest

from tm_torchrl.sim import Simulator
from tm_torchrl.tracks import from_centreline


def bend() -> np.ndarray:
    """150 m straight, a quarter circle of radius 40 m to the left, half a metre between points."""
    straight = np.arange(0.0, 150.0, 0.5)
    angle = np.arange(0.0, np.pi / 2, 0.5 / 40)
    x = np.concatenate([0 * straight, 40 * (1 - np.cos(angle))])
    z = np.concatenate([straight, 150 + 40 * np.sin(angle)])
    return np.stack([x, 0.02 * z, z], axis=1)


def hairpin() -> np.ndarray:
    """Out for 100 m, round a radius of 9 m and back, 18 m beside the way out."""
    run = np.arange(0.0, 100.0, 0.5)
    angle = np.arange(0.0, np.pi, 0.5 / 9)
    x = np.concatenate([0 * run, 9 * (1 - np.cos(angle)), 18 + 0 * run])
    z = np.concatenate([run, 100 + 9 * np.sin(angle), run[::-1]])
    return np.stack([x, 0 * x, z], axis=1)


def test_a_file_becomes_a_track_that_can_be_driven(tmp_path):
    np.save(tmp_path / "bend_0.5m.npy", bend().astype(np.float32))
    track = from_centreline(tmp_path / "bend_0.5m.npy", width=20.0)
    assert track.name == "bend_0.5m"
    assert track.length == pytest.approx(150 + 20 * np.pi, abs=1.5)
    assert (track.half_width == 10).all()
    assert track.centreline[track.start] == pytest.approx([0, 0, 0], abs=0.6)
    assert track.centreline[track.finish] == pytest.approx(bend()[-1], abs=0.6)
    assert Simulator(track, num_cars=2).rows().isfinite().all()


def test_a_circuit():
    angle = np.arange(0.0, 2 * np.pi, 0.5 / 60)
    ring = np.stack([60 * np.sin(angle), 0 * angle, 60 * np.cos(angle)], axis=1)
    track = from_centreline(ring, width=16.0, is_circuit=True)
    assert track.is_circuit
    assert track.length == pytest.approx(2 * np.pi * 60, rel=0.01)


@pytest.mark.parametrize(
    ("line", "options", "text"),
    [
        (np.zeros((3, 3)), {}, r"line has shape \(3, 3\)"),
        (np.zeros((50, 2)), {}, r"line has shape \(50, 2\)"),
        (np.full((50, 3), np.nan), {}, "not finite"),
        (np.cumsum(np.full((50, 3), 30.0), axis=0), {}, "line jumps"),
        (bend(), {"width": 0.5}, "width=0.5"),
        (hairpin(), {}, "touches itself"),
    ],
)
def test_bad_lines(line: np.ndarray, options: dict, text: str):
    with pytest.raises(ValueError, match=text):
        from_centreline(line, **{"width": 20.0, **options})


def test_not_a_file_of_numbers(tmp_path):
    path = tmp_path / "text.npy"
    path.write_text("hello")
    with pytest.raises(ValueError, match=r"line='.*text\.npy'"):
        from_centreline(path, width=20.0)
