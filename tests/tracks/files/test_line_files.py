"""The community's files: round trips of points; replays and maps, read by a fake of the parser."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

from tests.conftest import Script
from tm_torchrl.tracks import from_centreline, load_track
from tm_torchrl.tracks.files.gbx_files import read_drive, read_map
from tm_torchrl.tracks.files.line_files import resampled, save_line
from tm_torchrl.tracks.zones import race_points


@pytest.mark.parametrize("name", ["hillside", "oval", "ring"])
def test_points_lie_half_a_metre_apart_over_the_whole_race(name: str, tmp_path: Path) -> None:
    track = load_track(name)
    points = np.load(save_line(track, tmp_path / "a.npy"))
    steps = np.linalg.norm(np.diff(points, axis=0), axis=1)
    assert steps.max() <= 0.5 + 3**0.5 * 1e-4  # both ends rounded to four decimals
    assert len(points) == pytest.approx(track.length / 0.5, abs=2)
    assert points[0] == pytest.approx(track.centreline[track.start], abs=1e-3)
    assert np.abs(points - race_points(track)).max() <= 0.00005001  # four decimals


def test_a_track_survives_a_round_trip_through_points(tmp_path: Path) -> None:
    track = load_track("hillside")
    again = from_centreline(save_line(track, tmp_path / "hillside.npy"), width=18.0)
    assert again.length == pytest.approx(track.length, rel=0.005)
    ours, theirs = race_points(track)[10:-10], race_points(again)
    apart = [np.linalg.norm(theirs - point, axis=1).min() for point in ours[::50]]
    assert max(apart) < 0.6  # bends are cut by the spacing of 1 m


def test_checkpoints_lie_where_the_line_passes_them() -> None:
    run = np.arange(0.0, 400.0, 0.5)
    line = np.stack([0 * run, 0 * run, run], axis=1)
    track = from_centreline(line, width=20.0, checkpoints=np.array([[4.0, 0.0, 300.0], [-8.0, 2.0, 100.0]]))
    assert track.centreline[track.checkpoints][:, 2] == pytest.approx([100.0, 300.0], abs=0.51)
    with pytest.raises(ValueError, match=r"checkpoints\[0\]=\[13\.0, 0\.0, 100\.0\]: .*13 m"):
        from_centreline(line, width=20.0, checkpoints=np.array([[13.0, 0.0, 100.0]]))
    assert len(from_centreline(line, width=20.0, checkpoints=np.zeros((0, 3))).checkpoints) == 0


def test_a_second_pass_is_a_checkpoint_too_and_crossing_roads_are_for_the_game() -> None:
    angle = np.arange(0.0, 2 * np.pi, 0.5 / 60)
    eight = np.stack([60 * np.sin(angle), 0 * angle + 5, 60 * np.sin(2 * angle)], axis=1)[5:-5]  # crosses in the middle
    place = np.array([[0.0, 5.0, 0.0]])
    with pytest.raises(ValueError, match="touch"):
        from_centreline(eight, width=10.0, checkpoints=place)
    track = from_centreline(eight, width=10.0, checkpoints=place, is_drivable=False)
    apart = np.linalg.norm(track.centreline[track.checkpoints] - place, axis=1)
    assert len(track.checkpoints) >= 1
    assert apart.max() < 12


def fake_parser(
    monkeypatch: pytest.MonkeyPatch,
    *,
    positions: np.ndarray,
    sample_ms: int | None,
    blocks: list[tuple[str, list[int]]],
) -> None:
    """A module with pygbx's interface: a slow ghost, a fast one, and a map inside the replay."""

    def ghost(time: int, offset: float) -> SimpleNamespace:
        records = [SimpleNamespace(position=SimpleNamespace(x=x + offset, y=y, z=z)) for x, y, z in positions]
        return SimpleNamespace(
            records=records, race_time=time, cp_times=[time // 2, time], num_respawns=0, sample_period=sample_ms
        )

    challenge = SimpleNamespace(
        map_name="A01-Race",
        environment="Stadium",
        blocks=[SimpleNamespace(name=name, position=SimpleNamespace(as_array=lambda at=at: at)) for name, at in blocks],
    )
    replay = SimpleNamespace(track=SimpleNamespace(get_classes_by_ids=lambda kinds: [challenge]))

    class Gbx:
        def __init__(self, path: str) -> None:
            if Path(path).read_bytes()[:3] != b"GBX":
                raise KeyError("magic")

        def get_classes_by_ids(self, kinds: list[str]) -> list[SimpleNamespace]:
            found = {"ghost": [ghost(9000, 5.0), ghost(1000, 0.0)], "replay": [replay]}
            return [each for kind in kinds for each in found.get(kind, [])]

    module = ModuleType("pygbx")
    names = SimpleNamespace(CTN_GHOST="ghost", CHALLENGE="challenge", CHALLENGE_OLD="old", REPLAY_RECORD="replay")
    module.Gbx, module.GbxType = Gbx, names  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "pygbx", module)


