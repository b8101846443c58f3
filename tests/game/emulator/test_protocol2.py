"""The emulator's bytes, without the client: order of messages, what blocks, what is answered, what drops a client."""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Iterator

import numpy as np
import pytest

from tests.game.drives import author
from tests.game.ways import served
from tm_torchrl.game.emulator.protocol2 import Protocol2Server
from tm_torchrl.game.state_layout import check_state, checkpoint_times, race_time_of
from tm_torchrl.tracks import load_track
from tm_torchrl.world.actions import ACTIONS

OVAL = load_track("oval")
QUIET_S = 0.15  # in which nothing may come
OPEN: list[socket.socket] = []


@pytest.fixture(autouse=True)
def closed_at_last() -> Iterator[None]:
    yield
    while OPEN:
        OPEN.pop().close()


class Talk:
    """A client in plain numbers, which shares no code with the package's client."""

    def __init__(self, server: Protocol2Server) -> None:
        self.socket = socket.create_connection(("127.0.0.1", server.port), timeout=10.0)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # or each small message waits 40 ms
        OPEN.append(self.socket)

    def ints(self, number: int = 1) -> tuple[int, ...]:
        return struct.unpack(f"<{number}i", self.bytes(4 * number))

    def bytes(self, number: int) -> bytes:
        found = b""
        while len(found) < number:
            more = self.socket.recv(number - len(found))
            if not more:
                raise EOFError
            found += more
        return found

    def say(self, *numbers: int, rest: bytes = b"") -> None:
        self.socket.sendall(struct.pack(f"<{len(numbers)}i", *numbers) + rest)

    def state(self) -> bytes:
        self.say(9)
        return self.bytes(self.ints()[0])

    def is_quiet(self) -> bool:
        self.socket.settimeout(QUIET_S)
        try:
            return not self.socket.recv(1, socket.MSG_PEEK)
        except TimeoutError:
            return True
        finally:
            self.socket.settimeout(10.0)

    def to_start(self, *, period_ms: int = 50) -> None:
        """Go through greeting and countdown, to the run step of time 0."""
        assert self.ints() == (5,)
        self.say(19, period_ms, 5)
        while True:
            message, race_time = self.ints(2)
            assert message == 1
            if race_time == 0:
                return
            self.say(1)


def started(server: Protocol2Server) -> Talk:
    talk = Talk(server)
    talk.to_start()
    return talk


@pytest.fixture
def server() -> Iterator[Protocol2Server]:
    with served(OVAL, countdown_ms=200) as found:
        yield found


def test_the_countdown_comes_in_steps_of_the_period(server: Protocol2Server) -> None:
    talk = Talk(server)
    assert talk.ints() == (5,)
    assert talk.is_quiet(), "it goes on before its number came back"
    talk.say(5)
    assert talk.ints(2) == (1, -200)  # the default period of 10 ms
    talk.say(1)
    assert talk.ints(2) == (1, -190)
    talk.say(19, 50, 1)  # period 50 from here
    assert [talk.ints(2), talk.say(1), talk.ints(2)][::2] == [(1, -150), (1, -100)]
    assert talk.is_quiet()


def test_keys_are_sent_as_left_right_gas_brake(server: Protocol2Server) -> None:
    talk = started(server)
    talk.say(10, rest=bytes([0, 0, 1, 0]))
    talk.say(1)
    assert talk.ints(2) == (1, 50)
    talk.say(10, rest=bytes([1, 0, 1, 1]))
    talk.say(23)
    script = talk.bytes(talk.ints()[0])
    assert script == b"0.00 press up\n0.05 press down\n0.05 press left\n"


def test_a_state_is_answered_with_its_length_and_rewinds(server: Protocol2Server) -> None:
    talk = started(server)
    start = talk.state()
    check_state(start)
    assert len(start) == 8356 + 12 * len(OVAL.gates)
    for _ in range(3):
        talk.say(10, rest=bytes([0, 0, 1, 0]))
        talk.say(1)
        talk.ints(2)
    moved = talk.state()
    assert race_time_of(moved) == 150 and moved != start
    talk.say(7, len(start), rest=start)
    assert talk.state() == start
    talk.say(1)
    assert talk.ints(2) == (1, 50), "the next run step comes a tick or more after the state's time"


