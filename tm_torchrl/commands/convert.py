"""Convert recorded laps: to other formats, and from them.

tm-torchrl convert demonstrations/hillside --to minari --out hillside-v0      # pip install "tm_torchrl[minari]"
tm-torchrl convert demonstrations/hillside --to parquet --out hillside-hub    # pip install "tm_torchrl[parquet]"
tm-torchrl convert hillside-v0 --out demonstrations/again                     # which format it is, is found out
tm-torchrl convert maps/img/TRACK_ID --track track.npz --out demonstrations/captured    # captures of rulka

What is damaged, of another layout or of several tracks is refused. Nothing in a data set is executed.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from tm_torchrl.commands.parser import parser_for
from tm_torchrl.data.demonstrations.description import MANIFEST, Description
from tm_torchrl.data.demonstrations.folder import DemonstrationFolder
from tm_torchrl.data.demonstrations.writer import DemonstrationWriter, DrivenLap
from tm_torchrl.data.formats.capture import is_capture, read_capture
from tm_torchrl.data.formats.minari_data import is_minari, read_minari, write_minari
from tm_torchrl.data.formats.parquet_data import is_parquet, read_parquet, write_parquet
from tm_torchrl.data.saving.atomic_files import DamagedFileError
from tm_torchrl.tracks import Track, load_track
from tm_torchrl.tracks.track_hash import track_hash

WRITERS = {"minari": write_minari, "parquet": write_parquet}
LAPS_OF_PART = 32


def convert(source: Path, out: Path, *, to: str, track: Track | None) -> None:
    """Write laps in another format; ``out`` appears only when it is complete.

    Args:
        source: The folder of the laps.
        out: A folder that does not exist yet.
        to: ``"laps"`` for a folder of this package, ``"minari"`` or ``"parquet"``.
        track: Where the laps were driven, if ``source`` does not say it.
    """
    if out.exists():
        raise ValueError(f"--out {out}: exists; choose another folder")
    partial = out.absolute().with_name(f"{out.name}.partial")  # absolute, since Minari repeats a relative path
    if partial.exists():
        raise ValueError(
            f"{partial}: exists, maybe of a conversion that was broken off; delete it or choose another --out"
        )
    try:
        if to == "laps":
            description, laps = read_laps(source, track)
            if track is not None and track_hash(track) != description.track_hash:
                raise ValueError(
                    f"--track {track.name}: {source} says that its laps were driven on {description.track}"
                )
            write_laps(description, laps, partial)
        else:
            if not (source / MANIFEST).is_file():
                raise ValueError(f"{source}: is no folder of recorded laps; convert it into one first")
            partial.parent.mkdir(parents=True, exist_ok=True)
            WRITERS[to](DemonstrationFolder(source), partial)
        partial.replace(out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def read_laps(source: Path, track: Track | None) -> tuple[Description, Iterator[DrivenLap]]:
    """The description and the laps of a folder in any of the other formats.

    Args:
        source: The folder.
        track: Where the laps were driven, if it does not say it.
    """
    if not source.is_dir():
        raise ValueError(f"{source}: is no folder")
    if is_minari(source):
        return read_minari(source, track)
    if is_parquet(source):
        return read_parquet(source)
    if is_capture(source):
        return read_capture(source, track)
    hint = "; it has recorded laps already: give --to" if (source / MANIFEST).is_file() else ""
    raise ValueError(f"{source}: has no Minari data set, no .parquet files and no manifest.json of a capture{hint}")


def write_laps(description: Description, laps: Iterator[DrivenLap], out: Path) -> None:
    """Write laps into a new folder.

    Args:
        description: What they have in common.
        laps: The laps.
        out: The folder.
    """
    writer = DemonstrationWriter(out, description)
    while chunk := list(islice(laps, LAPS_OF_PART)):
        writer.add(chunk, num_attempts=len(chunk))
    if not writer.num_laps:
        raise ValueError(f"{description.driver}: has no laps")


def main() -> None:
    """Convert and say what came of it."""
    parser = parser_for("convert", __doc__)
    parser.add_argument("source", type=Path, help="the folder of the laps, in any of the formats")
    parser.add_argument("--to", choices=("laps", *WRITERS), default="laps", help="laps: a folder to learn from (laps)")
    parser.add_argument("--out", type=Path, required=True, help="a new folder")
    parser.add_argument("--track", help="where the laps were driven, if they do not say it: a name or a .npz file")
    args = parser.parse_args()
    try:
        convert(args.source, args.out, to=args.to, track=None if args.track is None else load_track(args.track))
    except (ValueError, OSError, DamagedFileError, ModuleNotFoundError) as error:
        raise SystemExit(f"error: {error}") from None
    size = sum(file.stat().st_size for file in args.out.rglob("*") if file.is_file())
    print(f"wrote {args.out} ({size / 1e6:.1f} MB)")
    if args.to == "laps":
        folder = DemonstrationFolder(args.out)
        laps = folder.description
        print(f"{laps.track}: {folder.num_laps} laps of {len(folder):,} frames, {laps.driver}")
