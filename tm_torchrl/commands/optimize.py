"""Search for a faster lap of a track.

    tm-torchrl optimize hillside
    tm-torchrl optimize my_track.npz --minutes 10
    tm-torchrl optimize hillside --policy RUN --minutes 3    # a trained policy guides the search

Can be stopped at any time and goes on where it was: each pass that ends is saved, with the best lap as a script of
inputs beside it. Ends by itself when 30 CPU minutes brought less than 0.2 %. Without a policy a built-in track begins
with its record; with a policy, with no lap.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

os.environ.setdefault("OMP_NUM_THREADS", "1")
import torch
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from tm_torchrl.commands.parser import parser_for
from tm_torchrl.settings.stored import find_run
from tm_torchrl.sim.search import Lap, LapSearch, replay_lap
from tm_torchrl.tracks import Track, load_track
from tm_torchrl.tracks.medals import decode_actions, encode_actions, medals_of
from tm_torchrl.world.input_scripts import script_of

if TYPE_CHECKING:
    from tm_torchrl.agents.guided_search import Guidance

SETTLED_CPU_MINUTES = 30.0
SETTLED_GAIN = 0.002


class Journal:
    """What a search has found and spent, in one JSON file, with the lap's inputs in a script beside it.

    Args:
        path: The file; it is read if it exists.
        track_name: Name of the track.
        policy: The policy that guides the search; ``None`` for the search alone.
    """

    def __init__(self, path: Path, track_name: str, *, policy: str | None = None) -> None:
        self.path = path
        self.track = track_name
        self.policies: list[str] = []
        self.found_by = "search alone" if policy is None else "policy with search"
        self.lap: Lap | None = None
        self.cpu_minutes = 0.0
        self.passes = 0
        self.gains: list[tuple[float, float]] = []  # (CPU minutes, best time from then on)
        medals = medals_of(track_name)
        if not path.exists() and medals is not None and policy is None:  # from the lap that the package brings along
            record = medals.record
            self.found_by, self.cpu_minutes = record.found_by, record.cpu_minutes
            self.lap = Lap(record.time_s, decode_actions(record.actions))
            self.gains = [(self.cpu_minutes, record.time_s)]
        if path.exists():
            try:
                self._read(json.loads(path.read_text(encoding="utf-8")))
            except OSError as error:
                raise SystemExit(f"error: {error}") from None
            except (ValueError, LookupError, TypeError, AttributeError):
                raise SystemExit(f"{path} is no file of this script: delete it or choose another --out") from None
        if policy is not None and policy not in self.policies:
            self.policies.append(policy)

    def _read(self, saved: dict[str, Any]) -> None:
        if saved["track"] != self.track:
            raise SystemExit(
                f"{self.path} belongs to track {saved['track']!r}, not {self.track!r}: choose another --out"
            )
        self.policies = list(saved.get("policies", []))
        self.found_by = str(saved.get("found_by", "search alone"))
        self.cpu_minutes, self.passes = float(saved["cpu_minutes"]), int(saved["passes"])
        self.gains = [(float(minutes), float(best)) for minutes, best in saved["gains"]]
        if saved["actions"]:
            self.lap = Lap(float(saved["time_s"]), decode_actions(saved["actions"]))

    def begin_anew(self) -> None:
        """Forget a lap that track or physics have outlived."""
        self.lap, self.cpu_minutes, self.gains = None, 0.0, []
        self.found_by = "policy with search" if self.policies else "search alone"

    @property
    def is_settled(self) -> bool:
        """Whether the last 30 CPU minutes brought less than 0.2 %."""
        since = self.cpu_minutes - SETTLED_CPU_MINUTES
        before = [best for minutes, best in self.gains if minutes <= since]
        return bool(before) and self.lap is not None and before[-1] - self.lap.time_s < SETTLED_GAIN * before[-1]

    def offer(self, lap: Lap | None) -> None:
        """Keep the lap that the policy drives alone, if it is the fastest so far."""
        if lap is not None and (self.lap is None or lap.time_s < self.lap.time_s):
            self._keep(lap, "policy alone")
            self._save()

    def add(self, lap: Lap | None, cpu_minutes: float) -> None:
        """Book a pass and write the file at once."""
        self.passes += 1
        self.cpu_minutes += cpu_minutes
        if lap is not None:
            is_alone = self.found_by == "search alone" and not self.policies
            self._keep(lap, "search alone" if is_alone else "policy with search")
        self._save()

    def _keep(self, lap: Lap, found_by: str) -> None:
        self.lap, self.found_by = lap, found_by
        self.gains.append((self.cpu_minutes, lap.time_s))

    def _save(self) -> None:
        saved = {
            "track": self.track,
            "found_by": self.found_by,
            "policies": self.policies,
            "time_s": None if self.lap is None else self.lap.time_s,
            "cpu_minutes": self.cpu_minutes,
            "passes": self.passes,
            "is_settled": self.is_settled,
            "gains": self.gains,
            "actions": "" if self.lap is None else encode_actions(self.lap.actions),
        }
        try:
            _replace(self.path, json.dumps(saved, indent=1))
            if self.lap is not None:
                who = ", ".join([self.found_by, *self.policies])
                title = f"# {self.lap.time_s:.2f} s on {self.track} by {who}"
                _replace(self.script, f"{' '.join(title.split())}\n{script_of(self.lap.actions)}")
        except OSError as error:
            raise SystemExit(f"error: --out {self.path}: {error}") from None

    @property
    def script(self) -> Path:
        """The file of the lap's inputs."""
        return self.path.with_suffix(".inputs")


