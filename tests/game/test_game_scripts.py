"""Scripts around the game say what is broken in a line, and leave what works alone."""

from __future__ import annotations

import os
import pathlib
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tm_torchrl.game.doctor.installation import check_tminterface, documents_folder, installation_checks
from tm_torchrl.game.plugin import install as install_module
from tm_torchrl.game.plugin.install import install_plugin, plugin_folders

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"


def words_of(monkeypatch: pytest.MonkeyPatch, name: str, *arguments: object) -> str:
    """What a script says when it refuses."""
    monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(SCRIPTS / name), run_name="__main__")
    return str(ended.value.code)


def test_broken_laps_are_told_in_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lap = tmp_path / "oval_28500.npz"
    np.savez(lap, rows=np.zeros(1))
    assert words_of(monkeypatch, "replay_inputs.py", lap) == f"error: {lap} is no kept lap: there are no actions in it"
    lap.write_bytes(lap.read_bytes()[:-30])
    assert words_of(monkeypatch, "replay_inputs.py", lap).startswith(f"error: {lap} is no kept lap, or a damaged one")
    with lap.open("wb") as file:
        np.save(file, np.zeros(3))
    assert words_of(monkeypatch, "replay_inputs.py", lap).startswith(f"error: {lap} is no kept lap, or a damaged one")


@pytest.mark.parametrize("port", [0, -1, 70000])
def test_ports_that_are_none_are_refused(port: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / "a.inputs"
    script.write_text("0 press up\n")
    words = words_of(monkeypatch, "replay_inputs.py", script, "--track", "oval", "--port", port)
    assert words == f"error: --port {port}: 1 to 65535 wanted"


def test_points_are_not_turned_into_points(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "a.npy"
    np.save(source, np.zeros((9, 3)))
    words = words_of(monkeypatch, "import_track.py", source, "--out", tmp_path / "b.npy")
    assert words == f"error: {source} holds points already; to write a .npy, give a track or a .Replay.Gbx"


def test_a_channel_that_is_none_is_refused_by_the_doctor(monkeypatch: pytest.MonkeyPatch) -> None:
    assert words_of(monkeypatch, "doctor.py", "--channel", "a/b").startswith("error: channel='a/b': ")


def test_a_doctor_whose_reader_has_left_ends_in_order() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        command = [sys.executable, str(SCRIPTS / "doctor.py"), "--failures"]
        done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True, check=False)
    finally:
        os.close(writer)
    assert (done.returncode, done.stderr) == (0, "")


def test_where_the_system_knows_no_home_the_present_folder_is_looked_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(pathlib.Path, "home", home)
    monkeypatch.chdir(tmp_path)
    for name in ("WINEPREFIX", "OneDrive"):
        monkeypatch.delenv(name, raising=False)
    assert plugin_folders() == []
    assert documents_folder() == tmp_path / "Documents"


def test_a_loader_that_is_not_there_does_not_search_the_present_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "TMInterface.dll").write_bytes(
        b"ProductVersion\0".decode().encode("utf-16-le") + "2.1.0\0".encode("utf-16-le")
    )
    assert "2.1" in check_tminterface([tmp_path]).text
    found = dict(installation_checks(documents=tmp_path / "Documents", loader="TMLoader"))["tminterface"]()
    assert found.text == f"no TMInterface.dll was found (searched {tmp_path / 'Documents' / 'TMInterface'})"


def test_a_plugin_that_cannot_be_written_leaves_the_community_s(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "Python_Link.as").write_text("theirs")
    monkeypatch.setattr(install_module, "PLUGIN", tmp_path / "missing" / "tm_torchrl_link.as")
    with pytest.raises(FileNotFoundError):
        install_plugin(tmp_path, replace_community=True)
    assert [path.name for path in tmp_path.iterdir()] == ["Python_Link.as"]
