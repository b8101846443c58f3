"""Folders of laps: what is written is read; what is damaged, foreign or of another kind is refused by name."""

from __future__ import annotations

import json
import random
from pathlib import Path
from unittest import mock

import numpy as np
import pytest

from tests.data.demonstrations import made_laps
from tests.mutated_bytes import mutated
from tm_torchrl.data.demonstrations.description import MANIFEST
from tm_torchrl.data.demonstrations.folder import DemonstrationFolder
from tm_torchrl.data.demonstrations.writer import DemonstrationWriter
from tm_torchrl.data.saving.atomic_files import DamagedFileError, SavingError, file_checksum, manifest_checksum
from tm_torchrl.tracks import load_track
from tm_torchrl.tracks.track_hash import track_hash


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two parts: laps of 3 and 4 frames, and of 5."""
    made_laps.write(tmp_path / "laps", [[3, 4], [5]])
    return tmp_path / "laps"


def test_what_is_written_is_read_in_any_order(folder: Path) -> None:
    found = DemonstrationFolder(folder)
    assert (len(found), found.num_laps, found.num_attempts) == (12, 3, 2 + 1 + 1 + 1)
    assert found.lap_frames.tolist() == [3, 4, 5]
    assert found.lap_time_s.tolist() == [3.0, 4.0, 5.0]
    assert found.lap_start[:, 0].tolist() == [0.0, 3.0, 7.0]
    assert found.lap_zone.tolist() == [0, 3, 7]
    frames = np.array([11, 0, 7, 6])
    assert found.rows("observation", frames)[:, 100].tolist() == [11.0, 0.0, 7.0, 6.0]
    assert found.rows("action", frames).tolist() == [11, 0, 7, 6]
    assert found.rows("chosen", frames).tolist() == [0, 1, 8, 7]


def test_blocks_and_images_are_read(tmp_path: Path) -> None:
    made_laps.write(tmp_path / "laps", [[20]], action_block=5, image_size=4)
    found = DemonstrationFolder(tmp_path / "laps")
    assert found.rows("action", np.array([10])).tolist() == [[10, 11, 0, 1, 2]]
    assert found.rows("pixels", np.array([10, 3]))[:, 0, 2, 2].tolist() == [10, 3]


def test_recording_goes_on_where_it_was(folder: Path) -> None:
    writer = DemonstrationWriter(folder, made_laps.description())
    assert (writer.num_laps, writer.num_frames, writer.num_attempts) == (3, 12, 5)
    writer.add([made_laps.lap(12, 2)], num_attempts=1)
    assert DemonstrationFolder(folder).lap_frames.tolist() == [3, 4, 5, 2]


@pytest.mark.parametrize("failing", ["flush_file", "write_manifest"])
def test_what_was_complete_survives_a_failure(folder: Path, failing: str) -> None:
    writer = DemonstrationWriter(folder, made_laps.description())
    path = f"tm_torchrl.data.demonstrations.writer.{failing}"
    with mock.patch(path, side_effect=OSError(28, "No space left on device")), pytest.raises(SavingError, match="laps"):
        writer.add([made_laps.lap(12, 2)], num_attempts=1)
    assert DemonstrationFolder(folder).lap_frames.tolist() == [3, 4, 5]
    writer.add([made_laps.lap(12, 6)], num_attempts=1)  # over what was left behind
    assert DemonstrationFolder(folder).lap_frames.tolist() == [3, 4, 5, 6]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"driver": "somebody"}, "driver='nobody', not 'somebody'"),
        ({"settings": {"starts": "line", "seed": 1}}, r"settings.seed=0, not 1"),
        ({"image_size": 64}, "image_size=None, not 64"),
    ],
)
def test_laps_of_another_kind_are_not_added(folder: Path, changes: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DemonstrationWriter(folder, made_laps.description(**changes))


def test_other_folders_are_not_written_to(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("chapter 1")
    with pytest.raises(ValueError, match=r"out=.*no folder of demonstrations"):
        DemonstrationWriter(tmp_path, made_laps.description())


def test_a_first_part_that_was_broken_off_is_written_anew(tmp_path: Path) -> None:
    """The process was killed, or the disk was full, before there was a list of parts."""
    (tmp_path / "part_00000").mkdir()
    for name in ("part_00000/observation.npy", f"{MANIFEST}.partial"):
        (tmp_path / name).write_bytes(b"half")
    made_laps.write(tmp_path, [[3]])
    assert len(DemonstrationFolder(tmp_path)) == 3


def test_missing_folders_say_how_to_record(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"data=.*does not exist.*tm-torchrl record"):
        DemonstrationFolder(tmp_path / "nothing")
    with pytest.raises(ValueError, match=rf"data=.*has no {MANIFEST}"):
        DemonstrationFolder(tmp_path)


def test_no_laps(tmp_path: Path) -> None:
    DemonstrationWriter(tmp_path / "laps", made_laps.description()).add([], num_attempts=7)
    with pytest.raises(ValueError, match="holds no laps; all 7 attempts failed"):
        DemonstrationFolder(tmp_path / "laps")


def damaged(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (damaged, "observation.npy does not match its checksum"),
        (Path.unlink, "observation.npy is missing"),
        (lambda path: path.write_bytes(path.read_bytes()[:-736]), "observation.npy has .* bytes instead of"),
    ],
    ids=["changed", "missing", "cut short"],
)
def test_damaged_files_are_named(folder: Path, damage, message: str) -> None:
    damage(folder / "part_00001" / "observation.npy")
    with pytest.raises(DamagedFileError, match=message):
        DemonstrationFolder(folder)


@pytest.mark.parametrize("value", [-1.0, np.nan, 1001.0])
def test_regret_that_cannot_be_is_refused(tmp_path: Path, value: float) -> None:
    made = made_laps.replaced(made_laps.lap(0, 3), regret=np.full((3, 12), value))
    DemonstrationWriter(tmp_path / "laps", made_laps.description(weighs_actions=True)).add([made], num_attempts=1)
    with pytest.raises(DamagedFileError, match="regret that is not between 0 and 1000"):
        DemonstrationFolder(tmp_path / "laps")


def test_laps_from_before_drivers_weighed_actions_are_read_and_added_to(folder: Path) -> None:
    rewrite(folder, lambda m: m["description"].pop("weighs_actions"))
    assert not DemonstrationFolder(folder).description.weighs_actions
    writer = DemonstrationWriter(folder, made_laps.description())
    writer.add([made_laps.lap(12, 2)], num_attempts=1)
    assert len(DemonstrationFolder(folder)) == 14


def rewrite(folder: Path, change) -> None:
    """Change a list of parts, with a valid checksum, as somebody else's program might."""
    manifest = json.loads((folder / MANIFEST).read_text())
    manifest.pop("crc32")
    change(manifest)
    (folder / MANIFEST).write_text(json.dumps({**manifest, "crc32": manifest_checksum(manifest)}))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.update(version=2), "version 2 of the format"),
        (lambda m: m["description"].pop("track_hash"), "its entries must be .*track_hash"),
        (lambda m: m["description"].update(track=3), "track=3"),
        (lambda m: m["description"]["floats"].pop(), "floats: their layout"),
        (lambda m: m["description"].update(num_previous_actions=0), "num_previous_actions=0"),
        (lambda m: m["description"].update(action_block=3), "action_block=3"),
        (lambda m: m["description"].update(weighs_actions=1), "weighs_actions=1"),
        (lambda m: m["description"].update(weighs_actions=True), "lists no regret.npy"),
        (lambda m: m["description"].update(weighs_actions=True, action_block=5), "weighs_actions=True: only single"),
        (lambda m: m["parts"][0].update(folder="../../elsewhere"), "folder='../../elsewhere'"),
        (lambda m: m["parts"][0].update(laps=-1), "laps='-1'"),
        (lambda m: m["parts"][0].update(laps=10**12), "lap_frames.npy holds"),
        (lambda m: m["parts"][0]["files"].pop("action"), "lists no action.npy"),
        (lambda m: m.update(parts={}), "parts="),
        (lambda m: m["parts"][0]["files"].update(action=None), "bytes="),
    ],
)
def test_foreign_descriptions_are_refused_by_name(folder: Path, change, message: str) -> None:
    rewrite(folder, change)
    with pytest.raises((ValueError, DamagedFileError), match=message) as caught:
        DemonstrationFolder(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["lap_frames", "action"])
