"""The doctor's checks find what is broken, and say how to fix it."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import Script
from tests.game.ways import served, served1
from tm_torchrl.game import TMInterface1Client, TMInterface2Client
from tm_torchrl.game.doctor.check import CheckResult, Level, exit_code, run_checks, verdict
from tm_torchrl.game.doctor.connection import GameChecks, check_port, check_port_is_free
from tm_torchrl.game.doctor.failures import FAILURES
from tm_torchrl.game.doctor.installation import (
    check_game_folder,
    check_loader,
    check_map,
    check_plugin,
    check_tminterface,
    documents_folder,
    installation_checks,
)
from tm_torchrl.game.doctor.machine import (
    EXTRA_USES,
    check_accelerator,
    check_display,
    check_extra,
    check_python,
    check_torch,
    check_torchrl,
    check_warp,
    install_all,
    machine_checks,
)
from tm_torchrl.game.instances.ports import free_port
from tm_torchrl.game.plugin.install import install_plugin
from tm_torchrl.lazy import EXTRAS
from tm_torchrl.tracks import load_track


def test_problems_come_with_a_fix() -> None:
    with pytest.raises(ValueError, match="fix="):
        CheckResult("a", Level.WARN, "odd")
    assert str(CheckResult("a", Level.OK, "fine")) == "ok    a: fine"
    results = run_checks([("a", lambda: CheckResult("a", Level.WARN, "odd", "look")), ("b", lambda: [][0])])
    assert [found.level for found in results] == [Level.WARN, Level.FAIL]
    assert "IndexError" in results[1].text
    assert [exit_code(results[:1]), exit_code(results)] == [0, 1]
    assert [verdict(results[:1]), verdict(results), verdict([])] == ["Ready, apart from: a.", "Not ready: b.", "Ready."]


def test_a_missing_extra_is_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    assert check_extra("report") == CheckResult("report", Level.OK, "figures and videos")
    monkeypatch.setitem(EXTRAS, "not_there", "report")
    found = check_extra("report")
    assert (found.level, found.fix) == (Level.NOTE, 'pip install "tm_torchrl[report]"')
    assert "not_there not installed" in found.text


def test_extras_are_checked() -> None:
    assert set(EXTRA_USES) == set(EXTRAS.values()) - {"vision", "minari", "parquet", "onnx"}  # for single features
    assert set(EXTRA_USES) <= {name for name, _ in machine_checks()}


def test_outside_a_checkout_the_fix_is_to_install_the_package(tmp_path: Path) -> None:
    assert "tm_torchrl[all]" in install_all(tmp_path)
    (tmp_path / "pyproject.toml").touch()
    assert f"in {tmp_path}" in install_all(tmp_path)


def test_warp_says_nothing_above_the_checks() -> None:
    code = "from tm_torchrl.game.doctor.machine import check_warp; check_warp()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout + done.stderr == ""


def test_every_failure_has_a_cause_and_a_fix() -> None:
    for failure in FAILURES.values():
        assert min(map(len, (failure.symptom, failure.cause, failure.fix))) > 15
        assert str(failure).count("\n  because ") == str(failure).count("\n  -> ") == 1


@pytest.mark.parametrize(
    ("found", "level", "text"),
    [
        (check_python((3, 9)), Level.FAIL, "must be 3.10 to 3.13"),
        (check_python((3, 14)), Level.FAIL, "must be 3.10 to 3.13"),
        (check_python((3, 12), is_64_bit=False), Level.FAIL, "32-bit"),
        (check_python((3, 12), is_64_bit=True), Level.OK, "3.12"),
        (check_torch("2.10.1+cu128"), Level.FAIL, "must be 2.11 or later"),
        (check_torch("2.13.0+cpu"), Level.OK, "2.13.0+cpu"),
        (check_torchrl(), Level.OK, "trees"),
        (check_warp(), Level.OK, "cpu"),
        (check_accelerator(cuda_of_torch=None, num_devices=0, has_card=True), Level.WARN, "torch is for CPUs only"),
        (check_accelerator(cuda_of_torch="13.0", num_devices=0, has_card=True), Level.WARN, "does not see it"),
        (check_accelerator(cuda_of_torch=None, num_devices=0, has_card=False), Level.OK, "none"),
        (check_accelerator(cuda_of_torch="13.0", num_devices=2, has_card=True, device="H200"), Level.OK, "H200 (2)"),
        (check_display({}, system="linux", is_for_game=True), Level.WARN, "the game needs one"),
        (check_display({}, system="linux"), Level.OK, "do not need one"),
        (check_display({"DISPLAY": ":0"}, system="linux", is_for_game=True), Level.OK, "can be shown"),
        (check_display({}, system="win32", is_for_game=True), Level.OK, "can be shown"),
    ],
)
def test_machines(found: CheckResult, level: Level, text: str) -> None:
    assert found.level is level
    assert text in found.text


def library(path: Path, version: str) -> None:
    """Write a file with a version as in a Windows library's resources."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = f"ProductVersion\0\0{version}\0".encode("utf-16-le")
    path.write_bytes(b"MZ" + bytes(100) + text + bytes(50))


