"""A picture of tracks: from above, with heights, checkpoints and medal times.

tm-torchrl tracks                      # all built-in tracks
tm-torchrl tracks hillside my_track.npz --out hills.png
"""

from __future__ import annotations

from pathlib import Path

from tm_torchrl.commands.parser import parser_for
from tm_torchrl.record import track_gallery
from tm_torchrl.tracks import BUILTIN_TRACKS, load_track


def main() -> None:
    """Draw and write."""
    parser = parser_for("tracks", __doc__)
    parser.add_argument(
        "tracks", nargs="*", default=BUILTIN_TRACKS, help="built-in names or .npz files; all by default"
    )
    parser.add_argument("--out", type=Path, default=Path("runs/tracks.png"), help="picture to write (runs/tracks.png)")
    args = parser.parse_args()
    try:
        tracks = [load_track(name) for name in args.tracks]
    except (ValueError, OSError) as error:
        raise SystemExit(str(error)) from None
    try:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        track_gallery(tracks).savefig(args.out, dpi=80)
    except OSError as error:
        raise SystemExit(f"error: {error}") from None
    print(f"wrote {args.out.resolve()}")
