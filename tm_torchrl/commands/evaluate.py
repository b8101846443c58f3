"""Drive laps with a trained agent and tell how good they are.

tm-torchrl evaluate                           # the newest run: 50 laps; starts perturbed by 5 cm and 3.6 km/h
tm-torchrl evaluate RUN track=oval --laps 100
tm-torchrl evaluate RUN --sampled             # actions drawn from a policy, as in training, instead of the best ones
tm-torchrl evaluate RUN --json                # numbers for programs, on standard output
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from tm_torchrl.commands.parser import add_track, run_parser
from tm_torchrl.invocation import command


def statistics(values: list[float]) -> dict[str, Any]:
    """Interquartile mean with its 95 % bootstrap interval."""
    from tm_torchrl.evaluation import bootstrap_interval, interquartile_mean

    if not values:
        return {"iqm": None, "iqm_low": None, "iqm_high": None}
    low, high = bootstrap_interval(values)
    return {"iqm": interquartile_mean(values), "iqm_low": low, "iqm_high": high}


def evaluate(
    run: Path, *, track: str | None, laps: int, seed: int, which: str, trust: Sequence[str] = (), sampled: bool = False
) -> list[dict[str, Any]]:
    """A row for each track, or one for a gymnasium task."""
    from tm_torchrl.agents import load_agent

    agent = load_agent(run, which=which, trust=trust, env=None if track is None else {"track": track, "tracks": None})
    rows = agent.evaluate(laps=laps, seed=seed, sampled=sampled)
    for row in rows:
        row.pop("laps", None)
        if "r2_mean" in row:
            continue
        values = row["lap_times_s"] if "lap_times_s" in row else row["returns"]
        row.update(statistics([value for value in values if value is not None]))
    return rows


def lap_table(rows: list[dict[str, Any]]) -> Table:
    """For people."""
    table = Table(box=None, pad_edge=False)
    for name in ("track", "laps", "finished", "best", "median", "IQM (95 %)", "medal", "return", "splits of the best"):
        table.add_column(name, justify="left" if name == "track" else "right")
    for row in rows:
        seconds = [f"{row[key]:.2f}" if row[key] is not None else "-" for key in ("best_lap_s", "median_lap_s", "iqm")]
        interval = "" if row["iqm"] is None else f" ({row['iqm_low']:.2f} to {row['iqm_high']:.2f})"
        table.add_row(
            row["track"],
            str(row["num_laps"]),
            f"{row['finish_rate']:.0%}",
            *seconds[:2],
            seconds[2] + interval,
            row["medal"] or "-",
            f"{row['return_mean']:.2f}",
            " ".join(f"{split:.2f}" for split in row["splits_s"]),
        )
    return table


def return_table(rows: list[dict[str, Any]]) -> Table:
    """For people."""
    table = Table(box=None, pad_edge=False)
    for name in ("task", "episodes", "mean return", "IQM (95 %)", "least", "greatest", "mean length"):
        table.add_column(name, justify="left" if name == "task" else "right")
    for row in rows:
        table.add_row(
            row["task"],
            str(row["num_episodes"]),
            f"{row['return_mean']:.2f}",
            f"{row['iqm']:.2f} ({row['iqm_low']:.2f} to {row['iqm_high']:.2f})",
            f"{row['return_min']:.2f}",
            f"{row['return_max']:.2f}",
            f"{row['length_mean']:.1f}",
        )
    return table


def main() -> None:
    """Evaluate and print."""
    parser = run_parser("evaluate", __doc__)
    add_track(parser)
    parser.add_argument(
        "--laps", type=int, default=50, help="on each track, or episodes; of a pretraining, recorded laps (50)"
    )
    parser.add_argument("--seed", type=int, default=1, help="of the perturbed starts")
    parser.add_argument("--sampled", action="store_true", help="draw the actions of a policy (PPO, GRPO, DPO, a clone)")
    parser.add_argument("--json", action="store_true", help="print JSON and nothing else")
    args = parser.parse_intermixed_args()
    if args.laps < 1:
        raise SystemExit(f"error: --laps {args.laps}: must be at least 1")
    import torch  # here, so that a mistake in the command line is told at once

    from tm_torchrl.data.saving.checkpoint import CheckpointError
    from tm_torchrl.game.errors import GameError
    from tm_torchrl.record.run_folder import best_laps, load_time
    from tm_torchrl.trainers.hooks.display import describe, sector_text

    torch.set_num_threads(1)
    try:
        options = {name: getattr(args, name) for name in ("track", "laps", "seed", "which", "trust", "sampled")}
        rows = evaluate(args.run, **options)
    except (ValueError, OSError, CheckpointError, GameError) as error:
        raise SystemExit(f"error: {error}") from None
    if args.json:
        print(json.dumps(rows[0] if len(rows) == 1 else {"tracks": rows}, allow_nan=False, default=_plain))
        return
    if "r2_mean" in rows[0]:
        print(describe(rows[0]))
        return
    table = lap_table(rows) if "track" in rows[0] else return_table(rows)
    Console(width=None if sys.stdout.isatty() else 120).print(table)
    for row in rows:
        if sectors := sector_text([row]):
            print(f"best lap on {row['track']}, {sectors}")
    driven = rows[0].get("num_laps", args.laps)
    if driven < args.laps:
        print(f"{driven} of {args.laps} laps: in the game all begin alike; env.evaluation_laps is the limit")
    for track, path in best_laps(args.run).items():
        shown = track if track.isprintable() else ascii(track)  # the name of a file, which may come from elsewhere
        print(f"record of the run on {shown}: {load_time(path):.2f} s ({command('watch')} films it)")


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{type(value).__name__} has no JSON form")
