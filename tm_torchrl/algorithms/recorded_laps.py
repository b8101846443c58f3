"""Recorded laps for a task: opened only if they are of its tracks and hold what its network reads and decides."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from tensordict import NestedKey, TensorDictBase

from tm_torchrl.algorithms.author_laps import AUTHOR, author_steps
from tm_torchrl.data.demonstrations.driven_again import driven_again
from tm_torchrl.data.demonstrations.folder import DemonstrationFolder
from tm_torchrl.evaluation.recording import LIMITS
from tm_torchrl.settings.construct import ConfigError
from tm_torchrl.tasks.task import Task
from tm_torchrl.tasks.trackmania import TrackManiaTask
from tm_torchrl.tracks.track_hash import track_hash

CARS = 64  # that drive again at once
OUTCOME = ("reward", "done", "terminated")


def opened(path: str | Path | None, task: Task) -> DemonstrationFolder:
    """A folder of recorded laps, which must be of the task's tracks and hold what its network reads and decides.

    Args:
        path: The folder.
        task: The task.
    """
    if not isinstance(path, (str, Path)):
        given = "null" if path is None else path
        raise ConfigError(f"data={given}: must be a folder of recorded laps; record them with tm-torchrl record TRACK")
    if not isinstance(task, TrackManiaTask):
        raise ConfigError(f"data={path}: holds laps of a track; use env=trackmania")
    folder = DemonstrationFolder(path)
    laps = folder.description
    hashes = {track.name: track_hash(track) for track in task.training_tracks}
    if laps.track not in hashes:
        raise ConfigError(f"data={path}: holds laps on {laps.track}, not on {', '.join(hashes)}; use env.track")
    if hashes[laps.track] != laps.track_hash:
        raise ConfigError(
            f"data={path}: its laps were driven on another track of the name {laps.track} ({laps.track_hash}; this one "
            f"is {hashes[laps.track]}); record them again"
        )
    if task.transforms:
        raise ConfigError(f"data={path}: recorded frames have no transforms; use transforms=none")
    for name, ours, theirs in (
        ("num_previous_actions", task.num_previous_actions, laps.num_previous_actions),
        ("action_block", task.action_block, laps.action_block),
    ):
        if ours != theirs:
            raise ConfigError(f"env.{name}={ours}: must be {theirs}, as in the laps of data={path}")
    if task.pixels and laps.image_size is None:
        raise ConfigError(f"data={path}: has no images; record them with --pixels, or use env.pixels=false")
    return folder


def recorded_steps(paths: Sequence[str | Path], task: Task) -> list[TensorDictBase]:
    """The steps ``[1, T]`` of all finished laps of some folders, driven again with the rewards of the task.

    Args:
        paths: The folders; ``"author"`` stands for laps like the author's, which are driven now.
        task: The task.
    """
    found = []
    for path in paths:
        if path == AUTHOR and isinstance(task, TrackManiaTask):
            found += [lap.select(*kept_keys(task)) for lap in author_steps(task)]
            continue
        folder = opened(path, task)
        assert isinstance(task, TrackManiaTask)
        names = [track.name for track in task.training_tracks]
        finished = np.flatnonzero(~np.isnan(folder.lap_time_s)).tolist()
        if not finished:
            raise ConfigError(f"data={path}: none of its laps finishes; record laps without --steps")
        for first in range(0, len(finished), CARS):
            laps = finished[first : first + CARS]
            # Laps that stood still for longer than training allows finish again under the limits that they had.
            with contextlib.closing(replace(task, limits=LIMITS).make_env(num_envs=len(laps))) as env:
                index = names.index(folder.description.track)
                found += [lap.select(*kept_keys(task)) for lap in driven_again(env, folder, laps, track_index=index)]
    return found


def kept_keys(task: TrackManiaTask) -> list[NestedKey]:
    """The keys of a step from which transitions are made."""
    return [*task.in_keys, "action", "is_greedy", *(("next", key) for key in (*task.in_keys, *OUTCOME))]
