"""Laps that are written in another format and read again are the same bytes; what is damaged is refused by name."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from gymnasium import spaces

from tests.data.formats import cases
from tm_torchrl.commands.convert import convert, main
from tm_torchrl.data import DamagedFileError, DemonstrationFolder
from tm_torchrl.data.demonstrations.driven_again import driven_again
from tm_torchrl.tracks import load_track

FORMATS = {"minari": "minari", "parquet": "pyarrow"}


@pytest.fixture(params=FORMATS)
def kind(request: pytest.FixtureRequest) -> str:
    pytest.importorskip(FORMATS[request.param])
    return str(request.param)


@pytest.mark.parametrize(("image_size", "block"), [(8, 1), (None, 1), (8, 5)])
def test_there_and_back(kind: str, tmp_path: Path, image_size: int | None, block: int) -> None:
    laps = cases.write(tmp_path / "laps", image_size=image_size, block=block)
    convert(tmp_path / "laps", tmp_path / "there", to=kind, track=None)
    convert(tmp_path / "there", tmp_path / "back", to="laps", track=None)
    cases.assert_equal(DemonstrationFolder(tmp_path / "back"), laps)
    assert not list(tmp_path.glob("*.partial"))


def test_relative_paths(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    laps = cases.write(tmp_path / "laps")
    monkeypatch.chdir(tmp_path)
    convert(Path("laps"), Path("there"), to=kind, track=None)
    convert(Path("there"), Path("back"), to="laps", track=load_track("oval"))
    cases.assert_equal(DemonstrationFolder("back"), laps)
    with pytest.raises(ValueError, match="--track hillside: there says that its laps were driven on oval"):
        convert(Path("there"), Path("again"), to="laps", track=load_track("hillside"))


def test_a_folder_of_the_user_is_not_deleted(tmp_path: Path) -> None:
    cases.write(tmp_path / "laps")
    (tmp_path / "there.partial").mkdir()
    (tmp_path / "there.partial" / "thesis.tex").write_text("chapter 1")
    with pytest.raises(ValueError, match=r"there\.partial: exists"):
        convert(tmp_path / "laps", tmp_path / "there", to="parquet", track=None)
    assert (tmp_path / "there.partial" / "thesis.tex").exists()


def test_of_several_files(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    laps = cases.write(tmp_path / "laps")
    with mock.patch("tm_torchrl.data.formats.parquet_data.LAPS_OF_FILE", 2):
        convert(tmp_path / "laps", tmp_path / "there", to="parquet", track=None)
    assert len(list((tmp_path / "there" / "data").iterdir())) == 2
    convert(tmp_path / "there", tmp_path / "back", to="laps", track=None)
    cases.assert_equal(DemonstrationFolder(tmp_path / "back"), laps)


def test_any_damaged_byte_is_found_or_changes_nothing(kind: str, tmp_path: Path) -> None:
    laps = cases.write(tmp_path / "laps")
    convert(tmp_path / "laps", tmp_path / "there", to=kind, track=None)
    data = next(path for path in (tmp_path / "there" / "data").iterdir() if path.suffix != ".json")
    whole, random = data.read_bytes(), np.random.default_rng(0)
    num_found = 0
    for trial in range(40):
        place = int(random.integers(len(whole)))
        data.write_bytes(whole[:place] + bytes([whole[place] ^ 0x55]) + whole[place + 1 :])
        try:
            convert(tmp_path / "there", tmp_path / f"back{trial}", to="laps", track=None)
        except (DamagedFileError, ValueError):
            num_found += 1
            assert not (tmp_path / f"back{trial}").exists()
            continue
        cases.assert_equal(DemonstrationFolder(tmp_path / f"back{trial}"), laps)
    assert num_found > 5


def test_a_file_that_was_cut_short(kind: str, tmp_path: Path) -> None:
    cases.write(tmp_path / "laps")
    convert(tmp_path / "laps", tmp_path / "there", to=kind, track=None)
    data = next(path for path in (tmp_path / "there" / "data").iterdir() if path.suffix != ".json")
    data.write_bytes(data.read_bytes()[: data.stat().st_size // 2])
    with pytest.raises(DamagedFileError, match="there"):
        convert(tmp_path / "there", tmp_path / "back", to="laps", track=None)


def test_minari_never_makes_an_environment(tmp_path: Path) -> None:
    """Without its spaces Minari would make the environment that the file names, whose entry point is code."""
    pytest.importorskip("minari")
    cases.write(tmp_path / "laps")
    convert(tmp_path / "laps", tmp_path / "there", to="minari", track=None)
    path = tmp_path / "there" / "data" / "metadata.json"
    facts = json.loads(path.read_text())
    del facts["observation_space"]
    path.write_text(json.dumps({**facts, "env_spec": '{"entry_point": "os:abort"}'}))
    with pytest.raises(DamagedFileError, match="has no observation_space"):
        convert(tmp_path / "there", tmp_path / "back", to="laps", track=None)


def test_minari_of_somebody_else(tmp_path: Path) -> None:
    """Without our description the track must be given; the floats tell how many previous actions there are."""
    minari = pytest.importorskip("minari.dataset.minari_storage")

    def written(name: str, num_floats: int, actions: np.ndarray) -> Path:
        num = len(actions)
        path = tmp_path / name
        (path / "data").mkdir(parents=True)
        floats = spaces.Box(-np.inf, np.inf, (num_floats,), np.float32)
        data = minari.MinariStorage.new(path / "data", observation_space=floats, action_space=spaces.Discrete(13))
        episode = minari.EpisodeBuffer(
            observations=np.zeros((num + 1, num_floats), np.float32),
            actions=actions,
            rewards=np.zeros(num),
            terminations=np.arange(num) == num - 1,
            truncations=np.zeros(num, bool),
        )
        data.update_episodes([episode])
        return path

    path = written("good", 264, np.arange(12))
    with pytest.raises(ValueError, match="give --track"):
        convert(path, tmp_path / "back", to="laps", track=None)
    convert(path, tmp_path / "back", to="laps", track=load_track("oval"))
    found = DemonstrationFolder(tmp_path / "back")
    assert found.description.num_previous_actions == 25 and found.lap_time_s.tolist() == [pytest.approx(0.6)]
    assert found.rows("chosen", np.arange(12)).tolist() == list(range(12))
    with pytest.raises(ValueError, match="can only be cloned"):
        next(driven_again(None, found, [0]))
    with pytest.raises(ValueError, match="has observations of 100 floats"):
        convert(written("short", 100, np.arange(12)), tmp_path / "no", to="laps", track=load_track("oval"))
    with pytest.raises(DamagedFileError, match="action goes from 0 to 12; must be 0 to 11"):
        convert(written("wild", 184, np.arange(13)), tmp_path / "no", to="laps", track=load_track("oval"))
    assert not (tmp_path / "no").exists()


def test_parquet_of_somebody_else_and_mixed_files(tmp_path: Path) -> None:
    pa, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    (tmp_path / "other").mkdir()
    parquet.write_table(pa.table({"action_idx": [1, 2]}), tmp_path / "other" / "a.parquet")
    with pytest.raises(ValueError, match=r"a\.parquet: was not written by tm-torchrl convert"):
        convert(tmp_path / "other", tmp_path / "back", to="laps", track=load_track("oval"))
    for name, image_size in (("one", 8), ("two", None)):
        cases.write(tmp_path / name, image_size=image_size)
        convert(tmp_path / name, tmp_path / f"{name}-hub", to="parquet", track=None)
    (tmp_path / "two-hub/data/train-00000.parquet").rename(tmp_path / "one-hub/data/train-00001.parquet")
    with pytest.raises(ValueError, match=r"train-00001\.parquet: holds other laps than"):
        convert(tmp_path / "one-hub", tmp_path / "back", to="laps", track=None)


def test_parquet_whose_frames_are_missing(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    cases.write(tmp_path / "laps")
    convert(tmp_path / "laps", tmp_path / "there", to="parquet", track=None)
    path = tmp_path / "there" / "data" / "train-00000.parquet"
    table = parquet.read_table(path)
    parquet.write_table(table.filter(table["step"].to_numpy() != 3), path)
    with pytest.raises(DamagedFileError, match=r"lap 0: frames are missing"):
        convert(tmp_path / "there", tmp_path / "back", to="laps", track=None)


def test_what_is_no_data_set(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is no folder"):
        convert(tmp_path / "nowhere", tmp_path / "out", to="laps", track=None)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"no Minari data set, no \.parquet files and no manifest\.json"):
        convert(tmp_path / "empty", tmp_path / "out", to="laps", track=None)
    with pytest.raises(ValueError, match="is no folder of recorded laps"):
        convert(tmp_path / "empty", tmp_path / "out", to="parquet", track=None)
    cases.write(tmp_path / "laps")
    with pytest.raises(ValueError, match="give --to"):
        convert(tmp_path / "laps", tmp_path / "out", to="laps", track=None)
    with pytest.raises(ValueError, match="empty: exists"):
        convert(tmp_path / "laps", tmp_path / "empty", to="parquet", track=None)


def test_the_command_says_what_is_wrong_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["convert", str(tmp_path / "nowhere"), "--out", str(tmp_path / "out")])
    with pytest.raises(SystemExit, match=r"error: .*nowhere: is no folder"):
        main()


def test_a_package_that_is_not_installed_is_named_with_its_extra(tmp_path: Path, kind: str) -> None:
    cases.write(tmp_path / "laps")
    with (
        mock.patch.dict(sys.modules, {FORMATS[kind]: None, "minari.dataset.minari_storage": None, "pyarrow": None}),
        pytest.raises(ModuleNotFoundError, match=rf'pip install "tm_torchrl\[{kind}\]"'),
    ):
        convert(tmp_path / "laps", tmp_path / "there", to=kind, track=None)
    assert not (tmp_path / "there").exists()
