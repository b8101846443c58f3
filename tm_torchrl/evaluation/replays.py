"""Replaying a drive's actions in a world: the simulator, an emulator or the game."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from tm_torchrl.world.actions import MAX_ACTIONS, NUM_ACTIONS
from tm_torchrl.world.car_row import CAR_ROW
from tm_torchrl.world.protocol import World

_FINISHED = CAR_ROW.start("is_finished")
_STARTED = [CAR_ROW.start(name) for name in ("is_finished", "checkpoint_count", "last_checkpoint_time_ms")]
_TIME = CAR_ROW.start("last_checkpoint_time_ms")


@dataclass(frozen=True)
class Replayed:
    """What came of it.

    Args:
        rows: car rows ``[T + 1, row]``.
        time_s: race time at the finish; ``None`` where it was not reached.
    """

    rows: np.ndarray
    time_s: float | None


def replay(world: World, actions: np.ndarray, *, start: np.ndarray | None = None) -> Replayed:
    """Drive the same actions again, until they or the race are over.

    Args:
        world: of one car.
        actions: ``[T]``, or ``[T, 5]`` with one a tick.
        start: saved state of such a world, as a kept lap has it; ``None`` to start as the world does.

    Examples:
        >>> from tm_torchrl.sim import Simulator
        >>> from tm_torchrl.tracks import load_track
        >>> replay(Simulator(load_track("oval"), num_cars=1), np.zeros(3, np.int64)).rows.shape[0]
        4
    """
    if world.num_cars != 1:
        raise ValueError(f"world has {world.num_cars} cars; must have one")
    known = actions.dtype.kind in "iu" and actions.ndim in (1, 2)
    if not known or not ((actions >= 0) & (actions < NUM_ACTIONS)).all():
        raise ValueError(
            f"actions: {actions.dtype} {list(actions.shape)}; must be [T] or [T, 5] whole numbers from 0 to "
            f"{NUM_ACTIONS - 1}"
        )
    if actions.size > MAX_ACTIONS:
        raise ValueError(f"actions: {actions.size:,} of them; must be at most {MAX_ACTIONS:,}, an hour of driving")
    if start is not None and (start.dtype.kind not in "fu" or not np.isfinite(start).all()):
        raise ValueError(f"start: {start.dtype} {list(start.shape)}; must be the finite state that a world saved")
    world.reset()
    if start is not None:
        world.restore(torch.from_numpy(start).unsqueeze(0))
    rows = [world.rows()[0].cpu().numpy().copy()]
    if start is not None and any(rows[0][_STARTED]):
        raise ValueError("start: the race has begun there already; must be a state before its first gate")
    time_s = None
    for action in torch.from_numpy(actions.astype(np.int64)):
        world.step(action.unsqueeze(0))
        rows.append(world.rows()[0].cpu().numpy().copy())
        if rows[-1][_FINISHED]:
            time_s = float(rows[-1][_TIME]) / 1000.0
            break
    return Replayed(np.stack(rows), time_s)
