"""Medals and records of the built-in tracks, from scripted drivers and from the laps of optimize_lap.py.

tm-torchrl medals             # all tracks
tm-torchrl medals hillside --laps runs/laps

Bronze, silver and gold are driven again. The fastest lap in the folder becomes the record if it is faster than that. An
author's lap stays; a track that has none gets the record's.
"""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
import torch

from tm_torchrl.commands.parser import parser_for
from tm_torchrl.sim import Simulator
from tm_torchrl.sim.search import replay_lap
from tm_torchrl.tracks import BUILTIN_TRACKS, Track, load_track
from tm_torchrl.tracks.medals import Medals, Record, decode_actions, medals_of, write_medals
from tm_torchrl.world.drivers import Pursuit, drive
from tm_torchrl.world.tracker import EndCause

GOLD_BOLDNESS = (0.5, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 1.0)
SILVER_SHARE, BRONZE_SHARE = 0.7, 0.5  # of the boldness that drove gold


def scripted_time(track: Track, boldness: float) -> float | None:
    """Race time of a scripted driver from a standing start; None if it does not finish."""
    world = Simulator(track, num_cars=1)
    *_, tracker = drive(world, Pursuit([track], world.track_index, boldness=boldness))
    return tracker["race_time_ms"].item() / 1000.0 if tracker["end_cause"].item() == EndCause.FINISHED else None


def scripted_medals(track: Track) -> tuple[float, float, float]:
    """Bronze, silver and gold: gold is the fastest of a few boldnesses, the others are shares of it that finish."""
    times = {boldness: scripted_time(track, boldness) for boldness in GOLD_BOLDNESS}
    finished = {boldness: time for boldness, time in times.items() if time is not None}
    if not finished:
        raise SystemExit(f"{track.name}: the scripted driver does not finish it")
    boldest = min(finished, key=lambda boldness: finished[boldness])
    gold = finished[boldest]
    slower = []
    for share in (SILVER_SHARE, BRONZE_SHARE):
        tries = (scripted_time(track, boldest * share * factor) for factor in (1.0, 0.95, 0.9, 0.85, 1.05))
        slower.append(next((time for time in tries if time is not None and time > gold), gold * (2.0 - share)))
    return max(slower), min(slower), gold


def records_of(track: Track, laps: Path, kept: Medals | None) -> list[Record]:
    """The record so far and what searches have found, as they are driven today, fastest first."""
    records = [] if kept is None else [kept.record]
    for path in (laps / f"{track.name}.json", laps / f"{track.name}-with-policy.json"):
        if path.exists():
            lap = json.loads(path.read_text())
            minutes = round(lap["cpu_minutes"], 1)
            records.append(Record(lap["time_s"], lap["actions"], lap["found_by"], minutes, lap["is_settled"]))
    driven = [(record, replay_lap(track, decode_actions(record.actions))) for record in records if record.actions]
    again = [replace(record, time_s=lap.time_s) for record, lap in driven if lap is not None]
    return sorted(again, key=lambda record: (record.time_s, -record.cpu_minutes))


def main() -> None:
    """Drive, collect and write."""
    parser = parser_for("medals", __doc__)
    parser.add_argument("tracks", nargs="*", default=BUILTIN_TRACKS, help="built-in names; all by default")
    parser.add_argument("--laps", type=Path, default=Path("runs") / "laps",
                        help="folder with the JSON files of optimize_lap.py")  # fmt: skip
    args = parser.parse_args()
    torch.set_num_threads(1)
    for name in args.tracks:
        track, kept = load_track(name), medals_of(name)
        bronze, silver, gold = scripted_medals(track)
        records = records_of(track, args.laps, kept)
        letters, minutes = ("", 0.0) if kept is None else (kept.author_actions, kept.search_cpu_minutes)
        author = replay_lap(track, decode_actions(letters)) if letters else None
        if not records:
            print(f"{name}: no lap; run tm-torchrl optimize {name} first")
            continue
        record = records[0]
        author_s = record.time_s if author is None else author.time_s
        if author is None:
            letters, minutes = record.actions, record.cpu_minutes
        medals = Medals(bronze, silver, gold, author_s, letters, minutes, record)
        print(f"{name:10s} bronze {bronze:6.2f}  silver {silver:6.2f}  gold {gold:6.2f}  author {author_s:6.2f} "
              f"({author_s / gold:.3f} of gold)  record {record.time_s:6.2f} by {record.found_by}"
              f"  -> {write_medals(name, medals)}")  # fmt: skip