def drive_lap(talk: Talk, *, prevents: bool) -> list[tuple[int, ...]]:
    """Drive the author's lap; returns all messages but run steps, with the race time in the state."""
    events = []
    for action in author("oval"):
        gas, brake, left, right = ACTIONS[action]
        talk.say(10, rest=bytes([left, right, gas, brake]))
        talk.say(1)
        while (message := talk.ints()[0]) != 1:
            count, total = talk.ints(2)
            state = bytearray(talk.state())
            events.append((message, count, total, race_time_of(state)))
            if count == total:
                if not prevents:
                    talk.say(2)
                    return events
                checkpoint_times(state)[-1] = -1
                talk.say(7, len(state), rest=bytes(state))
            talk.say(message)
        assert talk.ints()[0] % 50 == 0
    return events


def test_checkpoints_come_from_inside_the_tick(server: Protocol2Server) -> None:
    talk = started(server)
    events = drive_lap(talk, prevents=True)
    assert [event[:3] for event in events] == [(2, 1, 4), (2, 2, 4), (2, 3, 4), (2, 4, 4)]
    assert any(time_ms % 50 for *_, time_ms in events)
    talk.say(16)
    assert talk.ints() == (0,), "the finish was prevented"
    talk.say(1)
    assert talk.ints()[0] == 1, "the race goes on"


def test_a_finish_nobody_prevents_ends_the_race(server: Protocol2Server) -> None:
    talk = started(server)
    *_, finish_ms = drive_lap(talk, prevents=False)[-1]
    for _ in range(5):  # the clock stands, each tick tells it
        assert talk.ints(2) == (1, finish_ms)
        talk.say(16)
        assert talk.ints() == (1,)
        talk.say(1)
    assert talk.ints(2) == (1, finish_ms)
    talk.say(11, 1)  # give up
    assert talk.ints(2) == (1, -200)


def test_laps_are_reported_after_their_checkpoint() -> None:
    with served(load_track("ring"), countdown_ms=0) as server:
        talk = started(server)
        messages = []
        for action in author("ring"):
            gas, brake, left, right = ACTIONS[action]
            talk.say(10, rest=bytes([left, right, gas, brake]))
            talk.say(1)
            while (message := talk.ints()[0]) != 1:
                messages.append((message, *talk.ints(2)))
                if messages[-1][:2] == (2, 12):
                    talk.say(12)  # prevent the finish
                talk.say(message)
            talk.ints()
    laps = [i for i, message in enumerate(messages) if message[0] == 3]
    assert [messages[i] for i in laps] == [(3, 1, 3), (3, 2, 3)]
    assert [messages[i - 1] for i in laps] == [(2, 4, 12), (2, 8, 12)]


def test_a_picture_comes_when_the_game_draws(server: Protocol2Server) -> None:
    talk = started(server)
    talk.say(6, rest=struct.pack("<f", 0.0))
    talk.say(17, 64, 32, 1)
    assert talk.ints() == (4,)
    picture = np.frombuffer(talk.bytes(64 * 32 * 4), np.uint8).reshape(32, 64, 4)
    assert (picture[:, :, 3] == 255).all() and picture[:, :, 0].std() > 5
    talk.say(17, 64, 64, 4)  # asked for in a picture's wait: lost, as in the plugin
    assert talk.is_quiet(), "the game is frozen, and no picture was asked for"


def test_a_withdrawn_picture_does_not_come(server: Protocol2Server) -> None:
    talk = started(server)
    talk.say(17, 64, 64, 20, 1)
    assert talk.ints(2) == (1, 50)
    talk.say(17, 16, 16, 1)  # at speed 1 the picture comes behind the next ticks
    assert talk.ints() == (4,)
    talk.bytes(16 * 16 * 4)
    talk.say(4)
    assert talk.ints(2) == (1, 100)


