"""Write a video of a trained agent's lap: chase view, map, readings; and the line coloured by speed.

tm-torchrl watch RUN                          # RUN/lap_TRACK.mp4
tm-torchrl watch RUN track=oval --out oval.gif
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from rich.progress import track as progress

from tm_torchrl.agents import load_agent
from tm_torchrl.commands.parser import parser_for
from tm_torchrl.data.saving.checkpoint import CheckpointError
from tm_torchrl.record import driven_line, write_video
from tm_torchrl.record.dashboard import Dashboard
from tm_torchrl.world.car_row import CAR_ROW


def main() -> None:
    """Drive some laps, film the best."""
    parser = parser_for("watch", __doc__)
    parser.add_argument("run", type=Path, help="a run folder")
    parser.add_argument("track", nargs="?", help="track=NAME: another track than the run's")
    parser.add_argument("--out", type=Path, help=".mp4 or .gif (RUN/lap_TRACK.mp4)")
    parser.add_argument("--laps", type=int, default=8, help="to choose the best from")
    parser.add_argument("--which", choices=("best", "latest"), default="best", help="weights")
    parser.add_argument(
        "--trust", action="append", default=[], metavar="PACKAGE", help="a package whose classes the run may name"
    )
    args = parser.parse_args()
    if args.out is not None and args.out.suffix not in (".mp4", ".gif"):
        raise SystemExit(f"--out {args.out}: videos end in .mp4 or .gif")
    torch.set_num_threads(1)
    wanted = args.track.removeprefix("track=") if args.track else None
    try:
        agent = load_agent(
            args.run, which=args.which, trust=args.trust, env=None if wanted is None else {"track": wanted}
        )
        row = agent.evaluate(laps=args.laps)[0]
    except (ValueError, OSError, CheckpointError) as error:
        raise SystemExit(f"error: {error}") from None
    if "laps" not in row:
        raise SystemExit(f"error: {row['task']} has no video yet; only TrackMania runs have")
    laps = row["laps"]
    time = laps.best_lap_s
    medal = f", {laps.medal} medal" if laps.medal else ""
    result = f"{time:.2f} s{medal}" if time is not None else f"not finished, {laps.progress_m.max():.0f} m"
    print(f"{laps.track.name}: {result} (best of {args.laps} laps, {laps.finish_rate:.0%} finished)")
    out: Path = args.out or args.run / f"lap_{laps.track.name}.mp4"
    dashboard = Dashboard(laps.track)
    rows = list(laps.rows)

    def frames() -> Iterator[np.ndarray]:
        for step in progress(range(len(rows)), description="drawing"):
            yield dashboard.frame(rows[: step + 1])

    try:
        video = write_video(frames(), out)
        speed = np.linalg.norm(laps.rows[:, CAR_ROW["velocity"]], axis=1)
        figure = driven_line(laps.track, laps.rows[:, CAR_ROW["position"]], speed, title=f"{laps.track.name}: {result}")
        figure.savefig(out.with_suffix(".png"), dpi=90)
    except (RuntimeError, OSError) as error:
        raise SystemExit(f"error: {error}") from None
    print(f"wrote {video.resolve()}")
    print(f"wrote {out.with_suffix('.png').resolve()}")
