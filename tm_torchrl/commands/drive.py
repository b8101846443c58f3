"""Drive a lap and look at it: a video of the chase view beside the track, and the line coloured by speed.

tm-torchrl drive                                  # the scripted driver on the default track
tm-torchrl drive leaps --driver author --out leap.mp4
tm-torchrl drive hillside --driver record         # the fastest lap known
tm-torchrl drive oval --driver keyboard           # a window: arrow keys drive, R restarts; keeps your best lap
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from tm_torchrl.commands.parser import parser_for
from tm_torchrl.invocation import command
from tm_torchrl.record.film import film_lap
from tm_torchrl.record.run_folder import save_lap, save_script
from tm_torchrl.record.video import require_writer
from tm_torchrl.sim import Simulator
from tm_torchrl.tracks import DEFAULT_TRACK, Track, load_track
from tm_torchrl.tracks.medals import medals_of, shipped_lap
from tm_torchrl.world.drivers import Driver, Pursuit, RandomDriver, Replay, drive
from tm_torchrl.world.input_scripts import script_of
from tm_torchrl.world.tracker import EndCause, Limits

KEYBOARD_FOLDER = Path("drives/keyboard")
END_TEXTS = {
    EndCause.NONE: "not finished",
    EndCause.TIME_LIMIT: "stopped by the time limit",
    EndCause.NO_PROGRESS: "stopped, as it made no progress",
    EndCause.OVERTURNED: "stopped, lying on the roof",
    EndCause.AIRBORNE: "stopped in the air",
    EndCause.OUT_OF_WORLD: "stopped outside the world",
    EndCause.INVALID: "stopped in an invalid state",
}
DRIVERS = ("scripted", "random", "author", "record", "keyboard")


def choose_driver(name: str, track: Track, world: Simulator, seed: int) -> Driver:
    """The driver that a name stands for."""
    if name == "scripted":
        return Pursuit([track], world.track_index, boldness=0.8)
    if name == "random":
        return RandomDriver(seed=seed)
    advice = "find one with tm-torchrl optimize, and drive it with tm-torchrl replay"
    return Replay(shipped_lap(track.name, name, option=f"--driver {name}", advice=advice))


def drive_with_keys(name: str) -> None:
    """Let the user race, and keep the best lap."""
    from tm_torchrl.record.keyboard import TkWindow, race_with_keys

    try:
        track = load_track(name)
        lap = race_with_keys(track, TkWindow(f"{track.name}: arrow keys drive"))
    except (ValueError, OSError, RuntimeError) as error:
        raise SystemExit(f"error: {error}") from None
    if lap is None:
        print(f"{track.name}: no lap was finished")
        return
    print(f"{track.name}: {lap.time_s:.2f} s")
    save_lap(KEYBOARD_FOLDER, track.name, lap.time_s, rows=lap.rows, actions=lap.actions)
    path = save_script(KEYBOARD_FOLDER, track.name, lap.time_s, script_of(lap.actions))
    print(f"the fastest lap is {path}; drive it again with {command('replay')} {path} --track {name}")


def result_text(track: Track, cause: EndCause, *, seconds: float, progress_m: float) -> str:
    """How a race ended.

    >>> result_text(load_track("oval"), EndCause.FINISHED, seconds=22.0, progress_m=900.0)
    'finished in 22.00 s, silver medal'
    >>> result_text(load_track("oval"), EndCause.TIME_LIMIT, seconds=3.0, progress_m=98.0)
    'stopped by the time limit after 3.00 s, 98 of 1177 m'
    """
    if cause != EndCause.FINISHED:
        return f"{END_TEXTS[cause]} after {seconds:.2f} s, {progress_m:.0f} of {track.length:.0f} m"
    medals = medals_of(track.name)
    medal = None if medals is None else medals.won_by(seconds)
    return f"finished in {seconds:.2f} s" + (f", {medal} medal" if medal else "")


def main() -> None:
    """Drive, then write video and picture."""
    parser = parser_for("drive", __doc__)
    parser.add_argument("track", nargs="?", default=DEFAULT_TRACK, help="a built-in name or a .npz file")
    parser.add_argument("--driver", choices=DRIVERS, default="scripted")
    parser.add_argument("--out", type=Path, help="video to write, .mp4 or .gif (drives/TRACK-DRIVER.mp4)")
    parser.add_argument("--seconds", type=float, default=300.0, help="longest race")
    parser.add_argument("--seed", type=int, default=0, help="of the random driver")
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.driver == "keyboard":
        drive_with_keys(args.track)
        return
    out: Path = args.out or Path("drives") / f"{Path(args.track).stem}-{args.driver}.mp4"
    try:
        require_writer(out)
        track = load_track(args.track)
        world = Simulator(track, num_cars=1)
        driver = choose_driver(args.driver, track, world, args.seed)
        rows = []
        for tracker in drive(world, driver, limits=Limits(race_s=args.seconds)):  # noqa: B007  used below
            rows.append(world.rows()[0].numpy().copy())
    except (ValueError, OSError, RuntimeError) as error:
        raise SystemExit(f"error: {error}") from None
    cause = EndCause(int(tracker["end_cause"].item()))
    result = result_text(
        track, cause, seconds=tracker["race_time_ms"].item() / 1000.0, progress_m=tracker["progress_m"].item()
    )
    print(f"{track.name}, {args.driver} driver: {result}")
    try:
        files = film_lap(track, np.stack(rows), out, result=result)
    except (RuntimeError, OSError) as error:
        raise SystemExit(f"error: {error}") from None
    for file in files:
        print(f"wrote {file.resolve()}")
