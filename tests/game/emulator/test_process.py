"""``python -m tm_torchrl.game.emulator`` prints where it listens, and ends with the process that started it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time

import pytest

from tm_torchrl.game import GameGone, TMInterface2Client
from tm_torchrl.game.emulator.__main__ import parse
from tm_torchrl.game.emulator.process import EmulatorLauncher, EmulatorProcess
from tm_torchrl.game.instances.launcher import RunningGame
from tm_torchrl.game.instances.protocol import LaunchedGame
from tm_torchrl.world.actions import ACTIONS

PARENT = """
import os, sys
from tm_torchrl.game.emulator.process import EmulatorLauncher
emulator = EmulatorLauncher("oval").launch(0, address=0)
print(emulator.pid, emulator.address, flush=True)
sys.stdin.read(1)
os._exit(1)  # as a crash: nothing is closed or stopped
"""


def test_it_ends_when_its_parent_dies() -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=os.environ, text=True
    )
    assert parent.stdin is not None and parent.stdout is not None
    try:
        pid, port = map(int, parent.stdout.readline().split())
        if hasattr(os, "getsid"):
            assert os.getsid(pid) != os.getsid(0), "Ctrl-C in a terminal would end it before its parent"
        client = TMInterface2Client(port=port, connect_timeout_s=30.0)
        client.connect()
        client.restart()
        assert client.drive(ACTIONS[0], num_ticks=5).state
        parent.stdin.write("x")
        parent.stdin.flush()
        parent.wait(10.0)
        end = time.monotonic() + 30.0
        with pytest.raises(GameGone):  # noqa: PT012  (it may answer once more)
            while time.monotonic() < end:
                client.drive(ACTIONS[0], num_ticks=5)
        with pytest.raises(ConnectionError):  # noqa: PT012  (its last breath may be a moment later)
            while time.monotonic() < end:
                socket.create_connection(("127.0.0.1", port), timeout=5.0).close()
                time.sleep(0.05)
    finally:
        parent.kill()
        parent.wait()
        parent.stdin.close()
        parent.stdout.close()


@pytest.mark.parametrize("kind", [EmulatorProcess, RunningGame])
def test_launched_games_have_the_members_of_the_protocol(kind: type) -> None:
    assert {name for name in vars(LaunchedGame) if not name.startswith("_")} <= set(dir(kind))


def test_a_failed_start_is_reported_at_once() -> None:
    begin = time.monotonic()
    with pytest.raises(GameGone, match="the emulator ended at once, with code 1"):
        EmulatorLauncher("ovel").launch(0, address=0)
    assert time.monotonic() - begin < 60.0


def test_it_listens_at_loopback_by_default() -> None:
    options = parse(["--track", "oval"])
    assert (options.host, options.port, options.protocol, options.real_time) == ("127.0.0.1", 8478, 2, False)
