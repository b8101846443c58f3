"""Scripts around the game explain errors in one line, and change nothing that works."""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import Script
from tm_torchrl.game.doctor.installation import check_tminterface, documents_folder, installation_checks
from tm_torchrl.game.plugin import install as install_module
from tm_torchrl.game.plugin.install import install_plugin, plugin_folders

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"


@pytest.fixture
def error_of(script: Script) -> Callable[..., str]:
    """The message with which a script exits."""
    return lambda name, *words: script(f"scripts/{name}", *words).stderr.strip()


def test_broken_laps_are_reported_in_one_line(tmp_path: Path, error_of: Callable[..., str]) -> None:
    lap = tmp_path / "oval_28500.npz"
    np.savez(lap, rows=np.zeros(1))
    assert error_of("replay_inputs.py", lap) == f"error: {lap} is no kept lap: there are no actions in it"
    lap.write_bytes(lap.read_bytes()[:-30])
    assert error_of("replay_inputs.py", lap).startswith(f"error: {lap} is no kept lap, or a damaged one")
    with lap.open("wb") as file:
        np.save(file, np.zeros(3))
    assert error_of("replay_inputs.py", lap).startswith(f"error: {lap} is no kept lap, or a damaged one")


@pytest.mark.parametrize("port", [0, -1, 70000])
def test_invalid_ports_are_refused(port: int, tmp_path: Path, error_of: Callable[..., str]) -> None:
    script = tmp_path / "a.inputs"
    script.write_text("0 press up\n")
    words = error_of("replay_inputs.py", script, "--track", "oval", "--port", port)
    assert words == f"error: --port {port}: must be between 1 and 65535"


def test_points_are_not_converted_to_points(tmp_path: Path, error_of: Callable[..., str]) -> None:
    source = tmp_path / "a.npy"
    np.save(source, np.zeros((9, 3)))
    words = error_of("import_track.py", source, "--out", tmp_path / "b.npy")
    assert words == f"error: {source} holds points already; to write a .npy, give a track or a .Replay.Gbx"


def test_an_invalid_channel_is_refused_by_the_doctor(error_of: Callable[..., str]) -> None:
    assert error_of("doctor.py", "--channel", "a/b").startswith("error: channel='a/b': ")


def test_the_doctor_exits_normally_if_its_reader_closes_the_pipe() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        command = [sys.executable, str(SCRIPTS / "doctor.py"), "--failures"]
        done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True, check=False)
    finally:
        os.close(writer)
    assert (done.returncode, done.stderr) == (0, "")


def test_without_a_home_folder_the_present_folder_is_searched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(pathlib.Path, "home", home)
    monkeypatch.chdir(tmp_path)
    for name in ("WINEPREFIX", "OneDrive"):
        monkeypatch.delenv(name, raising=False)
    assert plugin_folders() == []
    assert documents_folder() == tmp_path / "Documents"


def test_a_missing_loader_does_not_search_the_present_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "TMInterface.dll").write_bytes(
        b"ProductVersion\0".decode().encode("utf-16-le") + "2.1.0\0".encode("utf-16-le")
    )
    assert "2.1" in check_tminterface([tmp_path]).text
    found = dict(installation_checks(documents=tmp_path / "Documents", loader="TMLoader"))["tminterface"]()
    assert found.text == f"no TMInterface.dll was found (searched {tmp_path / 'Documents' / 'TMInterface'})"


def test_a_failed_installation_keeps_the_community_s_plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "Python_Link.as").write_text("theirs")
    monkeypatch.setattr(install_module, "PLUGIN", tmp_path / "missing" / "tm_torchrl_link.as")
    with pytest.raises(FileNotFoundError):
        install_plugin(tmp_path, replace_community=True)
    assert [path.name for path in tmp_path.iterdir()] == ["Python_Link.as"]
