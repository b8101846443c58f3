"""One test for each kind of defect that fuzzing found in the readers of track files."""

from __future__ import annotations

import io
import struct
import sys
import tracemalloc
import zipfile
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tm_torchrl.tracks import Track, from_centreline
from tm_torchrl.tracks.files.gbx_files import read_drive, read_map
from tm_torchrl.tracks.files.line_files import resampled

RUN = np.arange(40.0)
LINE = np.stack([0 * RUN, 0 * RUN, RUN], axis=1)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return Track("ruler", LINE, start=5, finish=35).save(tmp_path / "ruler.npz")


def with_member(path: Path, name: str, content: bytes, *, method: int = zipfile.ZIP_STORED) -> None:
    """Replace one array of the file by other bytes."""
    with zipfile.ZipFile(path) as archive:
        members = {member: archive.read(member) for member in archive.namelist()}
    with zipfile.ZipFile(path, "w", method) as archive:
        for member, old in {**members, f"{name}.npy": content}.items():
            archive.writestr(member, old)


def npy(array: Any) -> bytes:
    content = io.BytesIO()
    np.save(content, np.asarray(array), allow_pickle=True)
    return content.getvalue()


def headed(header: str, content: bytes = b"") -> bytes:
    """A .npy file with a given header."""
    return b"\x93NUMPY\1\0" + struct.pack("<H", len(header)) + header.encode() + content


def test_a_deflated_array_that_cannot_be_unpacked(path: Path) -> None:
    content = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        at = archive.getinfo("centreline.npy").header_offset + 30 + len("centreline.npy") + 20  # 20 of its local extras
    content[at : at + 8] = b"\xff" * 8
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"ruler\.npz.* is damaged \("):
        Track.load(path)


@pytest.mark.parametrize(
    ("header", "words"),
    [
        ("((((", "TokenError|SyntaxError|ValueError"),
        ("{'descr': (), 'fortran_order': False, 'shape': (3,), }\n", "IndexError|ValueError"),
        ("{'descr': '|O', 'fortran_order': False, 'shape': (1,), }\n", "dtype object"),
        ("{'descr': '<f8', 'fortran_order': False, 'shape': (-3,), }\n", r"float64 \[-3\], but 24 bytes"),
        ("{'descr': '<f8', 'fortran_order': False, 'shape': (4,), }\n", r"float64 \[4\], but 24 bytes"),
        ("{'descr': '<f8', 'fortran_order': False, 'shape': (3, True), }\n", r"float64 \[3, True\], but 24 bytes"),
    ],
)
def test_an_invalid_header(path: Path, header: str, words: str) -> None:
    with_member(path, "bank", headed(header, bytes(24)))
    with pytest.raises(ValueError, match=rf"ruler\.npz.*bank\.npy.*({words})"):
        Track.load(path)


def test_a_header_that_claims_gigabytes_takes_no_memory(path: Path, tmp_path: Path) -> None:
    # 2^27 points of 24 bytes would be 3 GiB.
    lying = headed("{'descr': '<f8', 'fortran_order': False, 'shape': (134217728, 3), }\n", bytes(240))
    with_member(path, "centreline", lying)
    (tmp_path / "line.npy").write_bytes(lying)
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=r"centreline\.npy.*float64 \[134217728, 3\], but 240 bytes"):
            Track.load(path)
        with pytest.raises(ValueError, match=r"line\.npy.*float64 \[134217728, 3\]"):
            from_centreline(tmp_path / "line.npy", width=8.0)
        assert tracemalloc.get_traced_memory()[1] < 2**22
    finally:
        tracemalloc.stop()


def test_a_small_file_with_a_huge_array(path: Path) -> None:
    with_member(path, "bank", npy(np.zeros(2**23 + 1)), method=zipfile.ZIP_DEFLATED)  # 8 * (2^23 + 1) + 128
    assert path.stat().st_size < 2**17
    with pytest.raises(ValueError, match=r"bank\.npy .*67,109,000 bytes"):
        Track.load(path)


