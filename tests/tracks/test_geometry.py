"""Tracks, rasters and zones against arithmetic by hand."""

from __future__ import annotations

import dataclasses
import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tm_torchrl.tracks import (
    BUILTIN_TRACKS,
    DEFAULT_TRACK,
    HELD_OUT_SEEDS,
    TRAINING_SEEDS,
    Surface,
    Track,
    arc,
    blocks,
    generate_track,
    lay,
    load_track,
    racing_line,
    self_clearance,
    speed_profile,
    straight,
)
from tm_torchrl.tracks.clearance import tightest_bend
from tm_torchrl.tracks.speed import curvature


def ruler(*, height: np.ndarray | float = 0.0, **options: object) -> Track:
    """A straight of 200 m along +z."""
    z = np.arange(200.0)
    line = np.stack([0 * z, 0 * z + height, z], axis=1)
    return Track("ruler", line, **{"start": 10, "finish": 190, "half_width": 8.0, "wall_offset": 4.0, **options})


def cell(track: Track, x: float, z: float) -> tuple[int, int]:
    x0, z0 = track.raster.origin
    return round(z - z0), round(x - x0)


def test_edge_distance_of_a_straight():
    track = ruler()
    for x in (-30, -12, -8, -3, 0, 5, 8, 11, 25):
        assert track.raster.edge[cell(track, x, 100)] == pytest.approx(8 - abs(x), abs=1e-4)


def test_raster_has_room_around_the_walls():
    track = load_track(DEFAULT_TRACK)
    edge = track.raster.edge
    border = np.concatenate([edge[0], edge[-1], edge[:, 0], edge[:, -1]])
    assert (border < -(track.wall_offset + 20)).all()


def test_heights_follow_a_ramp_and_a_bank():
    z = np.arange(200.0)
    track = ruler(height=0.1 * z)
    assert track.raster.height[cell(track, 3, 100)] == pytest.approx(10.0, abs=0.01)
    assert track.raster.height[cell(track, 0, 151)] == pytest.approx(15.1, abs=0.01)
    banked = ruler(bank=0.2)
    assert banked.raster.height[cell(banked, 5, 100)] == pytest.approx(1.0, abs=0.02), "left is +x, and rises"
    assert banked.raster.height[cell(banked, -5, 100)] == pytest.approx(-1.0, abs=0.02)


def test_surfaces_per_cell():
    surface = np.full(200, int(Surface.ASPHALT))
    surface[100:140] = int(Surface.DIRT)
    track = ruler(surface=surface)
    assert track.raster.surface[cell(track, 2, 50)] == Surface.ASPHALT
    assert track.raster.surface[cell(track, 2, 120)] == Surface.DIRT
    assert track.raster.surface[cell(track, 10, 120)] == Surface.GRASS


def test_zones_of_a_straight():
    track = ruler()
    zones = track.zones
    assert len(zones.centers) == 20 + 361 + 1000  # 180 m in steps of half a metre, both ends included
    assert zones.centers[20] == pytest.approx([0, 0, 10], abs=1e-3)
    assert np.diff(zones.centers[:, 2]) == pytest.approx(0.5, abs=1e-3)
    assert zones.transitions[20] == pytest.approx([0, 0, 10.25], abs=1e-3)
    assert zones.tangents[50] == pytest.approx([0, 0, 1], abs=1e-6)
    assert zones.distance[200] - zones.distance[100] == pytest.approx(50.0, abs=1e-2)
    assert zones.checkpoint_zones.tolist() == [20 + 360]


def test_zones_of_several_laps_go_round():
    track = load_track("ring")
    zones = track.zones
    lap = len(track.centreline)
    assert track.length == pytest.approx(3 * lap, rel=0.01)
    gates = zones.checkpoint_zones
    assert len(gates) == 3 * (len(track.checkpoints) + 1)
    assert (np.diff(gates) > 0).all()
    per_lap = len(track.gates)
    first, second = zones.centers[gates[0]], zones.centers[gates[per_lap]]
    assert first == pytest.approx(second, abs=0.6), "the same gate, a lap later"
    step = np.linalg.norm(np.diff(zones.centers, axis=0), axis=1)
    assert step.max() < 0.56 and step.min() > 0.4