def test_wrong_contents_with_right_checksums_are_refused(folder: Path, name: str) -> None:
    """Lengths that do not add up, and actions that there are not."""
    wrong = {"lap_frames": np.array([3, 5]), "action": np.full(7, 12, np.uint8)}[name]
    path = folder / "part_00000" / f"{name}.npy"
    np.save(path, wrong)
    facts = {"bytes": path.stat().st_size, "crc32": file_checksum(path)}
    rewrite(folder, lambda manifest: manifest["parts"][0]["files"].update({name: facts}))
    with pytest.raises(DamagedFileError, match="part_00000"):
        DemonstrationFolder(folder)


def test_nothing_is_unpickled(folder: Path) -> None:
    path = folder / "part_00000" / "action.npy"
    np.save(path, np.array([{"a": 1}] * 7, object), allow_pickle=True)
    facts = {"bytes": path.stat().st_size, "crc32": file_checksum(path)}
    rewrite(folder, lambda manifest: manifest["parts"][0]["files"].update(action=facts))
    with pytest.raises(DamagedFileError, match=r"action\.npy is no array of numbers"):
        DemonstrationFolder(folder)


def test_a_damaged_list_of_parts_never_fails_otherwise(folder: Path) -> None:
    generator, valid = random.Random(0), (folder / MANIFEST).read_bytes()
    num_refused = 0
    for _ in range(300):
        (folder / MANIFEST).write_bytes(mutated(valid, generator))
        try:
            DemonstrationFolder(folder)
        except (ValueError, DamagedFileError):
            num_refused += 1
    assert num_refused > 200


def test_the_hash_of_a_track_does_not_change_unnoticed() -> None:
    """Recorded laps belong to exactly this road."""
    assert track_hash(load_track("hillside")) == "70cc05bec62be808"
