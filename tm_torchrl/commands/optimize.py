"""Search for the fastest lap of a track: the author time.

    tm-torchrl optimize hillside
    tm-torchrl optimize my_track.npz --minutes 10

Can be stopped at any time and goes on where it was: each pass that ends is saved. A built-in track begins with the lap
that the package brings along. Ends by itself when 30 CPU minutes brought less than 0.2 %.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from urllib.parse import quote

os.environ.setdefault("OMP_NUM_THREADS", "1")
import torch
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from tm_torchrl.commands.parser import parser_for
from tm_torchrl.sim.search import Lap, LapSearch, replay_lap
from tm_torchrl.tracks import load_track
from tm_torchrl.tracks.medals import decode_actions, encode_actions, medals_of

SETTLED_CPU_MINUTES = 30.0
SETTLED_GAIN = 0.002
HOLDS = (3, 4, 3, 2)  # 50 ms steps between two selections, pass by pass


class Journal:
    """What a search has found and spent, in one JSON file."""

    def __init__(self, path: Path, track_name: str) -> None:
        self.path = path
        self.track = track_name
        self.lap: Lap | None = None
        self.cpu_minutes = 0.0
        self.passes = 0
        self.gains: list[tuple[float, float]] = []  # (CPU minutes, best time from then on)
        medals = medals_of(track_name)
        if not path.exists() and medals is not None:  # go on from the lap that the package brings along
            self.cpu_minutes = medals.search_cpu_minutes
            self.lap = Lap(medals.author_s, decode_actions(medals.author_actions))
            self.gains = [(self.cpu_minutes, medals.author_s)]
        if path.exists():
            try:
                saved = json.loads(path.read_text())
            except ValueError:
                raise SystemExit(f"{path} is no file of this script: delete it or choose another --out") from None
            if saved["track"] != track_name:
                raise SystemExit(
                    f"{path} belongs to track {saved['track']!r}, not {track_name!r}: choose another --out"
                )
            self.cpu_minutes, self.passes = saved["cpu_minutes"], saved["passes"]
            self.gains = [(minutes, best) for minutes, best in saved["gains"]]
            if saved["actions"]:
                self.lap = Lap(saved["time_s"], decode_actions(saved["actions"]))

    def begin_anew(self) -> None:
        """Forget a lap that track or physics have outlived."""
        self.lap, self.cpu_minutes, self.gains = None, 0.0, []

    @property
    def is_settled(self) -> bool:
        """Whether the last 30 CPU minutes brought less than 0.2 %."""
        since = self.cpu_minutes - SETTLED_CPU_MINUTES
        before = [best for minutes, best in self.gains if minutes <= since]
        return bool(before) and self.lap is not None and before[-1] - self.lap.time_s < SETTLED_GAIN * before[-1]

    def add(self, lap: Lap | None, cpu_minutes: float) -> None:
        """Book a pass and write the file at once."""
        self.passes += 1
        self.cpu_minutes += cpu_minutes
        if lap is not None:
            self.lap = lap
            self.gains.append((self.cpu_minutes, lap.time_s))
        saved = {
            "track": self.track,
            "time_s": None if self.lap is None else self.lap.time_s,
            "cpu_minutes": self.cpu_minutes,
            "passes": self.passes,
            "is_settled": self.is_settled,
            "gains": self.gains,
            "actions": "" if self.lap is None else encode_actions(self.lap.actions),
        }
        unfinished = self.path.with_suffix(".tmp")
        unfinished.write_text(json.dumps(saved, indent=1) + "\n")
        unfinished.replace(self.path)


def main() -> None:
    """Search until settled, or for ``--minutes``."""
    parser = parser_for("optimize", __doc__)
    parser.add_argument("track", help="a built-in track's name or a .npz file")
    parser.add_argument("--out", type=Path, help="JSON file to write and to go on from (runs/laps/TRACK.json)")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="CPU minutes to spend at most this time")
    parser.add_argument("--cars", type=int, default=8192, help="cars simulated at once")
    args = parser.parse_args()
    if not args.minutes > 0:
        raise SystemExit(f"error: --minutes {args.minutes}: must be positive")
    torch.set_num_threads(1)
    try:
        track = load_track(args.track)
    except (ValueError, OSError) as error:
        raise SystemExit(str(error)) from None
    out = args.out or Path("runs") / "laps" / f"{quote(track.name, safe=' ')}.json"
    journal = Journal(out, track.name)
    if journal.lap is not None:
        again = replay_lap(track, journal.lap.actions)
        if again is None or again.time_s != journal.lap.time_s:
            if out.exists():
                raise SystemExit(
                    f"{out}: its lap no longer takes {journal.lap.time_s:.2f} s: track or physics changed; delete it"
                )
            journal.begin_anew()
    try:
        search = LapSearch(track, num_cars=args.cars, seed=journal.passes)
    except ValueError as error:
        raise SystemExit(f"error: --cars {args.cars}: {error}") from None
    out.parent.mkdir(parents=True, exist_ok=True)
    spent = 0.0  # CPU minutes
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[state]}"), TimeElapsedColumn())
    with Progress(*columns) as progress:
        task = progress.add_task(track.name, total=SETTLED_CPU_MINUTES, state="first pass")
        while not journal.is_settled and spent < args.minutes:
            started = time.process_time()
            lap = search.run_pass(journal.lap, hold=HOLDS[journal.passes % len(HOLDS)])
            minutes = (time.process_time() - started) / 60.0
            spent += minutes
            journal.add(lap, minutes)
            last_gain = journal.gains[-1][0] if journal.gains else 0.0
            best = "no lap yet" if journal.lap is None else f"best {journal.lap.time_s:.2f} s"
            since = journal.cpu_minutes - last_gain
            state = f"{best}, pass {journal.passes}, {journal.cpu_minutes:.1f} CPU min, last gain {since:.1f} min ago"
            progress.update(task, completed=min(since, SETTLED_CPU_MINUTES), state=state)
    if journal.lap is None:
        raise SystemExit(f"no lap found on {track.name} in {journal.cpu_minutes:.1f} CPU minutes")
    print(f"{track.name}: {journal.lap.time_s:.2f} s after {journal.cpu_minutes:.1f} CPU minutes"
          f"{', settled' if journal.is_settled else ''}; wrote {out}")  # fmt: skip
