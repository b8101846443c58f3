"""Driving a game that keeps failing gives the same bits as one that never fails, and every wait ends."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from tests.game.drives import author, require_equal_drives
from tests.game.emulator.faults import Fault, FaultyServer
from tests.game.ways import WAYS, serving
from tm_torchrl.envs import TrackManiaEnv
from tm_torchrl.game import GameError, GameGone, GameWorld, TMInterface2Client
from tm_torchrl.game.instances.reconnecting_client import ReconnectingClient
from tm_torchrl.tracks import load_track
from tm_torchrl.world.tracker import Limits

OVAL = load_track("oval")
FREEZE_S = 1.0
TIMEOUT_S = 0.5
ALL_BUT_MENUS = [fault for fault in Fault if fault is not Fault.MENUS]


@contextlib.contextmanager
def faulty(
    seed: int, *, pixels: bool = False, num_attempts: int = 8, **options: object
) -> Iterator[tuple[TrackManiaEnv, FaultyServer]]:
    made = FaultyServer(OVAL, seed=seed, freeze_s=FREEZE_S, countdown_ms=100, **options)  # type: ignore[arg-type]
    with serving(made) as server:
        inner = TMInterface2Client(port=server.port, timeout_s=TIMEOUT_S, connect_timeout_s=3.0, map_path="oval.Gbx")
        client = ReconnectingClient(inner, pauses_s=[0.0] * num_attempts)
        world = GameWorld(client, OVAL, image_size=32 if pixels else None)
        try:
            yield TrackManiaEnv(1, world=world, pixels=pixels, limits=Limits(no_progress_s=0.5)), server
        finally:
            world.close()


@pytest.mark.parametrize("fault", Fault, ids=lambda fault: fault.name.lower())
def test_each_fault_leaves_the_observations_unchanged(fault: Fault) -> None:
    pixels = fault is Fault.SHORT_PICTURE
    rare = fault in (Fault.NO_FINISH, Fault.NO_CHECKPOINT)
    slow = fault in (Fault.FREEZE, Fault.SHORT_PICTURE)
    actions = author("oval")[: None if rare else 80]
    options = {"pixels": pixels, "limits": Limits(no_progress_s=0.5), **({"image_size": 32} if pixels else {})}
    every = 1.0 if rare else 40.0 if slow else 10.0
    with faulty(3, kinds=[fault], every=every, pixels=pixels) as (env, server):
        with WAYS["simulator"].open("oval", **options) as yardstick:
            require_equal_drives(env, yardstick, actions)
        assert server.num_faults[fault] >= 1
        if fault not in (Fault.SLOW, Fault.NO_FINISH, Fault.NO_CHECKPOINT):
            assert env.world.client.num_reconnects >= 1  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("seed", "num_faults"), [(0, 25), *(pytest.param(seed, 100, marks=pytest.mark.slow) for seed in range(10, 20))]
)
def test_random_faults(seed: int, num_faults: int) -> None:
    generator = np.random.default_rng(seed)
    laps = author("oval")
    with faulty(seed, every=12.0) as (env, server):
        limits = Limits(no_progress_s=0.5)
        with WAYS["simulator"].open("oval", limits=limits) as yardstick:
            while sum(server.num_faults.values()) < num_faults:
                begin = int(generator.integers(1, len(laps)))
                actions = laps[:begin] + generator.choice(12, 20).tolist()
                require_equal_drives(env, yardstick, actions)
        assert len(server.num_faults) >= 6, server.num_faults


def test_a_game_that_stays_away_is_reported_in_time() -> None:
    with faulty(0, every=1e9, num_attempts=2) as (env, server):
        env.reset()
        server.stop()
        time.sleep(0.1)
        begin = time.monotonic()
        with pytest.raises(GameError):  # noqa: PT012  (what was sent before may still be answered)
            for _ in range(20):
                env.race.step(torch.tensor([0]))
        assert time.monotonic() - begin < 60.0  # three attempts of 3.5 s at most; a busy machine may be late
        assert not env.world.client.is_connected  # type: ignore[attr-defined]


def test_a_plain_client_raises_the_first_error() -> None:
    with serving(FaultyServer(OVAL, seed=0, kinds=[Fault.DROP], every=5.0, countdown_ms=0)) as server:
        world = GameWorld(TMInterface2Client(port=server.port, timeout_s=1.0, connect_timeout_s=1.0), OVAL)
        with pytest.raises(GameGone, match="closed the connection"):  # noqa: PT012  (at which step depends on the seed)
            world.reset()
            for _ in range(100):
                world.step(torch.tensor([0]))
        assert not world.client.is_connected
