"""A policy-guided search beside the search alone: CPU minutes until the time that the search alone has reached.

    python benchmarks/studies/guided_search.py --work runs/guided --write
    python benchmarks/studies/guided_search.py --tracks hillside --minutes 1 --work runs/guided

A policy is trained briefly, on the track or on another one, and drives a lap alone. Then both searches begin without a
lap of the package: the search alone for ``--minutes``, the guided one until it is as fast, and no longer than that. CPU
minutes are those of the passes; training and the search alone are not part of the guided search's. Steps that are in
the folder of --work already are not done again.
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
from tm_torchrl.sim.search import LapSearch
from tm_torchrl.tracks import load_track
from tm_torchrl.trainers import train

FRAMES = {"hillside": 260_000, "ring": 200_000}
POLICIES = {"hillside": "hillside", "ring": "ring", "valley": "ring"}  # of each track; ring's has never seen valley


def search_for(search: LapSearch, *, minutes: float, target_s: float = 0.0) -> dict[str, Any]:
    """CPU minutes and best lap of each pass that gained, until time or target are reached."""
    best, spent, passes, gains = None, 0.0, 0, []
    while spent < minutes and not (best is not None and best.time_s <= target_s):
        begin = time.process_time()
        lap = search.run_pass(best, hold=search.holds[passes % len(search.holds)])
        spent += (time.process_time() - begin) / 60.0
        passes += 1
        if lap is not None:
            best = lap
            gains.append([round(spent, 3), round(lap.time_s, 2)])
            print(f"  {spent:.2f} CPU min: {lap.time_s:.2f} s", flush=True)
    return {"cpu_minutes": round(spent, 3), "passes": passes, "gains": gains}


def policy_of(folder: Path, *, track: str) -> dict[str, Any]:
    """Train a policy if there is none yet: frames and CPU minutes of the training, and the lap that it drives alone."""
    own = folder.name
    if not folder.exists():
        train([f"env.track={own}", f"total_frames={FRAMES[own]}", "device=cpu"], folder=folder, is_quiet=True)
    lap = Guidance(load_agent(folder, which="latest")).lap(load_track(track))
    row = read_evaluations(folder)[-1]
    alone_s = None if lap is None else round(lap.time_s, 2)
    return {"track": own, "frames": row["frames"], "cpu_minutes": round(row["cpu_s"] / 60.0, 2), "alone_s": alone_s}


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
    parser.add_argument("--tracks", nargs="+", choices=POLICIES, default=list(POLICIES), help="all by default")
    parser.add_argument("--minutes", type=float, default=3.0, help="CPU minutes of the search alone")
    parser.add_argument("--seed", type=int, default=0, help="of the searches")
    parser.add_argument("--work", type=Path, required=True, help="the folder of runs and steps")
    parser.add_argument("--write", action="store_true", help="keep results")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    arguments.work.mkdir(parents=True, exist_ok=True)
    steps_path = arguments.work / "steps.json"
    steps: dict[str, Any] = json.loads(steps_path.read_text()) if steps_path.exists() else {}
    minutes = (0.25, 0.5, 1.0)
    shown = ", ".join(f"{each:g}" for each in minutes)
    table = Table(
        "track", "policy alone", f"search alone after {shown} min", "policy with search", "to the last time alone"
    )
    for track in arguments.tracks:
        found = steps.setdefault(track, {})
        folder, seed = arguments.work / POLICIES[track], arguments.seed
        if "policy" not in found:
            found["policy"] = policy_of(folder, track=track)
            steps_path.write_text(json.dumps(steps))
        if "search" not in found:
            print(f"{track}, search alone", flush=True)
            found["search"] = search_for(LapSearch(load_track(track), seed=seed), minutes=arguments.minutes)
            steps_path.write_text(json.dumps(steps))
        alone_min, alone_s = found["search"]["gains"][-1]
        if "guided" not in found:
            print(f"{track}, policy with search", flush=True)
            guidance = Guidance(load_agent(folder, which="latest"))
            search = GuidedSearch(load_track(track), guidance, seed=seed)
            found["guided"] = search_for(search, minutes=arguments.minutes, target_s=alone_s)
            steps_path.write_text(json.dumps(steps))
        until = minutes_until(found["guided"], alone_s)
        table.add_row(
            track,
            "-" if found["policy"]["alone_s"] is None else f"{found['policy']['alone_s']:.2f}",
            *(" ".join(best_after(found[name], each) for each in minutes) for name in ("search", "guided")),
            f"{alone_s:.2f} s: {alone_min:.2f} min alone, " + ("not reached" if until is None else f"{until:.2f} min"),
        )
    if arguments.write:
        write_results("guided_search", {**describe_run(device="cpu"), "seed": arguments.seed, "tracks": steps})
    Console().print(table)


if __name__ == "__main__":
    main()
