"""TMInterface 1.x: the package's own client with the emulator, and our client with games that fail."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.game.ways import served1
from tm_torchrl.game import GameWorld, TMInterface1Client
from tm_torchrl.game.emulator import protocol1
from tm_torchrl.game.emulator.process import EmulatorProcess
from tm_torchrl.game.errors import CallRefused, GameError, GameGone, GameTimeout, ProtocolError
from tm_torchrl.game.instances.instances import Instances
from tm_torchrl.game.state_layout import HEAD_BYTES, new_state, race_time_of
from tm_torchrl.game.tmi1.channel import CONTENT, MARK, SIZE, Channel
from tm_torchrl.game.tmi1.messages import INT, TWO_INTS, Kind
from tm_torchrl.tracks import load_track
from tm_torchrl.tracks.medals import medals_of
from tm_torchrl.world.actions import ACTIONS

pytest.importorskip("tminterface")
SLACK_S = 60.0  # more than a busy machine is late
posix_only = pytest.mark.skipif(sys.platform == "win32", reason="looks at what POSIX's channels do")
OVAL = load_track("oval")
GAS = ACTIONS[0]


def client_of(channel: str, **options: float) -> TMInterface1Client:
    return TMInterface1Client(channel=channel, **{"timeout_s": 5.0, "connect_timeout_s": 5.0, **options})  # type: ignore[arg-type]


def name() -> str:
    return f"test_{os.getpid()}_{time.monotonic_ns()}"


# ---------------------------------------------------------------------- the package's own client


def test_the_package_s_client_registers_drives_a_lap_rewinds_and_shuts_down() -> None:
    emulator = EmulatorProcess(["--protocol", "1", "--track", "oval"])
    try:
        program = str(Path(__file__).parents[1] / "tmi1" / "stock_client.py")
        command = [sys.executable, program, str(emulator.address), "oval"]
        stock = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert stock.stdout.readline() == "end the game now\n"
    finally:
        emulator.stop()
    saw = json.loads(stock.communicate(timeout=30)[0])
    gates = len(OVAL.gates)
    assert [count for count, _, _ in saw["checkpoints"]] == list(range(1, gates + 1))
    assert {total for _, total, _ in saw["checkpoints"]} == {gates}
    assert saw["checkpoints"][-1][2] == round(1000 * medals_of("oval").author_s), "the author's lap, to the millisecond"
    assert saw["after_rewind"][:5] == [1010, 1020, 1030, 1040, 1050]
    assert saw["is_same"], "the same bytes, 50 ms after the rewind"
    assert saw["calls"] == ["registered", "lap 0", "deregistered", "shutdown"]  # it tells a lap when it rewinds
    assert saw["is_ended"]
    assert saw["rate"] > 50, "decisions a second, of five ticks each"


# ---------------------------------------------------------------------- traps of the protocol


@contextlib.contextmanager
def raw(channel: str) -> Iterator[Channel]:
    memory = Channel(channel)
    try:
        yield memory
    finally:
        memory.close()


def is_call(header: int) -> bool:
    return header & MARK == MARK and header & 0xFF < Kind.REGISTER and header & 0xFF != Kind.RESPONSE


@pytest.mark.parametrize("patience_s", [0.0, 0.5])
def test_a_client_that_clears_slowly_erases_a_call_unless_it_comes_later(
    patience_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol1, "AFTER_REGISTER_S", patience_s)  # 0.01, longer than 64 KiB of zeros take
    with served1(OVAL) as server, raw(server.address) as memory:
        memory.write(Kind.REGISTER)
        memory.wait(lambda header: header == Kind.RESPONSE | MARK, until=time.monotonic() + 5, what="answer")
        memory.clear()  # the package's client writes 64 KiB of zeros: the header first, and it may be held up there
        if not patience_s:
            memory.wait(is_call, until=time.monotonic() + 5, what="the call that comes too early")
        memory.memory[:] = bytes(SIZE)
        if patience_s:
            assert memory.wait(is_call, until=time.monotonic() + 5, what="call") & 0xFF == Kind.ON_REGISTERED
        else:
            with pytest.raises(GameTimeout):
                memory.wait(is_call, until=time.monotonic() + 0.3, what="call")
        memory.write(Kind.DEREGISTER, INT.pack(0))


def test_an_unknown_request_is_answered() -> None:
    with served1(OVAL) as server, raw(server.address) as memory:
        for kind in (Kind.REGISTER, 65):
            memory.write(kind)
            memory.wait(lambda header: header == Kind.RESPONSE | MARK, until=time.monotonic() + 5, what="answer")
            memory.clear()
            if kind == Kind.REGISTER:
                memory.wait(is_call, until=time.monotonic() + 5, what="call")
        memory.write(Kind.DEREGISTER, INT.pack(0))


@posix_only
def test_a_header_is_never_seen_in_halves() -> None:
    server = Channel(name(), is_server=True)
    program = (
        "import sys, time, struct; from tm_torchrl.game.tmi1.channel import Channel\n"
        f"m = Channel({server.name!r}).memory; end = time.monotonic() + 0.6\n"
        "sys.stdout.write('go'); sys.stdout.flush()\n"
        "while time.monotonic() < end:\n"
        "    for _ in range(1000): m[0:4] = b'\\x0e\\0\\0\\0'; m[0:4] = b'\\x04\\xff\\0\\0'\n"
    )
    writer = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE)
    try:
        assert writer.stdout.read(2) == b"go"
        seen: dict[int, int] = {}
        while writer.poll() is None:
            for _ in range(1000):
                header = server.header
                seen[header] = seen.get(header, 0) + 1
    finally:
        writer.communicate()
        server.close()
    assert set(seen) <= {0, 0x0E, 0xFF04}
    assert seen[0x0E] > 100 and seen[0xFF04] > 100


@posix_only
def test_a_killed_game_is_noticed_and_its_channel_used_again() -> None:
    emulator = EmulatorProcess(["--protocol", "1", "--track", "oval", "--channel", name()])
    client = client_of(str(emulator.address), timeout_s=600.0)
    client.connect()
    client.restart()
    os.kill(emulator.pid, 9)
    begin = time.monotonic()
    with pytest.raises(GameGone, match="the game has ended"):
        client.drive(GAS, num_ticks=5)
    assert time.monotonic() - begin < SLACK_S, "not after the deadline of 600 s"
    assert not client.is_connected
    with pytest.raises(GameGone, match="was left behind by a game that has ended"):
        client.connect(timeout_s=0.3)
    emulator.stop()
    assert not Path("/dev/shm", str(emulator.address)).exists(), "it is removed for the one that was killed"
    with served1(OVAL, channel=str(emulator.address)):  # nobody holds it: another game may have the name
        client.connect()
        client.close()
    assert not Path("/dev/shm", str(emulator.address)).exists()


def test_a_client_that_was_too_slow_is_dropped_and_reconnects() -> None:
    with served1(OVAL) as server:
        client = client_of(server.address, hold_s=0.5, timeout_s=0.3, connect_timeout_s=SLACK_S)
        client.connect()
        client.restart()
        end = time.monotonic() + SLACK_S
        while not server.num_dropped and time.monotonic() < end:
            time.sleep(0.02)
        begin = time.monotonic()
        with pytest.raises(GameTimeout, match="an answer did not come in time"):
            client.drive(GAS, num_ticks=5)
        assert time.monotonic() - begin >= 0.3
        assert server.num_dropped == 1
        client.connect()
        assert race_time_of(client.restart().state) == 0
        client.close()


def test_a_rewind_sends_nothing_before_it_is_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[int] = []
    whole = Channel.write

    def watched(self: Channel, kind: int, content: bytes = b"", *, error: int = 0) -> None:
        if not self.is_server:
            written.append(kind)
        whole(self, kind, content, error=error)

    with served1(OVAL) as server:
        client = client_of(server.address)
        client.connect()
        snapshot = client.restart()
        monkeypatch.setattr(Channel, "write", watched)
        client.rewind(snapshot.state)
        assert written == [Kind.REWIND]
        client.drive(GAS, num_ticks=2)
        assert written[1:] == [Kind.SET_INPUTS, Kind.PROCESSED_CALL, Kind.PROCESSED_CALL, Kind.GET_STATE]
        assert client.time_ms == 20
        client.close()


def test_a_second_client_is_refused_and_a_dead_one_replaced() -> None:
    with served1(OVAL) as server:
        first, second = client_of(server.address), client_of(server.address)
        first.connect()
        first.restart()
        with pytest.raises(GameError, match="another client drives the game at"):
            second.connect(timeout_s=0.3)
        assert not second.is_connected
        first.drive(GAS, num_ticks=5)  # unharmed
        first._disconnect()  # as if its process had been killed: without a word
        second.connect()
        assert race_time_of(second.restart().state) == 0
        second.close()


def test_a_closing_game_says_good_bye() -> None:
    with served1(OVAL) as server:
        client = client_of(server.address)
        client.connect()
        server.stop()
        assert client._memory is not None
        shutdown = Kind.SHUTDOWN | MARK
        client._memory.wait(lambda header: header == shutdown, until=time.monotonic() + SLACK_S, what="shutdown")
        with pytest.raises(GameError):
            client.drive(GAS, num_ticks=5)


@posix_only
def test_two_games_cannot_have_one_channel() -> None:
    with served1(OVAL) as server:
        with pytest.raises(GameError, match="is in use by another game"):
            Channel(server.address, is_server=True)
        client = client_of(server.address)
        client.connect()  # the first one is unharmed
        client.close()
        client.close()


def test_menus_are_explained_and_left_with_a_map() -> None:
    with served1(OVAL, is_in_menus=True) as server:
        client = client_of(server.address, connect_timeout_s=0.5)
        with pytest.raises(GameTimeout, match=r"the open map did not start: .* menus"):
            client.connect()
        second = TMInterface1Client(channel=server.address, map_path="ring", connect_timeout_s=10.0)
        second.connect()
        assert second.time_ms == -2600
        second.load_map("oval")
        assert second.time_ms == -2600
        second.close()


def test_no_game_and_no_package_are_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    if sys.platform != "win32":
        with pytest.raises(GameGone, match=r"there is no channel \w+: .*game=tmi2"):
            client_of(name()).connect(timeout_s=0.1)
    with served1(OVAL) as server:
        monkeypatch.setitem(sys.modules, "tminterface.interface", None)
        with pytest.raises(GameError, match=r"pip install 'tm_torchrl\[tmi1\]'"):
            client_of(server.address).connect()


def test_pictures_and_calls_in_the_wrong_place_are_refused() -> None:
    client = client_of("TMInterface0")
    with pytest.raises(ValueError, match="image_size=64: TMInterface1Client has no pictures"):
        GameWorld(client, OVAL, image_size=64)
    with pytest.raises(CallRefused, match="use TMInterface2Client"):
        client.frame(width=64, height=64)
    with pytest.raises(CallRefused, match="drive: the client is not connected"):
        client.drive(GAS, num_ticks=5)
    for options, message in (
        ({"hold_s": 0.0}, "hold_s=0.0: must be between 0.1 and 2000000"),
        ({"timeout_s": 0.0}, "timeout_s=0.0"),
        ({"setup": ("map Ü",)}, "setup: 'map Ü'"),
    ):
        with pytest.raises(ValueError, match=message):
            TMInterface1Client(**options)  # type: ignore[arg-type]


def test_instances_number_channels_or_let_the_launcher_choose() -> None:
    class Launches:
        def launch(self, instance: int, *, address: int | str) -> None:
            raise GameError(f"asked for {address!r}")

    free = Instances(TMInterface1Client(), num=2, first_address=0, launcher=Launches(), pauses_s=())  # type: ignore[arg-type]
    with pytest.raises(GameError, match="asked for 0"):
        free.client_of(1).connect()
    instances = Instances(TMInterface1Client(), num=2, first_address="TMInterface9")
    assert [instances.client_of(i).address for i in range(3)] == ["TMInterface9", "TMInterface10", "TMInterface11"]
    with pytest.raises(ValueError, match="first_address='TMInterface'"):
        Instances(TMInterface1Client(), first_address="TMInterface")


# ---------------------------------------------------------------------- a game that sends invalid messages


def invalid_game(tell: Callable[[Channel, int], None]) -> Callable[[Channel], None]:
    """A game up to its first run step after the registration; then ``tell`` answers each request."""

    def serve(memory: Channel) -> None:
        until = time.monotonic() + SLACK_S

        def hear() -> int:
            return memory.wait(lambda h: h & MARK == MARK and h & 0xFF >= Kind.REGISTER, until=until, what="x") & 0xFF

        hear()
        memory.write(Kind.RESPONSE)
        memory.wait(lambda h: h == 0, until=until, what="x")
        memory.write(Kind.ON_REGISTERED)
        time_ms = -20
        while True:
            kind = hear()
            if kind != Kind.PROCESSED_CALL:
                tell(memory, kind)
                continue
            time_ms += 10
            memory.clear()
            memory.write(Kind.ON_RUN_STEP, INT.pack(time_ms))

    return serve


def answer(content: bytes, error: int = 0) -> Callable[[Channel, int], None]:
    def tell(memory: Channel, kind: int) -> None:
        memory.write(Kind.RESPONSE, content if kind == Kind.GET_STATE else b"", error=error)

    return tell


def state_with(num_states: int, num_times: int) -> bytes:
    content = bytearray(new_state(num_checkpoints=1))
    INT.pack_into(content, HEAD_BYTES - 4, num_states)
    INT.pack_into(content, HEAD_BYTES + 4, num_times)
    return bytes(content)


def garbage(memory: Channel, kind: int) -> None:
    memory.memory[0:12] = b"\xff\0\x12\x34not whole"[:12]  # without the mark that makes a message whole


@pytest.mark.parametrize(
    ("tell", "error", "message"),
    [
        (answer(state_with(10**9, 1)), ProtocolError, "has 1000000000 checkpoints"),
        (answer(state_with(-1, 1)), ProtocolError, "has -1 checkpoints"),
        (answer(state_with(1, -5)), ProtocolError, "has -5 checkpoint times"),
        (answer(state_with(1, 90_000)), ProtocolError, "out of step"),
        (answer(bytes(100), error=4), ProtocolError, "the game has no state"),
        (lambda memory, kind: memory.write(Kind.ON_CHECKPOINT, TWO_INTS.pack(9, 2)), GameTimeout, "an answer"),
        (garbage, GameTimeout, "an answer"),
    ],
    ids=["too many states", "negative states", "negative times", "too many times", "no player", "a call", "garbage"],
)
def test_a_game_that_sends_invalid_messages_is_left(
    tell: Callable[[Channel, int], None], error: type[GameError], message: str
) -> None:
    server = Channel(name(), is_server=True)

    def serve() -> None:
        with contextlib.suppress(GameTimeout, ValueError):

            def after_setup(memory: Channel, kind: int) -> None:  # honest until the lie comes in the race
                (tell if kind in (Kind.GET_STATE, Kind.SET_INPUTS) else answer(b""))(memory, kind)

            invalid_game(after_setup)(server)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    client = client_of(server.name, connect_timeout_s=SLACK_S)
    try:
        client.connect()
        with pytest.raises(error, match=message):
            client.restart(timeout_s=0.4 if error is GameTimeout else SLACK_S)
        assert not client.is_connected
    finally:
        client.close()
        server.close()
        thread.join(6.0)


def test_contents_that_are_too_long_are_refused_before_anything_is_written() -> None:
    server = Channel(name(), is_server=True)
    server.write(Kind.ON_RUN_STEP, INT.pack(7))
    with pytest.raises(ValueError, match=f"content has {SIZE} bytes: must have at most {SIZE - CONTENT}"):
        server.write(Kind.RESPONSE, bytes(SIZE))
    assert (server.kind, server.read(4)) == (Kind.ON_RUN_STEP, INT.pack(7))
    server.close()
    with pytest.raises(ValueError, match=r"channel='\.\./etc/passwd'"):
        Channel("../etc/passwd")
