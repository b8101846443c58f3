"""Recorded laps as steps of another environment: its rewards, its images, and what comes after each step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from tensordict import TensorDictBase

from tm_torchrl.data.demonstrations.folder import DemonstrationFolder
from tm_torchrl.sim.state import STATE

TOLERANCE = 1e-3  # of the floats before the finish, absolute and relative; on one machine they are equal


def driven_again(
    env: Any, folder: DemonstrationFolder, laps: Sequence[int], *, track_index: int = 0
) -> Iterator[TensorDictBase]:
    """Drive recorded laps from their starts, all at once; yields the steps ``[1, T]`` of each.

    The simulator gives the same states, so only starts and actions are read. Steps in which something else was played
    than the driver chose have ``is_greedy`` False.

    Args:
        env: A ``TrackManiaEnv`` with a car for each lap.
        folder: The laps.
        laps: Their numbers.
        track_index: The number of their track in the environment.
    """
    numbers = np.asarray(laps)
    place(env, folder, numbers, track_index=track_index)
    lengths = folder.lap_frames[numbers]
    firsts = folder.lap_first[numbers]
    steps: list[TensorDictBase] = []
    state = env.present()
    for step in range(int(lengths.max())):
        frames = firsts + np.minimum(step, lengths - 1)  # a car whose lap is over plays its last action on
        action, chosen = (folder.rows(name, frames).astype(np.int64) for name in ("action", "chosen"))
        state["action"] = torch.from_numpy(action).to(env.device)
        state["is_greedy"] = torch.from_numpy((action == chosen).reshape(len(frames), -1).all(1)).to(env.device)
        state = env.step(state)
        steps.append(state)
        state = state["next"].exclude("reward")
    together: TensorDictBase = torch.stack(steps, 1)
    last_seen = torch.from_numpy(folder.rows("observation", firsts + lengths - 1)).to(env.device)
    for car, (number, length) in enumerate(zip(numbers.tolist(), lengths.tolist(), strict=True)):
        lap = together[car : car + 1, :length]
        is_finished = bool(lap["next", "terminated"][0, -1]) and not bool(lap["next", "done"][0, :-1].any())
        if not (
            is_finished and torch.allclose(lap["observation"][0, -1], last_seen[car], rtol=TOLERANCE, atol=TOLERANCE)
        ):
            raise ValueError(
                f"data={folder.path}: lap {number} does not finish any more as it did: the simulator has changed since "
                "it was recorded; record the laps again"
            )
        yield lap


def place(env: Any, folder: DemonstrationFolder, numbers: np.ndarray, *, track_index: int = 0) -> None:
    """Put the cars of an environment where recorded laps began.

    Args:
        env: A ``TrackManiaEnv`` with a car for each lap.
        folder: The laps.
        numbers: Their numbers.
        track_index: The number of their track in the environment.
    """
    if not folder.description.state_size:
        raise ValueError(f"data={folder.path}: its laps have no states of the simulator, so they can only be cloned")
    race = env.race
    starts = torch.from_numpy(folder.lap_start[numbers])
    starts[:, STATE.start("track")] = track_index
    race.world.restore(starts)
    race.tracker.reset(torch.from_numpy(folder.lap_zone[numbers]), torch.ones(len(numbers), dtype=torch.bool))
    saved = {"world": race.world.save(), "tracker": race.tracker.save(), "num_frames": torch.tensor(race.num_frames)}
    env.restore(saved)


def progress_of(env: Any, folder: DemonstrationFolder, laps: Sequence[int]) -> np.ndarray:
    """The furthest metre of the track that each lap reached ``[L]``; its actions are driven again.

    Args:
        env: A ``TrackManiaEnv`` of their track with a car for each lap.
        folder: The laps.
        laps: Their numbers.
    """
    numbers = np.asarray(laps)
    place(env, folder, numbers)
    lengths = folder.lap_frames[numbers]
    firsts = folder.lap_first[numbers]
    furthest = np.zeros(len(numbers))
    for step in range(int(lengths.max())):
        is_driving = step < lengths
        action = folder.rows("action", firsts + np.minimum(step, lengths - 1)).astype(np.int64)
        env.race.step(torch.from_numpy(action).to(env.device))
        progress = env.race.tracker["progress_m"].cpu().numpy()
        furthest[is_driving] = np.maximum(furthest, progress)[is_driving]
    return furthest