def _replace(path: Path, text: str) -> None:
    unfinished = path.with_suffix(".tmp")
    unfinished.write_text(text + "\n", encoding="utf-8")
    unfinished.replace(path)


def guidance_of(run: str, *, which: str, trust: list[str]) -> Guidance:
    """The guidance of a run's policy; raises ``ValueError`` for a run whose policy cannot guide a search."""
    from tm_torchrl.agents import load_agent  # here, since it takes seconds
    from tm_torchrl.agents.guided_search import Guidance

    return Guidance(load_agent(find_run(run), which=which, trust=trust))


def make_search(track: Track, guidance: Guidance | None, *, num_cars: int | None, seed: int) -> LapSearch:
    """The search alone, or guided by a policy."""
    if guidance is None:
        return LapSearch(track, seed=seed, **_given(num_cars))
    from tm_torchrl.agents.guided_search import GuidedSearch

    return GuidedSearch(track, guidance, seed=seed, **_given(num_cars))


def _given(num_cars: int | None) -> dict[str, int]:
    return {} if num_cars is None else {"num_cars": num_cars}


def main() -> None:
    """Search until settled, or for ``--minutes``."""
    parser = parser_for("optimize", __doc__)
    parser.add_argument("track", help="a built-in track's name or a .npz file")
    text = "JSON file to write and to go on from (runs/laps/TRACK.json; with a policy TRACK-with-policy.json)"
    parser.add_argument("--out", type=Path, help=text)
    parser.add_argument("--minutes", type=float, default=float("inf"), help="CPU minutes to spend at most this time")
    parser.add_argument("--cars", type=int, help="cars simulated at once (8192; with a policy 1024)")
    parser.add_argument("--policy", metavar="RUN", help="a run whose policy guides the search")
    parser.add_argument("--which", choices=("best", "latest"), default="best", help="weights of the policy")
    parser.add_argument(
        "--trust", action="append", default=[], metavar="PACKAGE", help="whose classes the run may name"
    )
    args = parser.parse_args()
    if not args.minutes > 0:
        raise SystemExit(f"error: --minutes {args.minutes}: must be positive")
    if args.out is not None and args.out.suffix != ".json":
        raise SystemExit(f"error: --out {args.out}: must be a .json file; the script of inputs is written beside it")
    torch.set_num_threads(1)
    try:
        track = load_track(args.track)
    except (ValueError, OSError) as error:
        raise SystemExit(str(error)) from None
    guidance = own = policy = None
    if args.policy is not None:
        try:
            guidance = guidance_of(args.policy, which=args.which, trust=args.trust)
        except (ValueError, OSError, RuntimeError) as error:
            raise SystemExit(f"error: --policy {args.policy}: {error}") from None
        own = guidance.lap(track)
        alone = "does not finish" if own is None else f"{own.time_s:.2f} s"
        what = f"{args.which}, {guidance.agent.description}; alone {alone}"
        policy = f"{find_run(args.policy).as_posix()} ({what})"
        print(f"{track.name}: policy alone {alone}, greedy from the start line")
    name = quote(track.name, safe=" ") + ("" if policy is None else "-with-policy")
    out = args.out or Path("runs") / "laps" / f"{name}.json"
    journal = Journal(out, track.name, policy=policy)
    if journal.lap is not None:
        again = replay_lap(track, journal.lap.actions)
        if again is None or again.time_s != journal.lap.time_s:
            if out.exists():
                raise SystemExit(
                    f"{out}: its lap no longer takes {journal.lap.time_s:.2f} s: track or physics changed; delete it"
                )
            journal.begin_anew()
    try:
        search = make_search(track, guidance, num_cars=args.cars, seed=journal.passes)
    except ValueError as error:
        raise SystemExit(f"error: --cars {args.cars}: {error}") from None
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SystemExit(f"error: --out {out}: {error}") from None
    spent = 0.0  # CPU minutes
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[state]}"), TimeElapsedColumn())
    with Progress(*columns) as progress:
        title = track.name if policy is None else f"{track.name}, with policy"
        task = progress.add_task(title, total=SETTLED_CPU_MINUTES, state="first pass")
        while not journal.is_settled and spent < args.minutes:
            started = time.process_time()
            lap = search.run_pass(journal.lap, hold=search.holds[journal.passes % len(search.holds)])
            minutes = (time.process_time() - started) / 60.0
            spent += minutes
            journal.add(lap, minutes)
            journal.offer(own)  # after the first pass, which a slow lap would hold back
            last_gain = journal.gains[-1][0] if journal.gains else 0.0
            best = "no lap yet" if journal.lap is None else f"best {journal.lap.time_s:.2f} s"
            since = journal.cpu_minutes - last_gain
            state = f"{best}, pass {journal.passes}, {journal.cpu_minutes:.1f} CPU min, last gain {since:.1f} min ago"
            progress.update(task, completed=min(since, SETTLED_CPU_MINUTES), state=state)
    if journal.lap is None:
        raise SystemExit(f"no lap found on {track.name} in {journal.cpu_minutes:.1f} CPU minutes")
    print(f"{track.name}: {journal.lap.time_s:.2f} s by {journal.found_by} after {journal.cpu_minutes:.1f} CPU minutes"
          f"{', settled' if journal.is_settled else ''}; wrote {out} and {journal.script.name}")  # fmt: skip
    medals = medals_of(track.name)
    if medals is not None:
        record_s = medals.record.time_s
        beside = "the record is" if journal.lap.time_s >= record_s else "faster than the record of"
        print(f"{track.name}: {beside} {record_s:.2f} s")