def test_installations(tmp_path: Path) -> None:
    documents = tmp_path / "Documents"
    levels = [found.level for found in run_checks(installation_checks(documents=documents, loader="/no/TMLoader.exe"))]
    assert levels == [Level.WARN, Level.WARN, Level.WARN, Level.FAIL, Level.OK]
    challenges = documents / "TrackMania" / "Tracks" / "Challenges" / "My Challenges"
    challenges.mkdir(parents=True)
    (challenges / "A 1.Challenge.Gbx").touch()
    assert check_game_folder(documents).level is Level.OK
    assert check_map(documents, '"My Challenges\\A 1.Challenge.Gbx"').level is Level.OK
    missing = check_map(documents, "My Challenges\\B.Challenge.Gbx")
    assert (missing.level, "OneDrive" in FAILURES["map not found"].cause) == (Level.FAIL, True)
    library(tmp_path / "loader" / "profiles" / "TMInterface.dll", "2.1.4.0")
    (tmp_path / "loader" / "TMLoader.exe").touch()
    assert check_loader(str(tmp_path / "loader" / "TMLoader.exe")).level is Level.OK
    found = check_tminterface([documents, tmp_path / "loader"])
    assert (found.level, found.text[:24]) == (Level.OK, "2.1.4.0: use game=tmi2 (")
    library(tmp_path / "old" / "TMInterface.dll", "1.4.3")
    assert "use game=tmi1" in check_tminterface([tmp_path / "old"]).text
    (tmp_path / "old" / "TMInterface.dll").write_bytes(b"nothing")
    assert check_tminterface([tmp_path / "old"]).level is Level.WARN


def test_documents_in_one_drive_are_found(tmp_path: Path) -> None:
    assert documents_folder(tmp_path) == tmp_path / "Documents"
    (tmp_path / "OneDrive" / "Documents" / "TrackMania").mkdir(parents=True)
    assert documents_folder(tmp_path) == tmp_path / "OneDrive" / "Documents"


def test_plugins(tmp_path: Path) -> None:
    ours, folder = tmp_path / "ours", tmp_path / "Documents" / "TMInterface" / "Plugins"
    for each in (ours, folder):
        each.mkdir(parents=True)
    (ours / "Link.as").write_text('RegisterVariable("custom_port", 0);\n')
    (folder / "Other.as").write_text("void Main() {}")
    documents = tmp_path / "Documents"
    assert check_plugin(documents, ours=ours).level is Level.FAIL
    (folder / "Link.as").write_bytes(b'RegisterVariable("custom_port",\r\n 0);\r\n')  # line ends as Windows has them
    assert check_plugin(documents, ours=ours).text == "Link.as, current"
    (folder / "Link.as").write_text('RegisterVariable("custom_port", 1);\n')
    assert check_plugin(documents, ours=ours).level is Level.WARN
    (folder / "Link.as").rename(folder / "Python_Link.as")
    assert "not this project's own" in check_plugin(documents, ours=ours).text
    (folder / "Second.as").write_text('RegisterVariable("custom_port", 0);\n')
    assert check_plugin(documents, ours=ours).level is Level.WARN


def test_an_installed_plugin_is_current_also_under_wine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WINEPREFIX", str(tmp_path / "prefix"))
    documents = tmp_path / "prefix" / "drive_c" / "users" / "me" / "Documents"
    (documents / "TMInterface" / "Plugins").mkdir(parents=True)
    assert documents_folder(tmp_path) == documents
    install_plugin(documents / "TMInterface" / "Plugins")
    assert check_plugin(documents).text == "tm_torchrl_link.as, current"


def test_a_running_game_is_measured(script: Script) -> None:
    with served(load_track("oval")) as server:
        done = script("scripts/doctor.py", "--port", server.port, "--json")
    results = {found["name"]: found for found in json.loads(done.stdout)}
    for name in ("python", "torch", "torchrl", "warp", "port", "connection", "speed", "pictures"):
        assert results[name]["level"] == "ok", results[name]
    assert "decisions a second" in results["speed"]["text"]
    assert done.returncode == 0


def test_a_game_with_tminterface_1_is_measured_without_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("tminterface")
    monkeypatch.setattr("tm_torchrl.game.doctor.connection.SLOW", 0.0)  # this machine may be busy
    with served1(load_track("oval")) as server:
        client = TMInterface1Client(channel=server.address)
        found = run_checks(GameChecks(client, timeout_s=5.0).checks())
        client.close()
    assert [each.level for each in found] == [Level.OK] * 3, found
    assert found[2].text == "TMInterface1Client has none; train on the float vector"


def test_a_missing_game_is_explained(script: Script) -> None:
    port = free_port()
    done = script("scripts/doctor.py", "--port", port, "--timeout", 0.3)
    assert done.returncode == 1
    assert f"fail  port: nothing listens at 127.0.0.1:{port}" in done.stdout
    assert "fail  connection: nobody answers" in done.stdout
    assert "install_plugin.py" in done.stdout


def test_another_program_at_the_port_fails_the_checks() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert check_port(port).level is Level.OK
        assert check_port_is_free(port).level is Level.WARN
        client = TMInterface2Client(port=port)
        checks = GameChecks(client, timeout_s=0.3)  # it never speaks
        found = run_checks(checks.checks())
        client.close()
    assert [each.level for each in found] == [Level.FAIL] * 3
    assert found[0].fix == FAILURES["map not found"].fix


def test_a_game_in_its_menus_is_explained() -> None:
    with served(load_track("oval"), is_in_menus=True) as server:
        (found, *_) = run_checks(GameChecks(TMInterface2Client(port=server.port), timeout_s=5.0).checks())
    assert found.level is Level.FAIL
    assert "shows its menus: open a map" in found.text
    assert found.fix == FAILURES["in the menus"].fix
