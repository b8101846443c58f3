"""The reconnecting client: errors that a person must fix first are raised at once, others lead to new attempts."""

from __future__ import annotations

import contextlib
import logging
import re
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
from tm_torchrl.game.instances.reconnecting_client import ReconnectingClient
from tm_torchrl.game.tmi2 import connection as connection_module
from tm_torchrl.tracks import from_centreline, load_track

LONG = (600.0,) * 5  # pauses that no test waits for
SLACK_S = 60.0  # more than a busy machine is late


def test_a_missing_game_is_awaited_once_with_a_warning(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(connection_module, "WARN_AFTER_S", 0.3)
    port = free_port()
    client = ReconnectingClient(TMInterface2Client(port=port, connect_timeout_s=1.5), pauses_s=LONG)
    begin = time.monotonic()
    with caplog.at_level(logging.WARNING), pytest.raises(NobodyThereError, match=rf"custom_port {port}"):
        client.connect()
    assert time.monotonic() - begin < SLACK_S, "it was tried again"
    (record,) = caplog.records
    assert record.getMessage().startswith(f"nobody answers at 127.0.0.1:{port}")
    assert re.search(r"Waiting for \d s$", record.getMessage())
    assert client.num_reconnects == 0


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse where a full queue waits here")
def test_a_game_that_another_training_holds_is_not_called_absent() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as busy, contextlib.ExitStack() as others:
        port = busy.getsockname()[1]
        for _ in range(4):  # more connections than the system queues
            other = others.enter_context(socket.socket())
            other.setblocking(False)
            other.connect_ex(("127.0.0.1", port))
        client = ReconnectingClient(TMInterface2Client(port=port, connect_timeout_s=0.5), pauses_s=LONG)
        with pytest.raises(NobodyThereError, match="another training drives it") as found:
            client.connect()
    assert "Is the game running" not in str(found.value)


def test_with_a_single_game_the_error_says_how_to_train_in_it() -> None:
    port = free_port()
    instances = Instances(TMInterface2Client(connect_timeout_s=0.3), first_address=port - 1)
    with pytest.raises(NobodyThereError, match=r"in a single game, use game\.num=1 .* collector=single$"):
        instances.client_of(instances.evaluation_instance).connect()
    with pytest.raises(NobodyThereError, match=r"use game=tmi1$"):
        ReconnectingClient(TMInterface2Client(port=port, connect_timeout_s=0.3)).connect()


def test_a_wrong_command_and_a_taken_port_are_reported_at_once() -> None:
    begin = time.monotonic()
    wrong = ReconnectingClient(
        TMInterface2Client(), launcher=GameLauncher("/no/such/loader {port}"), address=0, pauses_s=LONG
    )
    with pytest.raises(GameError, match="game 0 could not be started"):
        wrong.connect()
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        taken = ReconnectingClient(TMInterface2Client(), launcher=EmulatorLauncher("oval"), address=port, pauses_s=LONG)
        with pytest.raises(GameError, match=f"port {port} of emulator 0 is taken"):
            taken.connect()
    assert time.monotonic() - begin < SLACK_S


def test_a_game_in_its_menus_is_reported_at_once() -> None:
    with served(load_track("oval"), is_in_menus=True) as server:
        client = ReconnectingClient(TMInterface2Client(port=server.port), pauses_s=LONG)
        with pytest.raises(GameError, match="shows its menus"):
            client.connect()
        client.close()


def test_a_game_that_starts_late_is_awaited() -> None:
    port = free_port()

    def come_late() -> None:
        time.sleep(0.7)
        with served(load_track("oval"), port=port, countdown_ms=0):
            gone.wait(20.0)

    gone = threading.Event()
    late = threading.Thread(target=come_late)
    late.start()
    client = ReconnectingClient(TMInterface2Client(port=port, connect_timeout_s=30.0), pauses_s=())
    try:
        client.connect()
        assert client.is_connected
    finally:
        client.close()
        gone.set()
        late.join(20.0)


def test_a_game_that_ends_after_a_connection_is_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    with served(load_track("oval"), countdown_ms=0) as server:
        inner = TMInterface2Client(port=server.port, connect_timeout_s=0.3)
        client = ReconnectingClient(inner, pauses_s=(0.0, 0.0))
        client.connect()
    with pytest.raises(GameGone):
        client.restart()
    assert client.num_reconnects == 2
    assert caplog.records[0].getMessage().startswith(f"game 0 at {server.port}: trying again in 0 s after: ")


def test_a_map_of_another_track_is_refused() -> None:
    oval = load_track("oval")
    line = oval.zones.centers[20:-1000].astype(np.float64) + np.array([300.0, 0.0, 400.0])
    elsewhere = from_centreline(line, width=24.0, name="elsewhere", checkpoints=1, is_drivable=False)
    with served(oval, countdown_ms=0) as server:
        world = GameWorld(TMInterface2Client(port=server.port), elsewhere)
        try:
            for _ in range(2):
                with pytest.raises(GameError, match=r"starts 5\d\d m from the start of track 'elsewhere'"):
                    world.reset()
        finally:
            world.close()
