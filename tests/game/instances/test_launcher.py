"""Launching: what a loader leaves running is found and ended, nothing else is, and failures are explained."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tm_torchrl.game.errors import GameError, GameGone, GameTimeout
from tm_torchrl.game.instances.launcher import GameLauncher, RunningGame
from tm_torchrl.game.instances.ports import free_port, is_port_taken
from tm_torchrl.game.instances.processes import TOKEN, OwnedProcesses
from tm_torchrl.game.instances.reconnecting_client import ReconnectingClient
from tm_torchrl.settings import compose_settings
from tm_torchrl.settings.construct import construct

LOADER = Path(__file__).with_name("fake_loader.py")
COMMAND = f'"{sys.executable}" "{LOADER}" /configstring="set custom_port {{port}}" {{kind}} {{profile}}'


def launcher(kind: str, **options: Any) -> GameLauncher:
    return GameLauncher(COMMAND, variables={"kind": kind, "profile": "default"}, **{"start_timeout_s": 20.0, **options})


@pytest.fixture
def launch() -> Iterator[Callable[..., RunningGame]]:
    games: list[RunningGame] = []

    def start(kind: str, *, address: int = 0, **options: Any) -> RunningGame:
        games.append(launcher(kind, **options).launch(0, address=address))
        return games[-1]

    yield start
    for game in games:
        game.stop()


@pytest.fixture
def strangers() -> Iterator[list[subprocess.Popen[bytes]]]:
    """The same program, started by others; one of them with another launcher's token."""
    found = []
    for extra in ({}, {TOKEN: "0" * 32}):
        command = [sys.executable, str(LOADER), f"set custom_port={free_port()}", "game"]
        found.append(subprocess.Popen(command, env={**os.environ, **extra}))
    yield found
    for each in found:
        each.kill()
        each.wait()


def is_gone(game: RunningGame) -> bool:
    end = time.monotonic() + 30.0  # a busy machine may be late
    while time.monotonic() < end:
        if not game.is_running and not is_port_taken(game.address):
            return True
        time.sleep(0.05)
    return False


def test_what_a_loader_leaves_behind_is_ended_and_nothing_else(
    launch: Callable[..., RunningGame], strangers: list[subprocess.Popen[bytes]]
) -> None:
    one, two = launch("loader"), launch("loader")
    assert one.address != two.address
    assert is_port_taken(one.address) and is_port_taken(two.address)
    assert one.is_running
    one.stop()
    assert is_gone(one)
    assert two.is_running and is_port_taken(two.address)
    assert [each.poll() for each in strangers] == [None, None]
    one.stop()  # twice is allowed
    two.stop()
    assert is_gone(two)
    assert [each.poll() for each in strangers] == [None, None]


def test_a_game_that_does_not_want_to_end_is_ended(launch: Callable[..., RunningGame]) -> None:
    game = launch("stubborn", stop_timeout_s=0.3)
    begin = time.monotonic()
    game.stop()
    assert is_gone(game)
    assert time.monotonic() - begin >= 0.3


STARTER = f"""
import sys, time
from tm_torchrl.game.instances.launcher import GameLauncher
variables = {{"kind": "loader", "profile": "default"}}
game = GameLauncher({COMMAND!r}, variables=variables, start_timeout_s=60.0).launch(0, address=0)
print(game.address, flush=True)
time.sleep(300)
"""


def test_a_game_ends_when_the_process_that_started_it_is_killed(strangers: list[subprocess.Popen[bytes]]) -> None:
    starter = subprocess.Popen([sys.executable, "-c", STARTER], stdout=subprocess.PIPE, text=True)
    assert starter.stdout is not None
    with starter, starter.stdout:
        port = int(starter.stdout.readline())
        assert is_port_taken(port)
        starter.kill()  # as workers that hang are, and whatever the system ends for want of memory
    end = time.monotonic() + 30.0
    while is_port_taken(port) and time.monotonic() < end:
        time.sleep(0.05)
    assert not is_port_taken(port), "the game was left behind, and its port with it"
    assert [each.poll() for each in strangers] == [None, None]


@pytest.mark.skipif(sys.platform == "win32", reason="a job object ends games there")
def test_a_watchdog_that_is_killed_or_dismissed_ends_nothing(launch: Callable[..., RunningGame]) -> None:
    game = launch("game")
    watchdog = game._processes._watchdog
    assert watchdog is not None
    os.kill(watchdog.pid, signal.SIGKILL)
    watchdog.wait(10.0)
    assert game.is_running and is_port_taken(game.address)
    game.stop()
    assert is_gone(game)
    other = launch("loader")
    watchdog = other._processes._watchdog
    assert watchdog is not None
    other.stop()
    assert watchdog.poll() == 0, "it stayed behind, or was killed"


def test_a_game_that_died_is_noticed(launch: Callable[..., RunningGame]) -> None:
    game = launch("game")
    assert game.is_running
    game._processes._process.kill()
    assert is_gone(game)