def test_after_a_rewind_in_a_picture_the_state_s_step_is_not_repeated(server: Protocol2Server) -> None:
    talk = started(server)
    start = talk.state()
    talk.say(17, 16, 16, 1)  # at speed 1: the picture comes behind the ticks, before the run step of 50 ms
    assert talk.ints() == (4,)
    talk.bytes(16 * 16 * 4)
    talk.say(7, len(start), rest=start)
    talk.say(4)
    assert talk.ints(2) == (1, 50), "not the run step of the state itself, at 0"
    talk.say(1)
    assert talk.ints(2) == (1, 100)


def test_a_silent_client_is_dropped_and_the_next_one_is_served(server: Protocol2Server) -> None:
    talk = started(server)
    talk.say(15, 100)  # answer within 100 ms from here
    begin = time.monotonic()
    with pytest.raises(EOFError):
        talk.ints()
    assert time.monotonic() - begin > 0.08
    assert server.last_farewell == "it was silent for 100 ms"
    other = Talk(server)
    assert other.ints() == (5,)
    other.say(5)
    assert other.ints(2)[0] == 1
    assert other.is_quiet()


def test_a_client_cannot_keep_its_place_for_ever(server: Protocol2Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tm_torchrl.game.emulator.protocol2.MAX_TIMEOUT_MS", 100)
    talk = started(server)
    talk.say(15, -1)  # 2^32 - 1 ms: seven weeks
    with pytest.raises(EOFError):
        talk.ints()
    assert server.last_farewell == "it was silent for 100 ms"


@pytest.mark.parametrize(
    "numbers",
    [(7, 2**30), (7, -1), (14, -5), (17, 0, 64), (17, 10**6, 64), (19, 7), (19, -10), (19, 2**31 - 8), (13,)],
    ids=str,
)
def test_invalid_requests_and_a_good_bye_drop_the_client(server: Protocol2Server, numbers: tuple[int, ...]) -> None:
    talk = started(server)
    talk.say(*numbers)
    with pytest.raises((EOFError, ConnectionResetError)):
        talk.ints()
    assert "silent" not in server.last_farewell


def test_requests_without_an_answer_keep_the_stream_in_step(server: Protocol2Server) -> None:
    talk = started(server)
    command = "echo Été".encode()
    talk.say(14, len(command), rest=command)
    # Reset the camera, withdraw a picture, show the interface, prevent the finish, two unknown numbers; then go on.
    talk.say(18, 20, 21, 1, 12, 99, 3, 1)
    assert talk.ints(2) == (1, 50)


def test_menus_have_no_race_until_a_map_is_loaded() -> None:
    with served(OVAL, countdown_ms=0, is_in_menus=True) as server:
        talk = Talk(server)
        assert talk.ints() == (5,)
        talk.say(22)
        assert talk.ints() == (1,)
        talk.say(9)
        assert talk.ints() == (1,) and talk.bytes(1) == b"\0", "a state that is none"
        command = b'map "My Challenges\\ring.Challenge.Gbx"'
        talk.say(14, len(command), rest=command)
        talk.say(22)
        assert talk.ints() == (0,)
        talk.say(5)
        assert talk.ints(2) == (1, 0)
        assert len(checkpoint_times(talk.state())) == 12  # ring: three laps of four


def test_without_a_map_the_menus_are_silent_and_a_newer_client_takes_over() -> None:
    with served(OVAL, is_in_menus=True) as server:
        talk = Talk(server)
        assert talk.ints() == (5,)
        command = b"map nowhere"
        talk.say(14, len(command), rest=command)
        talk.say(5)
        assert talk.is_quiet()
        other = Talk(server)
        assert other.ints() == (5,)
        with pytest.raises((EOFError, ConnectionResetError)):
            talk.ints()
