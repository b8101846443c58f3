"""Bring a track of the game here, or give one of ours to Linesight and rulka.

tm-torchrl import-track maps/ESL-Hockolicious_0.5m_cl2.npy --width 24 --out hock.npz
tm-torchrl import-track A01.Replay.Gbx --map A01.Challenge.Gbx --out a01.npz
tm-torchrl import-track hillside --out hillside_0.5m.npy      # a built-in track or a .npz file
Then: tm-torchrl train env.track=a01.npz

A .npy file holds points along the race, half a metre apart. Replays and maps need pip install 'tm_torchrl[gbx]'.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from tm_torchrl.commands.parser import parser_for
from tm_torchrl.tracks import from_centreline, load_track
from tm_torchrl.tracks.files.gbx_files import read_drive, read_map
from tm_torchrl.tracks.files.line_files import resampled, save_line


def import_track(args: argparse.Namespace) -> str:
    """Read the line, lay the road, write the track; returns what to say."""
    source, out = str(args.source), Path(args.out)
    notes = []
    if out.suffix == ".npy" and not source.lower().endswith((".npy", ".gbx")):
        return f"wrote {save_line(load_track(source), out).resolve()}"
    line: str | np.ndarray = source
    name = Path(source).stem
    if source.lower().endswith(".gbx"):
        drive = read_drive(source)
        line, name = resampled(drive.positions), name.split(".")[0]
        notes.append(f"drive of {drive.race_time_ms / 1000:.2f} s, a position each {drive.sample_ms} ms")
        if drive.num_respawns:
            notes.append(f"warning: it has {drive.num_respawns} respawns, where the line jumps back; take another one")
    elif not source.lower().endswith(".npy"):
        raise ValueError(f"{source}: to write a .npz, give a .npy of points or a .Replay.Gbx; to write .npy, a track")
    if out.suffix == ".npy":
        if not isinstance(line, np.ndarray):
            raise ValueError(f"{source} holds points already; to write a .npy, give a track or a .Replay.Gbx")
        np.save(out, line.round(4))
        return "\n".join([*notes, f"wrote {out.resolve()}"])
    checkpoints: int | np.ndarray = args.checkpoints
    if args.map is not None:
        facts = read_map(args.map)
        checkpoints, name = facts.checkpoints, facts.name
        notes.append(f"map {facts.name} ({facts.environment}) with {len(checkpoints)} checkpoint blocks")
    track = from_centreline(
        line,
        width=args.width,
        name=args.name or name,
        checkpoints=checkpoints,
        is_drivable=not args.game_only,
    )
    track.save(out)
    gates = len(track.checkpoints)
    notes.append(f"{track.name}: {track.length:.0f} m, {gates} checkpoints and the finish, {args.width:g} m wide")
    return "\n".join([*notes, f"wrote {out.resolve()}"])


def main() -> None:
    """Convert and tell."""
    parser = parser_for("import-track", __doc__)
    parser.add_argument("source", help=".npy, .Replay.Gbx, or a track (a built-in name, or .npz)")
    parser.add_argument("--out", required=True, help=".npz (a track) or .npy (points)")
    parser.add_argument("--map", help=".Challenge.Gbx: its checkpoints and name")
    parser.add_argument("--width", type=float, default=24.0, help="of the road, metres (24; files do not tell)")
    parser.add_argument("--checkpoints", type=int, default=3, help="number of them, spread evenly, without --map")
    parser.add_argument("--name", help="of the track")
    parser.add_argument(
        "--game-only", action="store_true", help="for the real game, where roads cross; the simulator refuses it"
    )
    args = parser.parse_args()
    if not args.out.endswith((".npz", ".npy")):
        raise SystemExit(f"error: --out {args.out}: must end in .npz (a track) or .npy (points)")
    if args.checkpoints < 0:
        raise SystemExit(f"error: --checkpoints {args.checkpoints}: must be at least 0")
    try:
        print(import_track(args))
    except (ValueError, OSError, ImportError) as error:
        raise SystemExit(f"error: {error}") from None
