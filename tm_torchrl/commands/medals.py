"""Medals and records of the built-in tracks, from scripted drivers and from the laps of optimize_lap.py.

python scripts/make_medals.py             # all tracks
python scripts/make_medals.py hillside --laps runs/laps

Bronze, silver and gold are driven again. A lap of TRACK.json or TRACK-with-policy.json in the folder that is faster
than the record becomes the record. The author's lap stays as long as it takes its time; when physics or track have
changed, the lap of a search alone takes its place.
"""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

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


def found_lap(path: Path) -> Record | None:
    """The lap of a file of optimize_lap.py; ``None`` if there is none."""
    lap: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {"actions": ""}
    if not lap["actions"]:
        return None
    found_by = lap.get("found_by", "search alone")
    return Record(lap["time_s"], lap["actions"], found_by, round(lap["cpu_minutes"], 1), lap["is_settled"])


def driven_again(track: Track, *laps: Record | None) -> list[Record]:
    """Those of the laps that finish, with their times of today."""
    driven = ((lap, replay_lap(track, decode_actions(lap.actions))) for lap in laps if lap is not None)
    return [replace(lap, time_s=again.time_s) for lap, again in driven if again is not None]


def author_and_record(track: Track, kept: Medals | None, laps: Path) -> tuple[Record, Record] | None:
    """The author's lap and the record; ``None`` without any lap."""
    alone, with_policy = found_lap(laps / f"{track.name}.json"), found_lap(laps / f"{track.name}-with-policy.json")
    before = record = None
    if kept is not None:
        record = kept.record
        before = Record(kept.author_s, kept.author_actions, "search alone", kept.search_cpu_minutes, is_settled=False)
    authors = driven_again(track, before)
    if before is None or before not in authors:
        authors = driven_again(track, alone) or authors or driven_again(track, with_policy)
    if not authors:
        return None
    records = [*driven_again(track, record, alone, with_policy), authors[0]]
    fastest = min(records, key=lambda lap: lap.time_s)
    same = [lap for lap in records if lap.actions == fastest.actions]
    return authors[0], max(same, key=lambda lap: lap.cpu_minutes)  # a search that went on


def main() -> None:
    """Drive, collect and write."""
    parser = parser_for("medals", __doc__)
    parser.add_argument("tracks", nargs="*", default=BUILTIN_TRACKS, help="built-in names; all by default")
    parser.add_argument("--laps", type=Path, default=Path("runs") / "laps",
                        help="folder with the JSON files of optimize_lap.py")  # fmt: skip
    args = parser.parse_args()
    torch.set_num_threads(1)
    for name in args.tracks:
        track = load_track(name)
        found = author_and_record(track, medals_of(name), args.laps)
        if found is None:
            print(f"{name}: no lap; run tm-torchrl optimize {name} first")
            continue
        author, record = found
        bronze, silver, gold = scripted_medals(track)
        medals = Medals(bronze, silver, gold, author.time_s, author.actions, author.cpu_minutes, record)
        print(f"{name:10s} bronze {bronze:6.2f}  silver {silver:6.2f}  gold {gold:6.2f}  author {author.time_s:6.2f} "
              f"({author.time_s / gold:.3f} of gold)  record {record.time_s:6.2f} by {record.found_by}"
              f"  -> {write_medals(name, medals)}")  # fmt: skip
