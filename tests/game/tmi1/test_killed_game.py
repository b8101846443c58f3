"""A game with TMInterface 1.x that is killed in a race is restarted, and the race continues."""

from __future__ import annotations

import os
import sys

import pytest

from tests.game.ways import served1
from tm_torchrl.game import TMInterface1Client
from tm_torchrl.game.client import Client
from tm_torchrl.game.emulator.process import EmulatorLauncher, EmulatorProcess
from tm_torchrl.game.instances.reconnecting_client import ReconnectingClient
from tm_torchrl.tracks import load_track
from tm_torchrl.world.actions import ACTIONS

pytest.importorskip("tminterface")


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="uses a POSIX signal")
def test_a_killed_game_is_restarted_and_the_race_continues() -> None:
    def states(client: Client, *, kill_at: int | None = None) -> list[bytes]:
        found = [client.restart().state]
        for i in range(40):
            if i == kill_at:
                assert isinstance(client, ReconnectingClient)
                assert isinstance(client._launched, EmulatorProcess)
                os.kill(client._launched.pid, 9)
            found.append(client.drive(ACTIONS[i % 3], num_ticks=5).state)
        return found

    launcher = EmulatorLauncher("oval", protocol=1)
    reconnecting = ReconnectingClient(TMInterface1Client(timeout_s=5.0), launcher=launcher, address=0)
    try:
        broken = states(reconnecting, kill_at=17)
    finally:
        reconnecting.close()
    with served1(load_track("oval")) as server:
        client = TMInterface1Client(channel=server.address)
        client.connect()
        assert broken == states(client)
        client.close()
    assert reconnecting.num_relaunches == 1
