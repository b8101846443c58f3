"""Run folders for tests: files as a training writes them, with laps that are driven in a moment."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from tm_torchrl.evaluation.replays import replay
from tm_torchrl.record.ghosts import Ghost, save_ghost
from tm_torchrl.record.run_folder import append_line, save_lap
from tm_torchrl.sim import Simulator
from tm_torchrl.tracks import Track, load_track
from tm_torchrl.tracks.medals import author_actions

RULER = Track(
    "ruler",
    np.stack([np.zeros(100), np.zeros(100), np.arange(100.0)], axis=1),
    start=10,
    finish=60,
    checkpoints=np.array([30]),
)


def make_run(folder: Path, *, track: str = "oval", evaluations: int = 3) -> Path:
    """A run whose laps are the author's, cut short in all evaluations but the last."""
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(f"env: {{track: {track}}}\nalgorithm: {{}}\n", encoding="utf-8")
    facts = {"started": "2026-11-29T10:00:00+00:00", "platform": "Linux", "device": "cpu"}
    (folder / "run.json").write_text(json.dumps(facts), encoding="utf-8")
    for number in range(1, 2 * evaluations + 1):
        values = {"train/loss": 1.0 / number, "speed/env_steps_per_s": 1400.0 + number, "episode/return": float(number)}
        append_line(folder / "metrics.jsonl", {"frames": 512 * number, "seconds": 4.0 * number, **values})
    actions, world = author_actions(track), Simulator(load_track(track), num_cars=1)
    assert actions is not None
    start = world.save()[0].numpy()
    driven = replay(world, actions.astype(np.int64))
    assert driven.time_s is not None
    for number in range(1, evaluations + 1):
        is_last = number == evaluations
        time_s = driven.time_s if is_last else None
        row: dict[str, Any] = {"track": track, "frames": 1024 * number, "seconds": 8.0 * number}
        row |= {"best_lap_s": time_s, "median_lap_s": time_s, "finish_rate": float(is_last), "num_laps": 16}
        append_line(folder / "evaluations.jsonl", row)
        taken = actions if is_last else actions[: 100 * number]
        save_ghost(folder, Ghost(track, 1024 * number, time_s, taken.astype(np.int64), start))
    save_lap(folder, track, driven.time_s, rows=driven.rows, actions=actions.astype(np.int64), start=start)
    return folder
