"""Drive a kept lap or a TMInterface script again in the simulator or the game, and tell the time.

tm-torchrl replay RUN                                  # the best lap of each track, from where it began
tm-torchrl replay RUN/laps/oval_28500.npz
tm-torchrl replay best.inputs --track oval             # from the start line, standing
tm-torchrl replay best.inputs --track a01.npz --port 8478       # in the game (or --channel TMInterface0)
RUN/laps/*.inputs are the best laps from the start line. In the game without us: copy them to
Documents/TMInterface/Scripts, and load NAME.inputs in its console.
"""

from __future__ import annotations

import argparse
import zipfile
from pathlib import Path

import numpy as np

from tm_torchrl.commands.parser import parser_for, run_folder
from tm_torchrl.evaluation.replays import replay
from tm_torchrl.game import GameError, GameWorld, TMInterface1Client, TMInterface2Client
from tm_torchrl.record.run_folder import best_laps, load_lap, load_time
from tm_torchrl.settings.stored import read_yaml
from tm_torchrl.sim import Simulator
from tm_torchrl.tracks import Track, load_track
from tm_torchrl.world.car_row import CAR_ROW
from tm_torchrl.world.input_scripts import read_script


def drive_again(track: Track, actions: np.ndarray, start: np.ndarray | None, args: argparse.Namespace) -> str:
    """What came of it, in words; a start that was saved in the other world is left for the start line."""
    is_of_game = start is not None and start.dtype == np.uint8
    if args.port is None and args.channel is None:
        found = replay(Simulator(track, num_cars=1), actions, start=None if is_of_game else start)
    else:
        is_of_2 = args.port is not None
        client = TMInterface2Client(port=args.port) if is_of_2 else TMInterface1Client(channel=args.channel)
        world = GameWorld(client, track)
        try:
            found = replay(world, actions, start=start if is_of_game else None)
        finally:
            world.close()
    if found.time_s is not None:
        return f"finished in {found.time_s:.2f} s"
    where = found.rows[-1][CAR_ROW["position"]].round(1).tolist()
    return f"not finished: at {where} after {len(found.rows) - 1} steps"


def laps_of(path: Path) -> dict[str, Path]:
    """Kept laps by track."""
    if path.is_dir():
        found = best_laps(path)
        if not found:
            raise ValueError(f"{path} has no kept lap in laps/; none was finished yet")
        return found
    return {path.stem.rpartition("_")[0]: path}


def kept_lap(path: Path) -> dict[str, np.ndarray]:
    """Its arrays."""
    try:
        lap = load_lap(path)
    except (AttributeError, EOFError, TypeError, ValueError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} is no kept lap, or a damaged one: {error}") from None
    if "actions" not in lap:
        raise ValueError(f"{path} is no kept lap: there are no actions in it")
    return lap


def main() -> None:
    """Replay and print."""
    parser = parser_for("replay", __doc__)
    parser.add_argument("source", type=run_folder, help="a run folder, a kept lap (.npz) or a script (.inputs, .txt)")
    parser.add_argument("--track", help="a built-in name or a .npz file (the lap's own)")
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--port", type=int, help="of a game that runs with TMInterface 2.x")
    where.add_argument("--channel", help="of a game that runs with TMInterface 1.x")
    args = parser.parse_args()
    if args.port is not None and not 1 <= args.port <= 65535:
        raise SystemExit(f"error: --port {args.port}: must be between 1 and 65535")
    try:
        if args.source.suffix in (".inputs", ".txt"):
            if args.track is None:
                raise ValueError(f"{args.source}: a script tells no track; give --track NAME")
            print(f"{args.track}: {drive_again(load_track(args.track), read_script(args.source), None, args)}")
            return
        for name, path in laps_of(args.source).items():
            lap, kept_s = kept_lap(path), load_time(path)
            track = load_track(args.track or named_track(args.source, name))
            try:
                told = drive_again(track, lap["actions"], lap.get("start"), args)
            except ValueError as error:
                raise ValueError(f"{path}: {error}") from None
            print(f"{name}: {told} (kept as {kept_s:.2f} s)")
    except (ValueError, OSError, KeyError, GameError) as error:
        raise SystemExit(f"error: {error}") from None


def named_track(source: Path, name: str) -> str:
    """The run's own file of a track, if it is no built-in one."""
    folder = source if source.is_dir() else source.parent.parent
    path = folder / "config.yaml"
    if not path.is_file():
        return name
    settings = read_yaml(path)
    env = settings.get("env") if isinstance(settings, dict) else None
    if not isinstance(env, dict):
        raise ValueError(f"{path} is damaged: it has no settings of an env; give --track NAME")
    lists = [env.get(key) for key in ("tracks", "blind_tracks")]
    known = [env.get("track"), *(each for tracks in lists if isinstance(tracks, list) for each in tracks)]
    return next((str(each) for each in known if each is not None and Path(str(each)).stem == name), name)
