"""Write a video of a run's best lap: chase view, map, readings; and the line coloured by speed.

tm-torchrl watch                              # the newest run: its record, into RUN/lap_TRACK.mp4
tm-torchrl watch RUN track=oval --out oval.gif
tm-torchrl watch RUN --fresh                  # drives some laps now and films the best of them
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import numpy as np
import torch

from tm_torchrl.agents import load_agent
from tm_torchrl.commands.parser import add_track, run_parser
from tm_torchrl.data.saving.checkpoint import CheckpointError
from tm_torchrl.game.errors import GameError
from tm_torchrl.record.film import film_lap
from tm_torchrl.record.run_folder import best_laps, lap_rows, load_time
from tm_torchrl.record.video import require_writer
from tm_torchrl.settings.stored import run_settings
from tm_torchrl.tracks import DEFAULT_TRACK, Track, load_track
from tm_torchrl.tracks.medals import medals_of


@dataclass
class Driven:
    """A lap to film.

    Args:
        track: Its track.
        rows: Car rows ``[T + 1, row]``.
        result: Its result as text.
    """

    track: Track
    rows: np.ndarray
    result: str


def kept_lap(run: Path, track: str | None, *, trust: list[str]) -> Driven | None:
    """The fastest lap that the run has kept, of its first track or of the named one; ``None`` if there is none."""
    env = run_settings(run, trust=trust)["env"]
    names = [track] if track is not None else [env.get("track") or DEFAULT_TRACK, *(env.get("tracks") or [])]
    laps = best_laps(run)
    chosen = next((str(name) for name in names if Path(str(name)).stem in laps), None)
    if chosen is None:
        return None
    found = load_track(chosen)
    time_s = load_time(laps[found.name])
    medals = medals_of(found.name)
    medal = None if medals is None else medals.won_by(time_s)
    return Driven(found, lap_rows(laps[found.name]), f"{time_s:.2f} s" + (f", {medal} medal" if medal else ""))


def fresh_lap(run: Path, track: str | None, *, num_laps: int, which: str, trust: list[str]) -> Driven:
    """The best of some laps that are driven now."""
    env = None if track is None else {"track": track, "tracks": None, "generated_tracks": None}
    row = load_agent(run, which=which, trust=trust, env=env).evaluate(laps=num_laps)[0]
    if "laps" not in row:
        raise ValueError(f"{row['task']} has no video yet; only TrackMania runs have")
    laps = row["laps"]
    time_s = laps.best_lap_s
    medal = f", {laps.medal} medal" if laps.medal else ""
    result = f"{time_s:.2f} s{medal}" if time_s is not None else f"not finished, {laps.progress_m.max():.0f} m"
    return Driven(laps.track, laps.rows, f"{result} (best of {num_laps} laps, {laps.finish_rate:.0%} finished)")


def main() -> None:
    """Choose a lap and film it."""
    parser = run_parser("watch", __doc__)
    add_track(parser)
    parser.add_argument("--out", type=Path, help=".mp4 or .gif (RUN/lap_TRACK.mp4)")
    parser.add_argument("--fresh", action="store_true", help="drive laps now instead of the record")
    parser.add_argument("--laps", type=int, default=8, help="with --fresh: how many to choose the best from (8)")
    args = parser.parse_intermixed_args()
    torch.set_num_threads(1)
    try:
        require_writer(args.out or "lap.mp4")
        lap = None if args.fresh else kept_lap(args.run, args.track, trust=args.trust)
        if lap is None:
            lap = fresh_lap(args.run, args.track, num_laps=args.laps, which=args.which, trust=args.trust)
    except (ValueError, OSError, CheckpointError, GameError) as error:
        raise SystemExit(f"error: {error}") from None
    print(f"{lap.track.name}: {lap.result}")
    out: Path = args.out or args.run / f"lap_{quote(lap.track.name, safe=' ')}.mp4"
    try:
        files = film_lap(lap.track, lap.rows, out, result=lap.result)
    except (RuntimeError, OSError) as error:
        raise SystemExit(f"error: {error}") from None
    for file in files:
        print(f"wrote {file.resolve()}")
