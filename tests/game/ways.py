"""The ways to drive a track; each opens an environment. The contract tests run every entry of ``WAYS``."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import pytest

from tm_torchrl.envs import TrackManiaEnv
from tm_torchrl.game import GameWorld, TMInterface1Client, TMInterface2Client
from tm_torchrl.game.emulator.protocol1 import Protocol1Server
from tm_torchrl.game.emulator.protocol2 import Protocol2Server
from tm_torchrl.tracks import Track, load_track

TIMEOUT_S = 20.0


@dataclass(frozen=True)
class Way:
    """A way to drive a track.

    Args:
        open: Opens an environment, given a track's name and options of ``TrackManiaEnv``.
        has_frames: Whether it delivers pictures.
    """

    open: Callable[..., contextlib.AbstractContextManager[TrackManiaEnv]]
    has_frames: bool


Server = TypeVar("Server", Protocol1Server, Protocol2Server)


@contextlib.contextmanager
def serving(server: Server) -> Iterator[Server]:
    """Run an emulator in a thread of this process."""
    thread = threading.Thread(target=server.serve, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.stop()
        thread.join(10.0)
        assert not thread.is_alive(), "the emulator does not end"


def served(track: Track, **options: Any) -> contextlib.AbstractContextManager[Protocol2Server]:
    return serving(Protocol2Server(track, **options))


def served1(track: Track, **options: Any) -> contextlib.AbstractContextManager[Protocol1Server]:
    return serving(Protocol1Server(track, **options))


@contextlib.contextmanager
def simulator(track: str, **options: Any) -> Iterator[TrackManiaEnv]:
    yield TrackManiaEnv(1, track=track, **options)


@contextlib.contextmanager
def emulator2(track: str, *, pixels: bool = False, image_size: int = 64, **options: Any) -> Iterator[TrackManiaEnv]:
    with served(load_track(track)) as server:
        client = TMInterface2Client(port=server.port, timeout_s=TIMEOUT_S, connect_timeout_s=TIMEOUT_S)
        world = GameWorld(client, load_track(track), image_size=image_size if pixels else None)
        try:
            yield TrackManiaEnv(1, world=world, pixels=pixels, **options)
        finally:
            world.close()


@contextlib.contextmanager
def emulator1(track: str, **options: Any) -> Iterator[TrackManiaEnv]:
    pytest.importorskip("tminterface")
    with served1(load_track(track)) as server:
        client = TMInterface1Client(channel=server.address, timeout_s=TIMEOUT_S, connect_timeout_s=TIMEOUT_S)
        world = GameWorld(client, load_track(track))
        try:
            yield TrackManiaEnv(1, world=world, **{"pixels": False, **options})
        finally:
            world.close()


WAYS = {
    "simulator": Way(simulator, has_frames=True),
    "emulator1": Way(emulator1, has_frames=False),
    "emulator2": Way(emulator2, has_frames=True),
}
