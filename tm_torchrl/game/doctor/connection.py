"""Checks of a running game: its port, the connection, its speed, and its pictures."""

from __future__ import annotations

import time
from collections.abc import Sequence

from tm_torchrl.game.client import Client
from tm_torchrl.game.doctor.check import Check, CheckResult, Level
from tm_torchrl.game.doctor.failures import fix_for
from tm_torchrl.game.errors import GameError, GameGone, GameTimeout, ProtocolError
from tm_torchrl.game.instances.ports import is_port_taken
from tm_torchrl.world.actions import ACTIONS, FORWARD, TICK_MS, TICKS_PER_ACTION

NUM_STEPS = 40  # 2 s of the race
SLOW = 2.0  # times real time; training needs 20 and more
EDGE = 64


def check_port(port: int) -> CheckResult:
    """Check that a game listens at its port, the plugin's ``custom_port``."""
    if is_port_taken(port):
        return CheckResult("port", Level.OK, f"a program listens at 127.0.0.1:{port}")
    text = f"nothing listens at 127.0.0.1:{port}: the game is not running, or has no link plugin"
    fix = f'start the game with /configstring="set custom_port {port}"; if it is running: {fix_for("no plugin")}'
    return CheckResult("port", Level.FAIL, text, fix)


def check_port_is_free(port: int) -> CheckResult:
    """Check that no program listens at a port, so that a game can."""
    if is_port_taken(port):
        return CheckResult("port", Level.WARN, f"127.0.0.1:{port} is already taken", fix_for("port taken"))
    return CheckResult("port", Level.OK, f"127.0.0.1:{port} is free for a game")


class GameChecks:
    """Checks that share one connection, in order: connection, speed, pictures.

    Args:
        client: Client of the game; its race will be restarted.
        timeout_s: Timeout of each call.
    """

    def __init__(self, client: Client, *, timeout_s: float = 10.0) -> None:
        self.client = client
        self.timeout_s = timeout_s

    def connection(self) -> CheckResult:
        """Connect, and wait for the start signal."""
        begin = time.perf_counter()
        try:
            self.client.connect(timeout_s=self.timeout_s)
            self.client.restart(timeout_s=self.timeout_s)
        except GameError as error:
            return CheckResult("connection", Level.FAIL, str(error), _fix(error))
        took = time.perf_counter() - begin
        return CheckResult("connection", Level.OK, f"reached the start signal after {took:.1f} s")

    def speed(self) -> CheckResult:
        """Drive 2 s with full gas."""
        if not self.client.is_connected:
            return CheckResult("speed", Level.FAIL, "not measured without a connection", "fix the connection first")
        begin = time.perf_counter()
        try:
            for _ in range(NUM_STEPS):
                self.client.drive(ACTIONS[FORWARD], num_ticks=TICKS_PER_ACTION, timeout_s=self.timeout_s)
        except GameError as error:
            return CheckResult("speed", Level.FAIL, str(error), _fix(error))
        took = time.perf_counter() - begin
        raced = NUM_STEPS * TICKS_PER_ACTION * TICK_MS / 1000.0
        text = f"{NUM_STEPS / took:,.0f} decisions a second, {raced / took:.1f} times real time"
        if raced / took < SLOW:
            fix = f"raise game.client.speed; in the console: set speed 80; {fix_for('slow when unfocused')}"
            return CheckResult("speed", Level.WARN, text, fix)
        return CheckResult("speed", Level.OK, text)

    def pictures(self) -> CheckResult:
        """Request a picture, and check that it is not all the same grey."""
        if not self.client.has_frames:
            return CheckResult(
                "pictures", Level.OK, f"{type(self.client).__name__} has none; train on the float vector"
            )
        if not self.client.is_connected:
            return CheckResult("pictures", Level.FAIL, "not checked without a connection", "fix the connection first")
        begin = time.perf_counter()
        try:
            picture = self.client.frame(width=EDGE, height=EDGE, timeout_s=self.timeout_s)
        except GameError as error:
            return CheckResult("pictures", Level.FAIL, str(error), fix_for("game gone"))
        took = time.perf_counter() - begin
        if picture.min() == picture.max():
            text = f"one of {EDGE} x {EDGE} came, but every pixel is {int(picture.min())}"
            return CheckResult("pictures", Level.WARN, text, "do not minimise the game; try cam 2 or another camera")
        return CheckResult("pictures", Level.OK, f"one of {EDGE} x {EDGE} after {1000 * took:.0f} ms")

    def checks(self) -> Sequence[tuple[str, Check]]:
        """All checks, to be run in this order; close the client afterwards."""
        return (("connection", self.connection), ("speed", self.speed), ("pictures", self.pictures))


def _fix(error: GameError) -> str:
    if isinstance(error, ProtocolError):
        return fix_for("out of step")
    if isinstance(error, GameTimeout):
        return fix_for("map not found")
    if isinstance(error, GameGone):
        return fix_for("game gone")
    return fix_for("in the menus")
