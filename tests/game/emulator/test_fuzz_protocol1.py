"""Invalid messages of a game with TMInterface 1.x lead to typed errors only, and every call ends."""

from __future__ import annotations

import mmap
import random
from collections.abc import Callable

import pytest

from tests.mutated_bytes import mutated
from tm_torchrl.game import GameError, TMInterface1Client
from tm_torchrl.game.state_layout import SMALLEST, check_state, head_of, new_state, race_time_of, row_from_state
from tm_torchrl.game.tmi1 import channel
from tm_torchrl.game.tmi1 import client as tminterface1
from tm_torchrl.game.tmi1.channel import CONTENT, HEADER, MARK, SIZE, TWO, Channel
from tm_torchrl.game.tmi1.messages import INT, TWO_INTS, Kind
from tm_torchrl.tracks import load_track
from tm_torchrl.world.actions import ACTIONS

pytest.importorskip("tminterface")
OVAL = load_track("oval")
SLOW = [pytest.param(seed, 10_000, marks=pytest.mark.slow) for seed in range(1, 11)]
ODD_INTS = (0, -1, 1, 5, 15, -2600, 10**6, 2**31 - 1, -(2**31))


class Clock:
    """A clock that advances whenever it is read, so that tests do not wait."""

    def __init__(self, step_s: float = 0.002) -> None:
        self.now, self.step_s = 0.0, step_s

    def monotonic(self) -> float:
        self.now += self.step_s
        return self.now

    def sleep(self, seconds: float) -> None:
        assert seconds >= 0
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Replaces the time in all modules that wait."""
    made = Clock()
    for module in (channel, tminterface1):
        monkeypatch.setattr(module, "time", made)
    monkeypatch.setattr(channel, "pause", lambda: None)
    return made


def message(kind: int, content: bytes = b"", *, error: int = 0) -> bytes:
    """A message's bytes in the shared memory."""
    return TWO.pack(kind | MARK, error) + content


class Memory(Channel):
    """Shared memory whose other end is a function, called whenever the header is read."""

    def __init__(self, other_end: Callable[[Memory, int], bytes | None], *, is_server: bool) -> None:
        self.name, self.size, self.is_server = "TMInterface0", SIZE, is_server
        self.memory = mmap.mmap(-1, SIZE)
        self._other_end = other_end

    @property
    def header(self) -> int:
        found = int(HEADER.unpack_from(self.memory)[0])
        said = self._other_end(self, found)
        if said is None:
            return found
        said = said[:SIZE]
        self.memory[: len(said)] = said
        return int(HEADER.unpack_from(self.memory)[0])

    def has_server(self) -> bool:
        return True

    def close(self) -> None:
        self.memory.close()


class Game:
    """Answers like a game in a race, but some of its messages are invalid.

    Args:
        generator: Draws the invalid messages.
        share: Share of invalid messages.
    """

    def __init__(self, generator: random.Random, *, share: float) -> None:
        self.generator, self.share = generator, share
        self.time_ms = 5_000
        self.state = new_state(num_checkpoints=3)
        self.is_registering = False
        self.stuck_on: bytes | None = None  # a call that it makes again and again

    def __call__(self, memory: Memory, header: int) -> bytes | None:
        kind = header & 0xFF
        if header == 0 and self.is_registering:
            self.is_registering = False
            return message(Kind.ON_REGISTERED)
        if header & MARK != MARK or kind < Kind.REGISTER:
            return None
        said = self.answer(memory, kind)
        return said if said is self.stuck_on or self.generator.random() >= self.share else self.corrupt(said)

    def answer(self, memory: Memory, kind: int) -> bytes:
        if kind == Kind.PROCESSED_CALL:
            if self.stuck_on is not None:
                return self.stuck_on
            if self.generator.random() < 0.03:
                return message(Kind.ON_CHECKPOINT, TWO_INTS.pack(1, 3))
            self.time_ms += 10
            return message(Kind.ON_RUN_STEP, INT.pack(self.time_ms))
        if kind == Kind.REWIND:
            self.time_ms = race_time_of(memory.read(SMALLEST))
        if kind == Kind.GIVE_UP:
            self.time_ms = -30
        if kind == Kind.DEREGISTER:
            return bytes(CONTENT)
        self.is_registering = kind == Kind.REGISTER
        head_of(self.state)["race_time"] = self.time_ms
        return message(Kind.RESPONSE, bytes(self.state) if kind == Kind.GET_STATE else b"")

    def corrupt(self, truth: bytes) -> bytes:
        draw = self.generator
        kind = draw.randrange(8)
        if kind == 0:
            return mutated(truth, draw)
        if kind == 1:
            return truth[:CONTENT] + mutated(truth[CONTENT:], draw)
        if kind == 2:
            return message(draw.randrange(256), INT.pack(draw.choice(ODD_INTS)) * 2, error=draw.choice(ODD_INTS))
        if kind == 3:
            self.time_ms = draw.choice(ODD_INTS[:-2])
            return message(Kind.ON_RUN_STEP, INT.pack(draw.choice(ODD_INTS)))
        if kind == 4:
            return bytes(CONTENT)
        if kind == 5:
            return draw.randbytes(draw.randint(0, 40))
        if kind == 6:
            self.stuck_on = message(draw.randrange(2, 11), INT.pack(draw.choice(ODD_INTS)) * 2)
        return message(Kind.ON_CHECKPOINT, TWO_INTS.pack(draw.choice(ODD_INTS), draw.choice(ODD_INTS)))


def client_of(game: Callable[[Memory, int], bytes | None], monkeypatch: pytest.MonkeyPatch) -> TMInterface1Client:
    client = TMInterface1Client(timeout_s=1.0, connect_timeout_s=1.0)
    monkeypatch.setattr(tminterface1, "open_channel", lambda name, *, until: Memory(game, is_server=False))
    return client


def converse(client: TMInterface1Client) -> None:
    """A short race with a rewind; all states must be readable."""
    client.connect()
    start = client.restart()
    for action in (0, 1, 2):
        moment = client.drive(ACTIONS[action], num_ticks=5)
        check_state(moment.state)
        row_from_state(moment.state)
    client.rewind(start.state)
    client.drive(ACTIONS[0], num_ticks=5)
    client.close()


@pytest.mark.parametrize(("seed", "num"), [(0, 600), *SLOW])
def test_a_client_answers_any_messages_with_typed_errors(
    seed: int, num: int, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    converse(client_of(Game(random.Random(0), share=0.0), monkeypatch))
    generator = random.Random(seed)
    num_errors = 0
    for _ in range(num):
        client = client_of(Game(generator, share=generator.choice([0.01, 0.05, 0.5])), monkeypatch)
        begin = clock.now
        try:
            converse(client)
        except GameError:
            num_errors += 1
            assert not client.is_connected
        assert clock.now - begin < 20.0  # six calls with a deadline of 1 s, and their last looks
    assert num // 2 < num_errors < num