def test_gates_stand_across_the_road():
    for name in BUILTIN_TRACKS:
        track = load_track(name)
        assert np.linalg.norm(track.gates[:, 3:6], axis=1) == pytest.approx(1.0)
        assert (track.gates[:, 6] >= track.half_width.min()).all()
        ends = [*track.checkpoints, track.finish]
        assert track.gates[:, 0:3] == pytest.approx(track.centreline[ends], abs=0.01)


@pytest.mark.parametrize("name", BUILTIN_TRACKS)
def test_built_in_tracks_are_sound(name: str):
    track = load_track(name)
    assert self_clearance(track).gap_m >= 0
    assert tightest_bend(track)[0] > 0
    on_road = track.raster.edge > 0
    both_z = on_road[1:] & on_road[:-1]
    both_x = on_road[:, 1:] & on_road[:, :-1]
    height = track.raster.height
    steepest = max(np.abs(np.diff(height, axis=0))[both_z].max(), np.abs(np.diff(height, axis=1))[both_x].max())
    assert steepest < 1.0, "no cliffs: even the back of a jump is a slope"
    spacing = np.linalg.norm(np.diff(track.centreline[:, (0, 2)], axis=0), axis=1)
    assert spacing == pytest.approx(1.0, abs=0.1)


def test_default_track_is_what_it_should_be():
    track = load_track(DEFAULT_TRACK)
    assert np.ptp(track.centreline[:, 1]) > 8, "hills"
    assert (track.surface == Surface.DIRT).any()
    speed = speed_profile(track, lateral_acceleration=60.0)
    sharp = speed < 35.0  # 126 km/h
    sharp[: track.start + 60] = False
    assert np.diff(sharp.astype(int)).clip(min=0).sum() >= 3, "corners that full throttle cannot take"


def test_generated_tracks_are_sound_and_repeat():
    for seed in range(6):
        kind = ("circuit", "course")[seed % 2]
        features = ["dirt", *["jump"] * (seed % 2), *["chicane"] * (seed % 3 == 0)]
        options = {"length_m": 900.0 + 100 * seed, "features": features}
        track = generate_track(seed, kind=kind, **options)
        again = generate_track(seed, kind=kind, **options)
        assert (track.centreline == again.centreline).all()
        assert self_clearance(track).gap_m > 2
        assert track.is_circuit == (kind == "circuit")
        assert (track.surface == Surface.DIRT).sum() >= 60
        assert np.isfinite(track.raster.height).all()
    assert (generate_track(1).centreline[:50] != generate_track(2).centreline[:50]).any()
    assert not set(TRAINING_SEEDS) & set(HELD_OUT_SEEDS)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"length_m": 50.0}, r"length_m=50\.0"),
        ({"kind": "loop"}, "kind='loop'"),
        ({"features": ["hole"]}, r"features=\['hole'\]"),
        ({"hills_m": 99.0}, r"hills_m=99\.0"),
        ({"features": ["jump"] * 30}, r"length_m=1000: .*30 features"),
        ({"length_m": 300.0, "half_width_m": 60.0}, "half_width_m=60"),
        ({"seed": -1}, "seed=-1"),
        ({"seed": "x"}, "seed='x'"),
    ],
)
def test_generator_refuses(options: dict, text: str):
    with pytest.raises(ValueError, match=text):
        generate_track(options.pop("seed", 0), **options)


LETTERS = st.text(alphabet="SLRUDTEJN", min_size=2, max_size=12)


@settings(max_examples=60, deadline=None)
@given(LETTERS)
def test_blocks_end_where_the_letters_say(spec: str):
    """Each block is 32 m; a curve's quarter circle of radius 16 leaves through the block's side."""
    try:
        track = blocks(spec)
    except ValueError:
        with pytest.raises(ValueError, match="runs over itself"):
            blocks(spec)
        return
    x, z, heading, rise, length = 16.0, 0.0, 0, 0.0, 0.0
    ahead = ((0, 1), (1, 0), (0, -1), (-1, 0))
    for letter in spec:
        dx, dz = ahead[heading]
        if letter in "LR":
            side = 1 if letter == "L" else -1
            heading = (heading + side) % 4
            sx, sz = ahead[heading]
            x, z = x + 16 * (dx + sx), z + 16 * (dz + sz)
            length += np.pi * 8
        else:
            x, z = x + 32 * dx, z + 32 * dz
            length += 32
        rise += {"U": 8.0, "D": -8.0}.get(letter, 0.0)
    assert track.centreline[-1, (0, 2)] == pytest.approx([x, z], abs=0.01)
    assert track.num_points == pytest.approx(length + 1, abs=2)
    if spec[-1] not in "UDJ" and spec[-2] not in "UDJ":
        assert track.centreline[-1, 1] == pytest.approx(rise, abs=0.05)


