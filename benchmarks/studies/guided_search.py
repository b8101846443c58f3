"""A search that a fast policy guides beside the search alone: best laps over CPU minutes.

    python benchmarks/studies/guided_search.py --work runs/guided --write
    python benchmarks/studies/guided_search.py --tracks hillside --minutes 1 --work runs/guided
    python benchmarks/studies/guided_search.py --held-out 20 --work runs/guided --write

The policies are those of ``experiment=fast_laps``, one of five million frames for each built-in track. With
``--held-out`` one of 64 generated tracks and 20 million frames guides the search on others, which it has never seen.
Both searches begin without a lap of the package. After its first pass the guided one is given the lap that the policy
drives alone, as in ``tm-torchrl optimize TRACK --policy RUN``. CPU minutes are those of the passes, without the
policy's training. Steps that are in the folder of --work already are not done again: take a new folder after a change
of the search, and copy run folders of other trainings there, each under the name of its track.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
import torch
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from benchmarks.results_file import describe_run, write_results
from tm_torchrl.agents import load_agent
from tm_torchrl.agents.guided_search import Guidance, GuidedSearch
from tm_torchrl.record.run_folder import read_evaluations
from tm_torchrl.sim.search import Lap, LapSearch
from tm_torchrl.tracks import BUILTIN_TRACKS, HELD_OUT_SEEDS, generate_track, load_track
from tm_torchrl.trainers import train

FRAMES = "total_frames=5_000_000"
GENERATED = ["env.generated_tracks=64", "env.starts.laps=own"]
MINUTES = (0.1, 0.5, 2.0)  # of the table


def search_for(search: LapSearch, *, minutes: float, own: Lap | None = None) -> dict[str, Any]:
    """CPU minutes and best lap of each pass that gained; ``own`` is offered after the first pass."""
    best, spent, passes, gains = None, 0.0, 0, []
    while spent < minutes:
        begin = time.process_time()
        lap = search.run_pass(best, hold=search.holds[passes % len(search.holds)])
        spent += (time.process_time() - begin) / 60.0
        passes += 1
        if passes == 1 and own is not None and (lap is None or own.time_s < lap.time_s):
            lap = own
        if lap is not None:
            best = lap
            gains.append([round(spent, 3), round(lap.time_s, 2)])
            print(f"  {spent:.2f} CPU min: {lap.time_s:.2f} s", flush=True)
    return {"cpu_minutes": round(spent, 3), "passes": passes, "gains": gains}


def train_policy(folder: Path, settings: list[str]) -> dict[str, Any]:
    """Train a policy if there is none yet: frames and CPU minutes of the training."""
    if not folder.exists():
        train(["experiment=fast_laps", *settings, "device=cpu"], folder=folder, is_quiet=True)
    row = read_evaluations(folder)[-1]
    return {"frames": row["frames"], "cpu_minutes": round(row["cpu_s"] / 60.0, 2)}


def minutes_until(found: dict[str, Any], time_s: float) -> float | None:
    """CPU minutes after which a search had a lap as fast as this; ``None`` if it never had."""
    return next((minutes for minutes, lap_s in found["gains"] if lap_s <= time_s), None)


def best_after(found: dict[str, Any], minutes: float) -> str:
    """The best time that a search had after some CPU minutes; a dash if it had none yet, or ended before."""
    times_s = [lap_s for at, lap_s in found["gains"] if at <= minutes]
    return f"{times_s[-1]:.2f}" if times_s and minutes <= found["cpu_minutes"] else "-"


def main() -> None:
    """Run what is missing, print, and keep if asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--tracks", nargs="+", choices=BUILTIN_TRACKS, default=BUILTIN_TRACKS, help="all by default")
    which.add_argument("--held-out", type=int, default=0, metavar="N", help="N generated tracks instead")
    parser.add_argument("--minutes", type=float, default=2.0, help="CPU minutes of the search alone")
    parser.add_argument("--guided-minutes", type=float, default=0.5, help="CPU minutes of the guided search")
    parser.add_argument("--seed", type=int, default=0, help="of the searches")
    parser.add_argument("--work", type=Path, required=True, help="the folder of runs and steps")
    parser.add_argument("--write", action="store_true", help="keep results")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    arguments.work.mkdir(parents=True, exist_ok=True)
    steps_path = arguments.work / "steps.json"
    steps: dict[str, Any] = json.loads(steps_path.read_text()) if steps_path.exists() else {}
    tracks = {f"generated-{seed}": generate_track(seed) for seed in HELD_OUT_SEEDS[: arguments.held_out]}
    for name, track in (tracks or {name: load_track(name) for name in arguments.tracks}).items():
        found = steps.setdefault(name, {})
        if "guided" not in found:
            print(f"{name}, policy with search", flush=True)
            run = arguments.work / ("generated" if tracks else name)
            found["policy"] = train_policy(run, GENERATED if tracks else [f"env.track={name}", FRAMES])
            guidance = Guidance(load_agent(run, which="latest"))
            own = guidance.lap(track)
            found["policy"]["alone_s"] = None if own is None else round(own.time_s, 2)
            search = GuidedSearch(track, guidance, seed=arguments.seed)
            found["guided"] = search_for(search, minutes=arguments.guided_minutes, own=own)
            steps_path.write_text(json.dumps(steps))
        if "search" not in found:
            print(f"{name}, search alone", flush=True)
            found["search"] = search_for(LapSearch(track, seed=arguments.seed), minutes=arguments.minutes)
            steps_path.write_text(json.dumps(steps))
    chosen = {name: steps[name] for name in tracks or arguments.tracks}
    if arguments.write:
        kind = "guided_search_held_out" if tracks else "guided_search"
        write_results(kind, {**describe_run(device="cpu"), "seed": arguments.seed, "tracks": chosen})
    Console().print(table_of(chosen))


def table_of(steps: dict[str, Any]) -> Table:
    """A row for each track."""
    table = Table("track", "policy alone", "policy with search", "search alone", "the same time")
    for name, found in steps.items():
        alone_min, alone_s = (found["search"]["gains"] or [(float("nan"), float("nan"))])[-1]
        until = minutes_until(found["guided"], alone_s)
        table.add_row(
            name,
            "-" if found["policy"]["alone_s"] is None else f"{found['policy']['alone_s']:.2f}",
            *(" ".join(best_after(found[kind], each) for each in MINUTES) for kind in ("guided", "search")),
            f"{alone_s:.2f} s: {alone_min:.2f} min alone, " + ("not reached" if until is None else f"{until:.2f} min"),
        )
    return table


if __name__ == "__main__":
    main()
