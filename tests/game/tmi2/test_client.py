"""The client of TMInterface 2.x: what it refuses, how each wait ends, how it handles unusual games."""

from __future__ import annotations

import contextlib
import pickle
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from tests.game.drives import author
from tests.game.ways import served
from tm_torchrl.game import CallRefused, GameGone, GameTimeout, ProtocolError, TMInterface2Client
from tm_torchrl.game.emulator.protocol2 import Protocol2Server
from tm_torchrl.game.state_layout import new_state, race_time_of, row_from_state
from tm_torchrl.game.tmi2.connection import Connection
from tm_torchrl.tracks import load_track
from tm_torchrl.world.actions import ACTIONS
from tm_torchrl.world.car_row import CAR_ROW

OVAL = load_track("oval")
GAS = ACTIONS[0]
UNUSED_TIMEOUT_S = 600.0  # of other calls: whoever waited for it would be far too late
SLACK_S = 60.0  # more than a busy machine is late


@pytest.fixture
def server() -> Iterator[Protocol2Server]:
    with served(OVAL, countdown_ms=200) as found:
        yield found


@pytest.fixture
def client(server: Protocol2Server) -> Iterator[TMInterface2Client]:
    found = TMInterface2Client(port=server.port, timeout_s=20.0, connect_timeout_s=20.0)
    yield found
    found.close()


def game_that(play: Callable[[socket.socket], None]) -> int:
    """A game for one client, which plays a script; returns its port."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with listener:
            connection, _ = listener.accept()
            with connection:
                play(connection)

    threading.Thread(target=serve, daemon=True).start()
    return int(listener.getsockname()[1])


def hear_until(connection: socket.socket, *numbers: int) -> None:
    """Read until the bytes received end in these numbers, and no further."""
    heard, end = b"", struct.pack(f"<{len(numbers)}i", *numbers)
    while not heard.endswith(end):
        heard += connection.recv(1)


def greeting(connection: socket.socket) -> None:
    """Send a game's messages up to its first run step, in the countdown."""
    connection.sendall(struct.pack("<i", 5))
    hear_until(connection, 22)  # the setup ends in a question about menus
    connection.sendall(struct.pack("<i", 0))
    hear_until(connection, 5, 9)
    tell_step(connection, -100)
    hear_until(connection, 21, 0)  # camera and interface


def tell_step(connection: socket.socket, time_ms: int, *, state: bytes | None = None) -> None:
    state = bytes(new_state(num_checkpoints=4)) if state is None else state
    connection.sendall(struct.pack("<3i", 1, time_ms, len(state)) + state)


def connected(play: Callable[[socket.socket], None], *, timeout_s: float = 20.0) -> TMInterface2Client:
    """A client connected to a game that then plays a script."""

    def whole(connection: socket.socket) -> None:
        greeting(connection)
        play(connection)

    client = TMInterface2Client(port=game_that(whole), timeout_s=timeout_s, connect_timeout_s=UNUSED_TIMEOUT_S)
    client.connect()
    return client


def wait_for_end(connection: socket.socket) -> None:
    while connection.recv(65536):
        pass


# ---------------------------------------------------------------------- refused calls


@pytest.mark.parametrize(
    ("name", "arguments", "options"),
    [
        ("drive", [GAS], {"num_ticks": 5}),
        ("rewind", [bytes(new_state(num_checkpoints=4))], {}),
        ("frame", [], {"width": 64, "height": 64}),
        ("load_map", ["map"], {}),
        ("execute", ["cam 1"], {}),
        *((name, [], {}) for name in ("restart", "state", "inputs_text", "is_in_menus")),
    ],
)
def test_calls_before_connecting_are_refused(name: str, arguments: list[Any], options: dict[str, Any]) -> None:
    with pytest.raises(CallRefused, match=f"{name}: the client is not connected"):
        getattr(TMInterface2Client(port=1), name)(*arguments, **options)


def test_connecting_twice_is_refused_and_changes_nothing(client: TMInterface2Client) -> None:
    client.connect()
    with pytest.raises(CallRefused, match="close it first"):
        client.connect()
    assert client.drive(GAS, num_ticks=5).state


def test_a_second_picture_of_a_step_is_the_first_or_refused(client: TMInterface2Client) -> None:
    client.connect()
    client.restart()
    first = client.frame(width=64, height=64)
    assert client.frame(width=64, height=64) is first
    with pytest.raises(CallRefused, match="one picture per step"):
        client.frame(width=32, height=32)
    assert client.is_connected
    snapshot = client.drive(GAS, num_ticks=5)
    assert race_time_of(snapshot.state) == 50
    assert client.frame(width=32, height=48).shape == (48, 32)


