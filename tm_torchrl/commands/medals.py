"""Medals of the built-in tracks: scripted drivers for bronze, silver and gold, the laps of optimize_lap.py for author.

tm-torchrl medals             # all tracks
tm-torchrl medals hillside --laps runs/laps
"""

from __future__ import annotations

import json
import os
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
import torch

from tm_torchrl.commands.parser import parser_for
from tm_torchrl.sim import Simulator
from tm_torchrl.sim.search import replay_lap
from tm_torchrl.tracks import BUILTIN_TRACKS, Track, load_track
from tm_torchrl.tracks.medals import Medals, decode_actions, medals_of, write_medals
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
        bronze, silver, gold = scripted_medals(track)
        found, kept = args.laps / f"{name}.json", medals_of(name)
        letters, minutes, is_settled = ("", 0.0, False)
        if kept is not None:
            letters, minutes, is_settled = kept.author_actions, kept.search_cpu_minutes, kept.search_is_settled
        author = replay_lap(track, decode_actions(letters)) if letters else None
        if found.exists():
            lap = json.loads(found.read_text())
            searched = replay_lap(track, decode_actions(lap["actions"]))
            if searched is not None and (author is None or searched.time_s <= author.time_s):
                author, letters = searched, lap["actions"]
                minutes, is_settled = lap["cpu_minutes"], lap["is_settled"]
        if author is None:
            print(f"{name}: no author lap; run tm-torchrl optimize {name} first")
            continue
        medals = Medals(bronze, silver, gold, author.time_s, letters, round(minutes, 1), is_settled)
        share = author.time_s / gold
        print(f"{name:10s} bronze {bronze:6.2f}  silver {silver:6.2f}  gold {gold:6.2f}  author {author.time_s:6.2f} "
              f"({share:.3f} of gold)  -> {write_medals(name, medals)}")  # fmt: skip