def test_a_failed_launch_says_why_and_leaves_nothing_running() -> None:
    with pytest.raises(GameGone, match=r"code 7: no account for profile default. The command was: "):
        launcher("crash").launch(3, address=0)
    port = free_port()
    begin = time.monotonic()
    with pytest.raises(GameTimeout, match=rf"nothing listens at port {port} after 0.5 s"):
        launcher("silent", start_timeout_s=0.5, stop_timeout_s=1.0).launch(0, address=port)
    assert time.monotonic() - begin < 60.0, "it waited for the loader, which sleeps for 120 s"
    with pytest.raises(GameError, match=r"could not be started: .* The command was: /no/such/loader"):
        GameLauncher("/no/such/loader {port}").launch(0, address=0)
    with pytest.raises(GameError, match="address='TMInterface0'"):
        launcher("game").launch(0, address="TMInterface0")


def test_a_taken_port_is_refused_before_anything_starts(tmp_path: Path) -> None:
    command = f'"{sys.executable}" -c "open({str(tmp_path / "started")!r}, chr(119))" {{port}}'
    touch = GameLauncher(command, stop_timeout_s=0.2)
    taken = pytest.raises(GameError, match=r"port \d+ of game 2 is taken")
    with socket.create_server(("127.0.0.1", 0)) as server, taken:
        touch.launch(2, address=server.getsockname()[1])
    assert list(tmp_path.iterdir()) == []


def test_a_port_that_is_being_given_back_is_waited_for(launch: Callable[..., RunningGame]) -> None:
    server = socket.create_server(("127.0.0.1", 0))
    port = server.getsockname()[1]
    threading.Timer(0.5, server.close).start()
    assert launch("game", address=port).address == port


def test_ports_are_asked_without_a_connection() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert is_port_taken(port)
        server.settimeout(0.05)
        with pytest.raises(TimeoutError):
            server.accept()
        client = socket.create_connection(("127.0.0.1", port))
        served, _ = server.accept()
        served.close()  # the server's side closes first: its port lingers
        client.close()
    assert not is_port_taken(port)
    with pytest.raises(ValueError, match="port=0"):
        is_port_taken(0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"command": "game"}, "must contain {port}"),
        ({"command": "game {port} {prot}"}, r"{prot} is unknown: must be one of {instance}, {port}"),
        ({"command": "game {port:>99999999}"}, "{port} must have no format"),
        ({"command": "game {port!r}"}, "{port} must have no format"),
        ({"command": "game {port}", "reboot_s": 0.0}, "reboot_s=0.0"),
        ({"command": "game {port}", "folder": "/no/such"}, "folder='/no/such'"),
    ],
)
def test_templates_are_checked(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        GameLauncher(**options)


@pytest.mark.parametrize(("name", "num", "words"), [("tmi2_wine", 4, "wine"), ("tmi2_windows", 2, "TMLoader.exe")])
def test_templates_of_the_configuration(name: str, num: int, words: str) -> None:
    settings = compose_settings(["env=game", f"game={name}"])["env"]["game"]
    instances = construct(settings, name="game")
    assert instances.num == num
    assert words in instances.launcher.line(1, 8479)
    assert "set custom_port 8479" in instances.launcher.arguments(1, 8479)[-1]


def test_the_output_of_a_command_is_kept() -> None:
    owned = OwnedProcesses([sys.executable, "-c", "print('hello'); raise SystemExit(3)"])
    end = time.monotonic() + 10
    while owned.is_running and time.monotonic() < end:
        time.sleep(0.05)
    assert (owned.exit_code, owned.output) == (3, "hello")
    owned.stop()
    assert owned.output == ""


class RecordingClient:
    """A client that records its calls."""

    address, timeout_s, connect_timeout_s, has_frames = 8478, 1.0, 1.0, False

    def __init__(self, calls: list[str]) -> None:
        self.calls = calls
        self.is_connected = False

    def at(self, address: int) -> RecordingClient:
        return RecordingClient(self.calls)

    def connect(self, *, timeout_s: float | None = None) -> None:
        self.is_connected = True
        self.calls.append("connect")

    def rewind(self, state: bytes, *, timeout_s: float | None = None) -> None:
        self.calls.append(f"rewind {state.decode()}")

    def close(self) -> None:
        self.is_connected = False
        self.calls.append("close")


def test_a_game_that_is_due_is_restarted_between_episodes() -> None:
    calls: list[str] = []

    class Launched:
        address, is_running = 8478, True
        is_due = False

        def stop(self) -> None:
            calls.append("stop")

    games: list[Launched] = []

    class Launches:
        def launch(self, instance: int, *, address: int | str) -> Launched:
            games.append(Launched())
            calls.append("launch")
            return games[-1]

    client = ReconnectingClient(RecordingClient(calls), launcher=Launches(), pauses_s=())  # type: ignore[arg-type]
    client.rewind(b"start")
    client.rewind(b"start")
    assert calls == ["launch", "connect", "rewind start", "rewind start"]
    games[0].is_due = True
    del calls[:]
    client.rewind(b"start")
    assert calls == ["close", "stop", "launch", "connect", "rewind start"]
    assert client.num_relaunches == 1


def test_reboots_are_due_by_the_clock(launch: Callable[..., RunningGame]) -> None:
    game = launch("game", reboot_s=0.2)
    time.sleep(0.25)
    assert game.is_due
    assert not launch("game", reboot_s=None).is_due