def test_unknown_letter_and_overlap():
    with pytest.raises(ValueError, match=r"letter 'Q' at block 3.*S \(straight\)"):
        blocks("SSQ")
    with pytest.raises(ValueError, match=r"block 5 .* lies on block 1"):
        blocks("SLLLS")


def test_curvature_and_speed():
    half = (straight(200.0), arc(50.0, 180.0))
    track = lay("stadium", half + half, num_laps=1)
    bend = curvature(track)
    assert np.median(bend[220:330]) == pytest.approx(1 / 50, rel=0.02)
    assert bend[100] < 1e-3
    speed = speed_profile(track, lateral_acceleration=45.0, braking=10.0)
    assert speed[270] == pytest.approx(np.sqrt(45.0 * 50.0), rel=0.02)
    entry = 200
    before = speed[entry - 20]
    assert before <= np.sqrt(speed[entry] ** 2 + 2 * 10.0 * 20) + 0.1, "brakes in time"
    assert speed.max() <= 110.0


def test_racing_line_stays_on_the_road_and_bends_less():
    track = load_track("hillside")
    line = racing_line(track, margin_m=2.0)
    off = np.linalg.norm((line - track.centreline)[:, (0, 2)], axis=1)
    assert (off <= track.half_width - 2.0 + 0.01).all()
    assert np.sum(curvature(track, line=line) ** 2) < 0.65 * np.sum(curvature(track) ** 2)


def test_library_geometry_does_not_change_unnoticed():
    """Medals and golden physics belong to exactly these tracks."""
    digest = hashlib.sha256()
    for name in BUILTIN_TRACKS:
        track = load_track(name)
        for array in (track.centreline, track.half_width, track.surface, track.gates):
            digest.update(np.ascontiguousarray(array).tobytes())
    assert digest.hexdigest()[:16] == GOLDEN


GOLDEN = "63ae4f100bc87594"


@pytest.mark.parametrize("name", ["[b]Team map", "Kurve ü 曲", "a:b *?", "..", "x" * 100])
def test_names_of_real_maps_are_allowed(name: str) -> None:
    assert dataclasses.replace(ruler(), name=name).name == name


@pytest.mark.parametrize(
    "name", ["", 5, "a/b", "x/../../evil", "a\\b", "x" * 101, "曲" * 23, "\x1b]0;OWNED\x07", "a\nb", "a\0b", "\ud800"]
)
def test_names_that_would_leave_a_folder_or_a_terminal_s_line_are_refused(name: object) -> None:
    """曲 is %E6%9B%B2 in a file name: 23 of them are 207 letters."""
    with pytest.raises(ValueError, match=r"^name (must be|has 207)"):
        dataclasses.replace(ruler(), name=name)


def round_circuit(radius_m: float, *, num_laps: int = 1) -> Track:
    """A circle with a point for each metre."""
    turn = np.linspace(0.0, 2.0 * np.pi, int(2.0 * np.pi * radius_m), endpoint=False)
    line = np.stack([radius_m * np.sin(turn), 0.0 * turn, radius_m * np.cos(turn)], axis=1)
    return Track("round", line, half_width=8.0, wall_offset=4.0, is_circuit=True, num_laps=num_laps)


def test_a_track_whose_raster_or_zones_would_fill_the_memory_is_refused():
    """A circle of 1,011 m radius with walls 12 m beside its line is 2,046 m wide: 4.186M cells of 4.194M allowed."""
    assert round_circuit(1011.0, num_laps=31).num_points == 6352  # 31 * 6,352 = 196,912
    with pytest.raises(ValueError, match=r"^centreline spans 2,050 m"):
        round_circuit(1013.0)
    with pytest.raises(ValueError, match=r"^num_laps is 32 .* 203,264 m"):
        round_circuit(1011.0, num_laps=32)
    with pytest.raises(ValueError, match=r"^centreline must have at most 50,000 points, got 50,265"):
        round_circuit(8000.0)