def test_a_compression_method_whose_output_is_not_limited(path: Path) -> None:
    with_member(path, "bank", npy(0.0), method=zipfile.ZIP_BZIP2)
    with pytest.raises(ValueError, match=r"ruler\.npz.*npy: compression method 12"):
        Track.load(path)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("start", np.inf, r"start is float64 \[\]"),
        ("start", 5.7, r"start is float64 \[\]"),
        ("start", "5", "start is <U1"),
        ("num_laps", 1 + 0j, "num_laps.*complex128"),
        ("finish", np.datetime64("2020-01-01"), "finish.*datetime64"),
        ("name", b"ruler", r"name.*\|S5"),
        ("name", 5, r"name is int64 \[\]"),
        ("is_circuit", "no", r"is_circuit is <U2 \[\]"),
        ("name", np.zeros((2, 2), "<U3"), r"name is <U3 \[2, 2\]"),
    ],
)
def test_a_single_value_of_another_type(path: Path, name: str, value: Any, words: str) -> None:
    with_member(path, name, npy(value))
    with pytest.raises(ValueError, match=rf"ruler\.npz.*{words}"):
        Track.load(path)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("centreline", np.zeros((3, 3)), "20 points"),
        ("centreline", LINE * 1e300, r"3\.9e\+301 m"),
        ("centreline", LINE.astype("<U9"), "numbers"),
        ("checkpoints", np.array([np.nan]), "centreline indices"),
        ("checkpoints", np.array([1e300]), r"0\.\.39"),
        ("half_width", np.array("wide"), "'wide'"),
    ],
)
def test_arrays_that_are_not_a_track_name_their_file_too(path: Path, name: str, value: Any, words: str) -> None:
    with_member(path, name, npy(value))
    with pytest.raises(ValueError, match=rf"ruler\.npz.*: {name} .*{words}"):
        Track.load(path)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("num_laps", np.inf, "inf"),
        ("start", None, "None"),
        ("finish", [1, 2], r"\[1, 2\]"),
        ("wall_offset", "far", "'far'"),
        ("surface", [[16], [16, 16]], "numbers"),
    ],
)
def test_arguments_of_another_type_are_named(name: str, value: Any, words: str) -> None:
    with pytest.raises(ValueError, match=f"^{name} must be .*{words}"):
        Track("ruler", LINE, **{"start": 5, "finish": 35, name: value})


def test_a_line_that_turns_back_on_itself_has_no_direction() -> None:
    there = np.arange(30.0)
    run = np.concatenate([there, there[-2::-1]])
    with pytest.raises(ValueError, match=r"centreline .* point 29"):
        Track("fold", np.stack([0 * run, 0 * run, run], axis=1))
    run = np.concatenate([there, there[::-1] + 0.5])  # no point twice at the turn, but zones are smoothed over 5 m
    run[30:] -= 0.5 - 0.1
    line = np.stack([0 * run, 0 * run, run], axis=1)
    line[30:, 0] = 0.9
    with pytest.raises(ValueError, match="track 'fold'"):
        Track("fold", line).zones  # noqa: B018


@pytest.mark.parametrize("is_circuit", [False, True])
def test_a_line_that_stands_still(is_circuit: bool) -> None:
    with pytest.raises(ValueError, match=r"line is 0\.0 m long"):
        from_centreline(np.ones((20, 3)), width=8.0, is_circuit=is_circuit)


def test_a_line_far_away_is_refused_before_it_overflows() -> None:
    with pytest.raises(ValueError, match=r"line reaches 3\.9e\+201 m"):
        from_centreline(LINE * 1e200, width=8.0)


def test_a_track_file_is_not_a_line(path: Path) -> None:
    with pytest.raises(ValueError, match=r"line='.*ruler\.npz'"):
        from_centreline(path, width=8.0)


def test_a_drive_with_holes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.Gbx").write_bytes(b"GBX")
    module = ModuleType("pygbx")
    module.GbxType = SimpleNamespace(CTN_GHOST=1, CHALLENGE=2, CHALLENGE_OLD=3, REPLAY_RECORD=4)  # type: ignore[attr-defined]

    def holding(thing: Any) -> None:
        module.Gbx = lambda path: SimpleNamespace(get_classes_by_ids=lambda kinds: [thing])  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "pygbx", module)

    facts = {"race_time": 100, "cp_times": [], "num_respawns": 0, "sample_period": 100}
    holding(SimpleNamespace(records=[SimpleNamespace(position=None)], **facts))
    with pytest.raises(ValueError, match=r"a\.Gbx .*AttributeError"):
        read_drive(tmp_path / "a.Gbx")
    nowhere = SimpleNamespace(position=SimpleNamespace(x=float("nan"), y=0.0, z=0.0))
    holding(SimpleNamespace(records=[nowhere, nowhere], **facts))
    with pytest.raises(ValueError, match=r"a\.Gbx is damaged: its positions"):
        read_drive(tmp_path / "a.Gbx")
    holding(SimpleNamespace(blocks=None, map_name="A01", environment="Stadium"))
    with pytest.raises(ValueError, match=r"a\.Gbx .*TypeError"):
        read_map(tmp_path / "a.Gbx")


@pytest.mark.parametrize(
    ("points", "words"),
    [
        (np.array([[0.0, 0.0, 0.0], [0.0, 0.0, np.inf]]), r"points: .*got 2\) and all within"),
        (np.zeros((0, 3)), r"points: .*got 0\)"),
        (np.tile([[0.0, 0.0, 0.0], [9e5, 0.0, 0.0]], (3, 1)), r"points: 4\.5e\+06 m"),  # 5 * 9e5
    ],
)
def test_points_that_are_not_a_drive(points: np.ndarray, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        resampled(points)
