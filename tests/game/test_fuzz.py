"""Mutated bytes of a game with TMInterface 2.x lead to typed errors only, and every call ends."""

from __future__ import annotations

import random
from struct import Struct
from typing import Any

import pytest

from tests.game.ways import served
from tests.mutated_bytes import mutated
from tm_torchrl.game import GameError, GameGone, TMInterface2Client
from tm_torchrl.game.tmi2.connection import Connection
from tm_torchrl.tracks import load_track
from tm_torchrl.world.actions import ACTIONS

OVAL = load_track("oval")
SLOW = [pytest.param(seed, 10_000, marks=pytest.mark.slow) for seed in range(1, 11)]


class Record(Connection):
    """A connection that records the bytes it reads."""

    heard = b""

    def read_bytes(self, number: int) -> bytes:
        found = super().read_bytes(number)
        self.heard += found
        return found


class Replayed:
    """A connection whose game sends the given bytes, and then ends."""

    host, port = "nowhere", 0

    def __init__(self, content: bytes) -> None:
        self._rest = content

    def set_deadline(self, timeout_s: float) -> None: ...

    def check_time(self, what: str) -> None: ...

    def open(self) -> None: ...

    def close(self) -> None: ...

    def send(self, content: bytes) -> None: ...

    def read(self, kind: Struct) -> tuple[Any, ...]:
        return kind.unpack(self.read_bytes(kind.size))

    def read_bytes(self, number: int) -> bytes:
        if len(self._rest) < number:
            raise GameGone("the bytes are over")
        found, self._rest = self._rest[:number], self._rest[number:]
        return found


def converse(client: TMInterface2Client) -> None:
    """A short race, with a picture and a rewind."""
    client.connect()
    start = client.restart()
    for action in (0, 0, 1, 2):
        client.drive(ACTIONS[action], num_ticks=5)
    client.frame(width=8, height=8)
    client.rewind(start.state)
    client.drive(ACTIONS[0], num_ticks=5)
    client.is_in_menus()
    client.inputs_text()


@pytest.mark.parametrize(("seed", "num"), [(0, 600), *SLOW])
def test_a_client_answers_any_bytes_with_typed_errors(seed: int, num: int) -> None:
    with served(OVAL, countdown_ms=100) as server:
        client = TMInterface2Client(port=server.port, timeout_s=5.0)
        client._connection = recorded = Record("127.0.0.1", server.port)
        converse(client)
        client.close()
    generator = random.Random(seed)
    num_errors = 0
    for _ in range(num):
        client = TMInterface2Client()
        client._connection = Replayed(mutated(recorded.heard, generator))  # type: ignore[assignment]
        try:
            converse(client)
        except GameError:
            num_errors += 1
            assert not client.is_connected
    assert num_errors > num // 2
