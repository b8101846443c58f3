"""The plugin inside the game: it compiles against stubs, says the client's numbers, and is put in its place."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tm_torchrl.game.messages2 import DEFAULT_PORT, DEFAULT_TIMEOUT_MS, Message
from tm_torchrl.game.plugin import PLUGIN, install_plugin, plugin_folders

SOURCE = PLUGIN.read_text(encoding="utf-8")
CHECKER = Path(__file__).resolve().parent / "angelscript" / "compile_plugin.cpp"
CALLED_BY_THE_GAME = (
    "PluginInfo@ GetPluginInfo()",
    "void Main()",
    "void Render()",
    "void OnRunStep(SimulationManager@)",
    "void OnCheckpointCountChanged(SimulationManager@, int, int)",
    "void OnLapCountChanged(SimulationManager@, int, int)",
    "void OnDisabled()",
)


@pytest.fixture(scope="module")
def compiler(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A program that compiles AngelScript; needs a C++ compiler and Debian's angelscript-dev."""
    if sys.platform != "linux" or shutil.which("g++") is None:
        pytest.skip("the plugin is compiled on Linux with g++, which is not here")
    program = tmp_path_factory.mktemp("angelscript") / "compile_plugin"
    libraries = ["-Wl,--start-group", "-langelscript-addon", "-langelscript", "-Wl,--end-group", "-lpthread"]
    command = ["g++", "-std=c++17", "-O0", "-DAS_USE_NAMESPACE", str(CHECKER), "-o", str(program), *libraries]
    probe = subprocess.run(
        ["g++", "-x", "c++", "-E", "-"], input="#include <angelscript.h>\n", capture_output=True, text=True, check=False
    )
    if probe.returncode:
        pytest.skip("no angelscript.h: apt-get install angelscript-dev")
    built = subprocess.run(command, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    return program


def compile_plugin(compiler: Path, source: str, folder: Path) -> subprocess.CompletedProcess[str]:
    file = folder / "plugin.as"
    file.write_text(source, encoding="utf-8")
    return subprocess.run([compiler, file, *CALLED_BY_THE_GAME], capture_output=True, text=True, check=False)


def test_it_compiles_without_a_word(compiler: Path, tmp_path: Path) -> None:
    done = compile_plugin(compiler, SOURCE, tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize(
    ("right", "wrong", "words"),
    [
        ("game.SetSpeed(", "game.SetSpeeed(", "No matching symbol 'SetSpeeed'"),
        ("client.ReadUint32()", "client.ReadUint32(1)", "No matching signatures"),
        ("InputType::Up", "InputType::Upp", "No matching symbol 'InputType::Upp'"),
        ("void OnRunStep(", "void OnRunStepp(", "no function void OnRunStep"),
        ("    return;\n", "    return\n", "Expected"),
    ],
)
def test_the_compiler_finds_mistakes(compiler: Path, tmp_path: Path, right: str, wrong: str, words: str) -> None:
    assert right in SOURCE
    done = compile_plugin(compiler, SOURCE.replace(right, wrong, 1), tmp_path)
    assert done.returncode == 1
    assert words in done.stdout


def test_its_numbers_are_the_client_s() -> None:
    numbers = {name: int(value) for name, value in re.findall(r"^const int ([A-Z_]+) = (\d+);", SOURCE, re.M)}
    port, tick = numbers.pop("DEFAULT_PORT"), numbers.pop("TICK_MS")
    assert (port, tick) == (DEFAULT_PORT, 10)
    assert sorted(numbers.values()) == [message.value for message in Message]
    same = {"HELLO": "ON_CONNECT", "PICTURE": "FRAME", "GOOD_BYE": "SHUTDOWN", "SET_PERIOD": "SET_STEP_PERIOD"}
    same |= {"REQUEST_PICTURE": "REQUEST_FRAME", "WITHDRAW_PICTURE": "UNREQUEST_FRAME"}
    same |= {"SHOW_INTERFACE": "TOGGLE_INTERFACE"}
    assert {same.get(name, name): value for name, value in numbers.items()} == dict(Message.__members__)
    assert f"PATIENCE_MS = {DEFAULT_TIMEOUT_MS};" in SOURCE


def test_every_request_is_answered_once() -> None:
    for message in Message:
        if message > Message.ON_CONNECT:
            names = [
                name for name, value in re.findall(r"const int ([A-Z_]+) = (\d+);", SOURCE) if int(value) == message
            ]
            asked = [name for name in names if f"asked == {name})" in SOURCE]
            assert len(asked) == 1, message.name


def test_it_is_put_whole_into_its_folder(tmp_path: Path) -> None:
    (tmp_path / "Plugins").mkdir()
    target = install_plugin(tmp_path / "Plugins")
    assert target.read_bytes() == PLUGIN.read_bytes()
    target.write_text("an older one")
    install_plugin(tmp_path / "Plugins")
    assert [path.name for path in (tmp_path / "Plugins").iterdir()] == [PLUGIN.name]
    assert target.read_bytes() == PLUGIN.read_bytes()


def test_two_plugins_at_one_port_are_refused(tmp_path: Path) -> None:
    community = tmp_path / "Python_Link.as"
    community.write_text("theirs")
    with pytest.raises(FileExistsError, match="listen at the same port"):
        install_plugin(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["Python_Link.as"]
    install_plugin(tmp_path, replace_community=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["Python_Link.as.off", PLUGIN.name]
    assert (tmp_path / "Python_Link.as.off").read_text() == "theirs"


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"start the game with TMInterface 2\.1 once"):
        install_plugin(tmp_path / "nowhere")


def test_folders_are_found_in_documents_onedrive_and_wine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WINEPREFIX", raising=False)
    assert plugin_folders(home=tmp_path) == []
    places = [
        tmp_path / "Documents" / "TMInterface" / "Plugins",
        tmp_path / "OneDrive" / "Documents" / "TMInterface" / "Plugins",
        tmp_path / ".wine" / "drive_c" / "users" / "me" / "Documents" / "TMInterface" / "Plugins",
    ]
    for place in places:
        place.mkdir(parents=True)
    assert plugin_folders(home=tmp_path) == places
    other = tmp_path / "prefix"
    moved = other / "drive_c" / "users" / "me" / "My Documents" / "TMInterface" / "Plugins"
    moved.mkdir(parents=True)
    monkeypatch.setitem(os.environ, "WINEPREFIX", str(other))
    assert moved in plugin_folders(home=tmp_path)
