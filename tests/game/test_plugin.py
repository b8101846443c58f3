"""The link plugin: compiled, driven in a small substitute for the game, and installed."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tm_torchrl.game import GameGone, TMInterface2Client
from tm_torchrl.game.instances.ports import free_port
from tm_torchrl.game.plugin import PLUGIN, install_plugin, plugin_folders
from tm_torchrl.game.state_layout import head_of, race_time_of
from tm_torchrl.game.tmi2.messages import DEFAULT_PORT, DEFAULT_TIMEOUT_MS, Message
from tm_torchrl.world.actions import ACTIONS, FORWARD

SOURCE = PLUGIN.read_text(encoding="utf-8")
LITTLE_GAME = Path(__file__).resolve().parent / "angelscript" / "little_game.cpp"
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
def game(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The substitute for the game; needs a C++ compiler and Debian's angelscript-dev."""
    if sys.platform != "linux" or shutil.which("g++") is None:
        pytest.skip("the little game is built on Linux with g++, which is not here")
    program = tmp_path_factory.mktemp("angelscript") / "little_game"
    libraries = ["-Wl,--start-group", "-langelscript-addon", "-langelscript", "-Wl,--end-group", "-lpthread"]
    command = ["g++", "-std=c++17", "-O0", "-DAS_USE_NAMESPACE", str(LITTLE_GAME), "-o", str(program), *libraries]
    probe = subprocess.run(
        ["g++", "-x", "c++", "-E", "-"], input="#include <angelscript.h>\n", capture_output=True, text=True, check=False
    )
    if probe.returncode:
        pytest.skip("no angelscript.h: apt-get install angelscript-dev")
    built = subprocess.run(command, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    return program


def compile_plugin(game: Path, source: str, folder: Path) -> subprocess.CompletedProcess[str]:
    file = folder / "plugin.as"
    file.write_text(source, encoding="utf-8")
    return subprocess.run([game, file, "--check", *CALLED_BY_THE_GAME], capture_output=True, text=True, check=False)


def test_it_compiles_without_messages(game: Path, tmp_path: Path) -> None:
    done = compile_plugin(game, SOURCE, tmp_path)
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
def test_the_compiler_finds_mistakes(game: Path, tmp_path: Path, right: str, wrong: str, words: str) -> None:
    assert right in SOURCE
    done = compile_plugin(game, SOURCE.replace(right, wrong, 1), tmp_path)
    assert done.returncode == 1
    assert words in done.stdout


@pytest.fixture
def port(game: Path) -> Iterator[int]:
    """Port of a running substitute with our plugin."""
    found = free_port()
    process = subprocess.Popen([game, PLUGIN, "--play", str(found)], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
    yield found
    assert process.stdin is not None
    process.stdin.close()
    try:
        assert process.wait(10.0) == 0
    finally:
        process.kill()


def connected(port: int, **options: float) -> TMInterface2Client:
    client = TMInterface2Client(port=port, timeout_s=10.0, connect_timeout_s=10.0, **options)  # type: ignore[arg-type]
    client.connect()
    return client


def metres(state: bytes) -> float:
    return float(head_of(state)["position"][2])


def test_our_client_drives_it_through_a_race(port: int) -> None:
    client = connected(port)
    start = client.restart()
    assert (race_time_of(start.state), metres(start.state)) == (0, 0.0)
    snapshots = [client.drive(ACTIONS[FORWARD], num_ticks=5) for _ in range(30)]
    # 0.05 m a tick, gates at 2, 4 and 6 m: passed in ticks 40, 80 and 120 but for the rounding of the sums.
    passed = [event for snapshot in snapshots for event in snapshot.passed]
    assert [(event.count, event.total) for event in passed] == [(1, 3), (2, 3), (3, 3)]
    assert [event.time_ms for event in passed] == pytest.approx([400, 800, 1200], abs=10)
    assert [race_time_of(snapshot.state) for snapshot in snapshots] == list(range(50, 1501, 50))
    assert metres(snapshots[-1].state) == pytest.approx(7.5, abs=1e-4), "it drives on behind the finish"
    assert not client.is_finished() and not client.is_in_menus()
    assert client.inputs_text() == "0.00 press up\n"
    picture = client.frame(width=64, height=48)
    assert picture.shape == (48, 64) and set(np.unique(picture)) == {150}  # 20 grey levels a metre
    client.rewind(start.state)
    assert metres(client.state()) == 0.0
    assert set(np.unique(client.frame(width=8, height=8))) == {0}
    assert metres(client.drive(ACTIONS[FORWARD], num_ticks=5).state) == pytest.approx(0.25, abs=1e-6)
    client.close()


def test_a_new_client_takes_over_from_one_that_died_while_the_game_waits_for_it(port: int) -> None:
    dead = connected(port, hold_s=600.0)
    dead.frame(width=8, height=8)  # the game is frozen, and waits in the picture
    other = connected(port)
    assert race_time_of(other.restart().state) == 0
    assert metres(other.drive(ACTIONS[FORWARD], num_ticks=5).state) > 0.2
    with pytest.raises(GameGone):
        dead.drive(ACTIONS[FORWARD], num_ticks=5)
    other.close()


def test_a_silent_client_is_dropped_in_time(port: int) -> None:
    client = connected(port, hold_s=0.2)
    time.sleep(0.6)
    with pytest.raises(GameGone):
        client.drive(ACTIONS[FORWARD], num_ticks=5)
    again = connected(port)
    assert race_time_of(again.restart().state) == 0
    again.close()


def test_a_stream_out_of_step_is_dropped(port: int) -> None:
    client = connected(port)
    client._connection.send(b"\x63\0\0\0")  # 99
    with pytest.raises(GameGone):
        client.state()


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


def test_it_is_installed_completely(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="folder="):
        install_plugin(tmp_path / "Plugins")
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