@pytest.mark.parametrize("arguments", [{"timeout_s": 0}, {"hold_s": 0.0}, {"hold_s": 1e8}, {"speed": -1.0}])
def test_invalid_settings_are_refused(arguments: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(arguments))}="):
        TMInterface2Client(**arguments)  # type: ignore[arg-type]


def test_it_can_be_pickled_and_copied_to_another_address() -> None:
    client = pickle.loads(pickle.dumps(TMInterface2Client(port=8500, hold_s=30.0, map_path="a b.Gbx")))
    assert (client.address, client.hold_s, client.map_path) == (8500, 30.0, "a b.Gbx")
    other = client.at(8501)
    assert (other.address, other.hold_s, other.map_path) == (8501, 30.0, "a b.Gbx")
    with pytest.raises(ValueError, match="address='TMInterface0'"):
        client.at("TMInterface0")


# ---------------------------------------------------------------------- how waits end


def test_another_program_at_the_port_is_recognised() -> None:
    port = game_that(lambda connection: connection.sendall(b"SSH-2.0-server\r\n"))
    with pytest.raises(ProtocolError, match="another program"):
        TMInterface2Client(port=port).connect(timeout_s=20.0)


def test_a_silent_game_times_out() -> None:
    port = game_that(wait_for_end)
    client = TMInterface2Client(port=port, timeout_s=0.1, connect_timeout_s=UNUSED_TIMEOUT_S)
    begin = time.monotonic()
    with pytest.raises(GameTimeout, match=r"did not send 4 bytes \(0 came\) within 0.3 s"):
        client.connect(timeout_s=0.3)
    assert 0.25 < time.monotonic() - begin < SLACK_S
    assert not client.is_connected


@pytest.mark.parametrize(("timeout_s", "own_s"), [(0.2, None), (UNUSED_TIMEOUT_S, 0.2)], ids=["client", "call"])
def test_a_frozen_game_times_out_by_the_deadline_of_client_or_call(timeout_s: float, own_s: float | None) -> None:
    client = connected(wait_for_end, timeout_s=timeout_s)
    begin = time.monotonic()
    with pytest.raises(GameTimeout, match=r"within 0\.2 s"):
        client.drive(GAS, num_ticks=5, timeout_s=own_s)
    assert 0.18 < time.monotonic() - begin < SLACK_S
    with pytest.raises(CallRefused):
        client.drive(GAS, num_ticks=5)


def test_a_map_that_does_not_start_is_named() -> None:
    def play(connection: socket.socket) -> None:
        connection.sendall(struct.pack("<i", 5))
        connection.recv(65536)
        connection.sendall(struct.pack("<i", 1))  # in the menus
        wait_for_end(connection)

    client = TMInterface2Client(port=game_that(play), map_path="My Challenges\\Été.Challenge.Gbx")
    with pytest.raises(GameTimeout, match=r"map 'My Challenges\\\\Été.Challenge.Gbx' did not start"):
        client.connect(timeout_s=0.3)


def test_a_state_that_is_cut_off_is_a_lost_game() -> None:
    def play(connection: socket.socket) -> None:
        hear_until(connection, 1, 9)
        connection.sendall(struct.pack("<3i", 1, -50, 8404) + bytes(4000))

    client = connected(play)
    with pytest.raises(GameGone, match="closed the connection"):
        client.drive(GAS, num_ticks=5)


def test_a_game_that_sends_a_byte_now_and_then_times_out() -> None:
    """Each byte comes within the socket's own limit; all of them would take 40 s."""

    def play(connection: socket.socket) -> None:
        with contextlib.suppress(OSError):  # the client has gone
            for _ in range(8000):
                connection.sendall(b"x")
                time.sleep(0.005)

    connection = Connection("127.0.0.1", game_that(play), poll_s=60.0)
    connection.set_deadline(20.0)
    connection.open()
    connection.set_deadline(0.3)
    with pytest.raises(GameTimeout, match=r"send 8000 bytes \([0-9]+ came\) within 0\.3 s"):
        connection.read_bytes(8000)
    connection.close()


def test_a_state_that_no_car_has_is_refused() -> None:
    """Position at byte 724 of the state."""

    def play(connection: socket.socket) -> None:
        hear_until(connection, 1, 9)
        state = new_state(num_checkpoints=4)
        struct.pack_into("<f", state, 724, float("nan"))
        tell_step(connection, -50, state=bytes(state))
        wait_for_end(connection)

    client = connected(play)
    with pytest.raises(ProtocolError, match="position=nan"):
        client.drive(GAS, num_ticks=5)
    assert not client.is_connected


