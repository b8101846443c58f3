"""Evaluations and their laps in the run folder, and the fastest lap of each track with the algorithm's values."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch

from tm_torchrl.evaluation import Laps
from tm_torchrl.record.ghosts import Ghost, save_ghost
from tm_torchrl.record.run_folder import RunFolder, best_laps, load_time, save_lap, save_script
from tm_torchrl.tasks.task import Row
from tm_torchrl.trainers.training import Training
from tm_torchrl.world.input_scripts import script_of


def keep_results(run: RunFolder, log: Callable[[str], None]) -> Callable[[Training, list[Row], bool], None]:
    """A listener of ``Evaluate`` that writes its rows and the fastest laps into a run folder.

    Args:
        run: The run folder.
        log: Takes messages.
    """

    def keep(training: Training, rows: list[Row], is_best: bool) -> None:
        try:
            write(training, rows)
            if is_best and hasattr(training.algorithm, "write_results"):
                training.algorithm.write_results(run.path, rows[0])
        except OSError as error:
            log(f"an evaluation could not be written: {error}; training continues")

    def write(training: Training, rows: list[Row]) -> None:
        fastest = {track: load_time(path) for track, path in best_laps(run.path).items()}
        for row in rows:
            laps: Laps | None = row.get("laps")
            run.add_evaluation({key: value for key, value in row.items() if key != "laps"})
            if laps is not None:
                ghost = Ghost(row["track"], row["frames"], laps.best_lap_s, laps.actions, laps.start)
                save_ghost(run.path, ghost)
            if laps is None or laps.best_lap_s is None or laps.best_lap_s >= fastest.get(row["track"], math.inf):
                continue
            arrays = {"rows": laps.rows, "actions": laps.actions, "start": laps.start}
            if "pixels" not in training.task.in_keys:  # laps store only the floats
                observations, actions = torch.as_tensor(laps.observations), torch.as_tensor(laps.actions)
                explained = training.algorithm.explain(observations, actions)
                arrays |= {name: values.cpu().numpy() for name, values in explained.items()}
            save_lap(run.path, row["track"], laps.best_lap_s, **arrays)
            with torch.random.fork_rng(devices=[]):
                from_start = training.task.lap_from_start(training.algorithm.actor, laps)
            if from_start.best_lap_s is not None:
                save_script(run.path, row["track"], from_start.best_lap_s, script_of(from_start.actions))

    return keep
