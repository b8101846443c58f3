"""One test for each kind of defect that fuzzing found between client and game, in both protocols."""

from __future__ import annotations

import random
from itertools import chain, cycle

import numpy as np
import pytest

from tests.game.emulator.test_fuzz_protocol1 import Clock, Game, client_of, clock, message
from tm_torchrl.game import GameTimeout, TMInterface2Client
from tm_torchrl.game.emulator.race import EmulatedRace
from tm_torchrl.game.state_layout import HEAD, head_of, new_state
from tm_torchrl.game.tmi1.messages import INT, TWO_INTS, Kind
from tm_torchrl.game.tmi2.connection import Connection
from tm_torchrl.game.tmi2.messages import Message
from tm_torchrl.sim.state import STATE
from tm_torchrl.tracks import load_track
from tm_torchrl.world.actions import ACTIONS
from tm_torchrl.world.car_row import CAR_ROW

__all__ = ["clock"]  # a fixture
OVAL = load_track("oval")


@pytest.mark.parametrize(
    "call",
    [
        message(Kind.ON_RUN_STEP, INT.pack(-1_000)),  # a clock that stands
        message(Kind.ON_LAP, INT.pack(0)),
        message(Kind.ON_CHECKPOINT, TWO_INTS.pack(1, 3)),
    ],
    ids=["run step", "lap", "checkpoint"],
)
def test_endless_calls_of_a_game_with_1_x_end_at_the_deadline(
    call: bytes, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("tminterface")
    game = Game(random.Random(0), share=0.0)
    client = client_of(game, monkeypatch)
    client.connect()
    game.stuck_on = call
    begin = clock.now
    with pytest.raises(GameTimeout, match="the awaited run step did not come in time"):
        client.drive(ACTIONS[0], num_ticks=5)
    assert 1.0 <= clock.now - begin < 1.1
    assert not client.is_connected


class Endless(Connection):
    """A connection whose game repeats the same message without end."""

    def __init__(self, content: bytes) -> None:
        super().__init__("nowhere", 0)
        self._content = chain(TWO_INTS.pack(Message.ON_CONNECT, 0), cycle(content))

    def open(self) -> None: ...

    def send(self, content: bytes) -> None: ...

    def read_bytes(self, number: int) -> bytes:
        return bytes(next(self._content) for _ in range(number))


@pytest.mark.parametrize("is_step", [True, False], ids=["run step", "lap"])
def test_endless_messages_of_a_game_with_2_x_end_at_the_deadline(is_step: bool) -> None:
    client = TMInterface2Client(connect_timeout_s=0.1)
    state = bytes(new_state(num_checkpoints=1))
    told = INT.pack(Message.RUN_STEP) + INT.pack(5_000) if is_step else INT.pack(Message.LAP) + TWO_INTS.pack(1, 3)
    client._connection = Endless(told + INT.pack(len(state)) + state)  # never a countdown
    with pytest.raises(GameTimeout, match=r"did not start: .*did not reach the awaited run step within 0\.1 s"):
        client.connect()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda state: head_of(state)["velocity"].__setitem__(1, np.nan), "invalid numbers"),
        (lambda state: head_of(state)["position"].__setitem__(0, 1e30), "invalid numbers"),
        (
            lambda state: head_of(state).__setitem__("race_time", -15),
            "race time is -15 ms: must be whole ticks of 10 ms",
        ),
        (lambda state: head_of(state).__setitem__("race_time", -30), "race time is -30 ms"),
        (lambda state: in_spare(state, "track", 7.0), "track number is 7"),
        (lambda state: in_spare(state, "steer", np.inf), "invalid numbers"),
    ],
)
def test_an_emulator_refuses_invalid_states(change: object, words: str) -> None:
    race = EmulatedRace(OVAL, countdown_ms=20)
    before = race.state()
    race.rewind(before)
    state = bytearray(before)
    change(state)  # type: ignore[operator]
    with pytest.raises(ValueError, match=words):
        race.rewind(bytes(state))
    assert race.state() == before, "nothing has been changed yet"


def in_spare(state: bytearray, name: str, value: float) -> None:
    """Change a value in the spare bytes: a mark of 16 bytes, then the simulator's own floats."""
    at = HEAD.fields["spare"][1] + 16 + 4 * (STATE.start(name) - CAR_ROW.size)  # type: ignore[index]
    np.frombuffer(state, "<f4", count=1, offset=at)[0] = value


def test_a_car_outside_the_world_has_a_state() -> None:
    race = EmulatedRace(OVAL, countdown_ms=20)
    race._row[CAR_ROW["velocity"]] = np.nan
    assert head_of(race.state())["display_speed"] == 0
