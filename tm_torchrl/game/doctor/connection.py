"""Checks of a game that runs: its port, the connection, how fast it drives, whether pictures arrive."""

from __future__ import annotations

import time
from collections.abc import Sequence

from tm_torchrl.game.client import Client
from tm_torchrl.game.doctor.failures import cure_of
from tm_torchrl.game.doctor.finding import Check, Finding, Level
from tm_torchrl.game.errors import GameError, GameGone, GameTimeout, ProtocolError
from tm_torchrl.game.instances.ports import is_port_taken
from tm_torchrl.world.actions import ACTIONS, FORWARD, TICK_MS, TICKS_PER_ACTION

NUM_STEPS = 40  # 2 s of the race
SLOW = 2.0  # times the race's own speed; training wants 20 and more
EDGE = 64


def check_port(port: int, *, host: str = "127.0.0.1") -> Finding:
    """Whether a game listens at its port.

    Args:
        port: the plugin's ``custom_port``.
        host: an address of this machine.
    """
    if is_port_taken(port, host=host):
        return Finding("port", Level.OK, f"somebody listens at {host}:{port}")
    text = f"nobody listens at {host}:{port}: the game does not run, or without the link plugin"
    cure = f'start the game with /configstring="set custom_port {port}"; if it runs: {cure_of("no plugin")}'
    return Finding("port", Level.FAIL, text, cure)


def check_port_is_free(port: int, *, host: str = "127.0.0.1") -> Finding:
    """Whether a game that is still to be started could listen there.

    Args:
        port: for it.
        host: an address of this machine.
    """
    if is_port_taken(port, host=host):
        return Finding("port", Level.WARN, f"{host}:{port} is taken already", cure_of("port taken"))
    return Finding("port", Level.OK, f"{host}:{port} is free for a game")


class GameChecks:
    """Checks that share one connection, in order: connection, speed, pictures.

    Args:
        client: of the game; its race is begun anew.
        timeout_s: of the connection.
    """

    def __init__(self, client: Client, *, timeout_s: float = 10.0) -> None:
        self.client = client
        self.timeout_s = timeout_s

    def connection(self) -> Finding:
        """Connect, and wait for the start signal."""
        begin = time.perf_counter()
        try:
            self.client.connect(timeout_s=self.timeout_s)
            self.client.restart(timeout_s=self.timeout_s)
        except GameError as error:
            return Finding("connection", Level.FAIL, str(error), _cure(error))
        took = time.perf_counter() - begin
        return Finding("connection", Level.OK, f"at the start signal after {took:.1f} s")

    def speed(self) -> Finding:
        """Drive 2 s with full gas."""
        if not self.client.is_connected:
            return Finding("speed", Level.FAIL, "not measured without a connection", "mend the connection first")
        begin = time.perf_counter()
        try:
            for _ in range(NUM_STEPS):
                self.client.drive(ACTIONS[FORWARD], num_ticks=TICKS_PER_ACTION, timeout_s=self.timeout_s)
        except GameError as error:
            return Finding("speed", Level.FAIL, str(error), _cure(error))
        took = time.perf_counter() - begin
        raced = NUM_STEPS * TICKS_PER_ACTION * TICK_MS / 1000.0
        text = f"{NUM_STEPS / took:,.0f} decisions a second, {raced / took:.1f} times the race's own speed"
        if raced / took < SLOW:
            cure = f"raise game.client.speed; in the console: set speed 80; {cure_of('slow when unfocused')}"
            return Finding("speed", Level.WARN, text, cure)
        return Finding("speed", Level.OK, text)

    def pictures(self) -> Finding:
        """Ask for a picture, and look whether there is anything on it."""
        if not self.client.has_frames:
            return Finding("pictures", Level.OK, f"{type(self.client).__name__} has none; drive by floats")
        if not self.client.is_connected:
            return Finding("pictures", Level.FAIL, "not seen without a connection", "mend the connection first")
        begin = time.perf_counter()
        try:
            picture = self.client.frame(width=EDGE, height=EDGE, timeout_s=self.timeout_s)
        except GameError as error:
            return Finding("pictures", Level.FAIL, str(error), cure_of("game gone"))
        took = time.perf_counter() - begin
        if picture.min() == picture.max():
            text = f"one of {EDGE} x {EDGE} came, all of it {int(picture.min())}"
            return Finding("pictures", Level.WARN, text, "do not minimise the game; take cam 2 or another camera")
        return Finding("pictures", Level.OK, f"one of {EDGE} x {EDGE} after {1000 * took:.0f} ms")

    def checks(self) -> Sequence[tuple[str, Check]]:
        """All of them; close the client afterwards."""
        return (("connection", self.connection), ("speed", self.speed), ("pictures", self.pictures))


def _cure(error: GameError) -> str:
    """One way to mend what a client met."""
    if isinstance(error, ProtocolError):
        return cure_of("out of step")
    if isinstance(error, GameTimeout):
        return cure_of("map not found")
    if isinstance(error, GameGone):
        return cure_of("game gone")
    return cure_of("in the menus")
