"""The steady client before it has ever met its game: what a person must mend first is told at once, and once."""

from __future__ import annotations

import contextlib
import logging
import socket
import sys
import threading
import time

import numpy as np
import pytest

from tests.game.ways import served
from tm_torchrl.game import GameError, GameGone, GameWorld, NobodyThereError, TMInterface2Client
from tm_torchrl.game.emulator.process import EmulatorLauncher
from tm_torchrl.game.instances.instances import Instances
from tm_torchrl.game.instances.launcher import GameLauncher
from tm_torchrl.game.instances.ports import free_port
from tm_torchrl.game.instances.reconnecting_client import SteadyClient
from tm_torchrl.game.tmi2 import connection as link_module
from tm_torchrl.tracks import from_centreline, load_track

LONG = (30.0,) * 5  # pauses that no test waits for


def test_a_game_that_nobody_started_is_waited_for_once_and_told_meanwhile(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(link_module, "TELL_AFTER_S", 0.3)
    port = free_port()
    client = SteadyClient(TMInterface2Client(port=port, connect_timeout_s=1.5), pauses_s=LONG)
    begin = time.monotonic()
    with caplog.at_level(logging.WARNING), pytest.raises(NobodyThereError, match=f"nobody answers at 127.0.0.1:{port}"):
        client.connect()
    assert time.monotonic() - begin < 10.0, "it was tried again and again, for minutes"
    (record,) = caplog.records
    assert record.getMessage().startswith(f"nobody answers at 127.0.0.1:{port}")
    assert record.getMessage().endswith("Waiting for it for 1 s")
    assert client.num_reconnects == 0


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse where a full queue waits here")
def test_a_game_that_another_training_holds_is_not_called_absent() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as busy, contextlib.ExitStack() as others:
        port = busy.getsockname()[1]
        for _ in range(4):  # more than the system lets wait at a door that nobody opens
            other = others.enter_context(socket.socket())
            other.setblocking(False)
            other.connect_ex(("127.0.0.1", port))
        client = SteadyClient(TMInterface2Client(port=port, connect_timeout_s=0.5), pauses_s=LONG)
        with pytest.raises(NobodyThereError, match="another training drives it") as found:
            client.connect()
    assert "Is the game running" not in str(found.value)


def test_a_person_with_one_game_is_told_how_to_train_in_it() -> None:
    port = free_port()
    instances = Instances(TMInterface2Client(connect_timeout_s=0.3), first_address=port - 1)
    with pytest.raises(NobodyThereError, match=r"a single game does both with game\.num=1 .* collector=single$"):
        instances.client_of(instances.home).connect()
    with pytest.raises(NobodyThereError, match=r"use game=tmi1$"):
        SteadyClient(TMInterface2Client(port=port, connect_timeout_s=0.3)).connect()


def test_a_wrong_command_and_a_taken_port_are_told_at_once() -> None:
    begin = time.monotonic()
    wrong = SteadyClient(
        TMInterface2Client(), launcher=GameLauncher("/no/such/loader {port}"), address=0, pauses_s=LONG
    )
    with pytest.raises(GameError, match="game 0 could not be started"):
        wrong.connect()
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        taken = SteadyClient(TMInterface2Client(), launcher=EmulatorLauncher("oval"), address=port, pauses_s=LONG)
        with pytest.raises(GameError, match=f"port {port} of emulator 0 is taken: .* choose other ports"):
            taken.connect()
    assert time.monotonic() - begin < 15.0


def test_a_game_in_its_menus_is_told_at_once() -> None:
    with served(load_track("oval"), is_in_menus=True) as server:
        client = SteadyClient(TMInterface2Client(port=server.port), pauses_s=LONG)
        with pytest.raises(GameError, match="stands in its menus: open a map in it, or give map_path"):
            client.connect()
        client.close()


def test_a_game_that_comes_late_is_met() -> None:
    port = free_port()

    def come_late() -> None:
        time.sleep(0.7)
        with served(load_track("oval"), port=port, countdown_ms=0):
            gone.wait(20.0)

    gone = threading.Event()
    late = threading.Thread(target=come_late)
    late.start()
    client = SteadyClient(TMInterface2Client(port=port, connect_timeout_s=30.0), pauses_s=())
    try:
        client.connect()
        assert client.is_connected
    finally:
        client.close()
        gone.set()
        late.join(20.0)


def test_once_met_a_game_that_goes_is_looked_for_again() -> None:
    told: list[str] = []
    with served(load_track("oval"), countdown_ms=0) as server:
        inner = TMInterface2Client(port=server.port, connect_timeout_s=0.3)
        client = SteadyClient(inner, pauses_s=(0.0, 0.0), log=told.append)
        client.connect()
    with pytest.raises(GameGone):
        client.restart()
    assert client.num_reconnects == 2
    assert told[0].startswith(f"game 0 at {server.port}: trying again in 0 s, since ")


def test_a_map_that_is_not_the_track_s_is_told() -> None:
    oval = load_track("oval")
    line = oval.zones.centers[20:-1000].astype(np.float64) + np.array([300.0, 0.0, 400.0])
    elsewhere = from_centreline(line, width=24.0, name="elsewhere", num_checkpoints=1, is_drivable=False)
    with served(oval, countdown_ms=0) as server:
        world = GameWorld(TMInterface2Client(port=server.port), elsewhere)
        try:
            for _ in range(2):
                with pytest.raises(GameError, match=r"starts 5\d\d m from where track 'elsewhere' does"):
                    world.reset()
        finally:
            world.close()