def test_bytes_that_come_one_by_one_are_put_together() -> None:
    def play(connection: socket.socket) -> None:
        hear_until(connection, 1, 9)
        message = struct.pack("<3i", 1, -50, 8404) + bytes(new_state(num_checkpoints=4))
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for i in range(40):
            connection.sendall(message[i : i + 1])
        connection.sendall(message[40:])
        wait_for_end(connection)

    client = connected(play)
    assert len(client.drive(GAS, num_ticks=5, timeout_s=20.0).state) == len(new_state(num_checkpoints=4))
    client.close()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (struct.pack("<3i", 1, -50, -1), "a state of -1 bytes is announced"),
        (struct.pack("<3i", 1, -50, 2**30), "bytes is announced"),
        (struct.pack("<3i", 1, -50, 1) + b"\0" * 9, "the state has 1 bytes: .* menu"),
        (struct.pack("<3i", 1, 5000, 8404) + bytes(new_state(num_checkpoints=4)), "its clock jumped"),
        (struct.pack("<i", 77), "message 77 came"),
        (struct.pack("<i", 4), "message 4 came"),
        (struct.pack("<4i", 2, 9, 4, 8404) + bytes(new_state(num_checkpoints=4)), "checkpoint 9 of 4"),
    ],
)
def test_a_stream_out_of_step_is_closed(content: bytes, words: str) -> None:
    def play(connection: socket.socket) -> None:
        hear_until(connection, 1, 9)
        connection.sendall(content)
        wait_for_end(connection)

    client = connected(play)
    with pytest.raises(ProtocolError, match=words):
        client.drive(GAS, num_ticks=5)
    assert not client.is_connected


def test_an_interrupt_during_a_call_closes_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    client = connected(wait_for_end)

    def interrupt(number: int) -> bytes:
        raise KeyboardInterrupt

    monkeypatch.setattr(client._connection, "read_bytes", interrupt)
    with pytest.raises(KeyboardInterrupt):
        client.drive(GAS, num_ticks=5)
    assert not client.is_connected


# ---------------------------------------------------------------------- what games do


def test_a_map_is_loaded_from_the_menus_and_from_a_race() -> None:
    with served(OVAL, is_in_menus=True, countdown_ms=200) as server:
        client = TMInterface2Client(port=server.port, map_path="My Maps\\ring.Challenge.Gbx", connect_timeout_s=20.0)
        client.connect()
        assert server.race.track.name == "ring"
        assert client.time_ms < 0 and not client.is_in_menus()
        client.restart()
        client.drive(GAS, num_ticks=5)
        client.load_map("valley")
        assert server.race.track.name == "valley" and client.time_ms < 0
        client.close()


def test_the_race_continues_after_the_finish(client: TMInterface2Client) -> None:
    actions = author("oval")
    client.connect()
    start = client.restart()
    passed = [event for action in actions for event in client.drive(ACTIONS[action], num_ticks=5).passed]
    assert [(event.count, event.total) for event in passed] == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert [event.time_ms for event in passed] == sorted(event.time_ms for event in passed)
    behind = client.drive(GAS, num_ticks=5)
    assert race_time_of(behind.state) == 50 * (len(actions) + 1)
    assert not client.is_finished()
    client.rewind(start.state)
    assert client.state() == start.state


@pytest.mark.parametrize("num_ticks", [1, 2, 3, 5, 7, 10])
def test_any_number_of_ticks_can_be_driven(client: TMInterface2Client, num_ticks: int) -> None:
    client.connect()
    client.restart()
    for i in range(1, 5):
        snapshot = client.drive(GAS, num_ticks=num_ticks)
        assert race_time_of(snapshot.state) == client.time_ms == 10 * num_ticks * i
    snapshot = client.drive(GAS, num_ticks=5)
    assert race_time_of(snapshot.state) == 40 * num_ticks + 50
    assert client.inputs_text() == "0.00 press up\n"


def test_a_rewind_in_a_picture_is_exact(client: TMInterface2Client) -> None:
    client.connect()
    start = client.restart()
    first = client.frame(width=64, height=64).copy()
    for _ in range(30):
        client.drive(GAS, num_ticks=5)
    other = client.frame(width=64, height=64)
    assert (other != first).any()
    client.rewind(start.state)
    assert client.state() == start.state
    np.testing.assert_array_equal(client.frame(width=64, height=64), first)
    again = client.drive(GAS, num_ticks=5)
    assert row_from_state(again.state)[CAR_ROW["race_time_ms"]] == 50


def test_a_game_left_frozen_runs_for_the_next_client(server: Protocol2Server) -> None:
    client = TMInterface2Client(port=server.port, connect_timeout_s=20.0)
    client.connect()
    client.restart()
    client.frame(width=64, height=64)  # speed 0 now
    client._connection.close()  # as a crash would
    other = client.at(server.port)
    other.connect()
    assert race_time_of(other.restart().state) == 0
    assert race_time_of(other.drive(GAS, num_ticks=5).state) == 50
    other.close()


def test_close_may_be_called_at_any_time(client: TMInterface2Client) -> None:
    client.close()
    client.connect()
    client.close()
    client.close()
    client.connect()
    assert client.is_connected