def test_the_fastest_drive_is_read_up_to_its_finish(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    positions = np.stack([np.zeros(40), np.zeros(40), np.arange(40.0) * 3], axis=1)
    (tmp_path / "a.Replay.Gbx").write_bytes(b"GBX")
    for sample_ms, kept in ((50, 21), (100, 11), (None, 11)):  # 1 s: at 0, 50, ..., 1000 ms
        fake_parser(monkeypatch, positions=positions, sample_ms=sample_ms, blocks=[])
        drive = read_drive(tmp_path / "a.Replay.Gbx")
        assert drive.race_time_ms == 1000
        assert len(drive.positions) == kept
        assert drive.positions[-1].tolist() == [0.0, 0.0, 3.0 * (kept - 1)]
    line = resampled(drive.positions)
    assert np.diff(line[:, 2]) == pytest.approx(np.full(60, 0.5))


def test_checkpoints_of_a_map_are_block_centres(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "a.Replay.Gbx").write_bytes(b"GBX")
    blocks = [
        ("StadiumRoadMain", [1, 1, 1]),
        ("StadiumRoadMainStartLine", [2, 1, 2]),
        ("StadiumRoadMainCheckpoint", [3, 1, 4]),
        ("StadiumRoadMainCheckpointLeft", [3, 1, 5]),
        ("StadiumPlatformCheckpointHigh", [0, 2, 0]),
    ]
    fake_parser(monkeypatch, positions=np.zeros((5, 3)), sample_ms=100, blocks=blocks)
    facts = read_map(tmp_path / "a.Replay.Gbx")
    assert (facts.name, facts.environment) == ("A01-Race", "Stadium")
    # x * 32 + 16, y * 8 (raised by 5/8 and 7/8 of 8 m), z * 32 + 16
    assert facts.checkpoints.tolist() == [[112.0, 8.0, 144.0], [112.0, 13.0, 176.0], [16.0, 23.0, 16.0]]


def test_other_files_and_a_missing_parser_are_explained(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"absent\.Gbx is not a file"):
        read_drive(tmp_path / "absent.Gbx")
    (tmp_path / "a.Gbx").write_bytes(b"PNG")
    monkeypatch.setitem(sys.modules, "pygbx", None)
    with pytest.raises(ImportError, match=r"pip install 'tm_torchrl\[gbx\]'"):
        read_map(tmp_path / "a.Gbx")
    fake_parser(monkeypatch, positions=np.zeros((5, 3)), sample_ms=100, blocks=[])
    with pytest.raises(ValueError, match=r"a\.Gbx .*KeyError"):
        read_map(tmp_path / "a.Gbx")


def test_the_script_converts_both_ways(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: Script) -> None:
    monkeypatch.chdir(tmp_path)
    name = "scripts/import_track.py"
    assert "wrote" in script(name, "oval", "--out", "oval_0.5m.npy").stdout
    done = script(name, "oval_0.5m.npy", "--out", "oval.npz", "--width", "18", "--checkpoints", "2", "--game-only")
    assert "2 checkpoints and the finish, 18 m wide" in done.stdout, done.stderr
    assert load_track(tmp_path / "oval.npz").name == "oval_0.5m"
    for words, text in (
        (("oval", "--out", "a.txt"), "--out a.txt: must end in .npz"),
        (("oval", "--out", "a.npz"), "give a .npy of points or a .Replay.Gbx"),
        (("absent.npy", "--out", "a.npz"), "absent.npy"),
        (("ovel", "--out", "a.npy"), "did you mean oval"),
    ):
        done = script(name, *words)
        assert done.returncode == 1 and text in done.stderr


def test_the_real_parser_has_what_is_read_of_it(tmp_path: Path) -> None:
    """The other tests use a fake of it."""
    pygbx = pytest.importorskip("pygbx")
    assert callable(pygbx.Gbx.get_classes_by_ids)
    for kind in ("CTN_GHOST", "CHALLENGE", "CHALLENGE_OLD", "REPLAY_RECORD"):
        assert isinstance(getattr(pygbx.GbxType, kind), int)
    ghost, challenge, replay = pygbx.CGameCtnGhost(0), pygbx.CGameChallenge(0), pygbx.CGameReplayRecord(0)
    assert (ghost.records, ghost.race_time, ghost.cp_times, ghost.num_respawns) == ([], 0, [], 0)
    assert (ghost.sample_period, challenge.blocks, replay.track) == (None, [], None)
    assert (challenge.map_name, challenge.environment) == (None, None)
    block = pygbx.MapBlock()
    assert (block.name, block.position.as_array()) == (None, [0, 0, 0])
    sample = pygbx.GhostSampleRecord(pygbx.Vector3(1, 2, 3), 0, 0, 0, 0, 0, 0)
    assert (sample.position.x, sample.position.y, sample.position.z) == (1, 2, 3)
    broken = tmp_path / "a.Replay.Gbx"
    broken.write_bytes(b"GBX\x06\x00BUCR" + bytes(40))
    with pytest.raises(ValueError, match=r"a\.Replay\.Gbx"):
        read_drive(broken)
