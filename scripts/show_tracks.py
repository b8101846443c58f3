"""A picture of tracks: from above, with heights, checkpoints and medal times.

python scripts/show_tracks.py                      # all built-in tracks
python scripts/show_tracks.py hillside my_track.npz --out hills.png
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tm_torchrl.record import track_gallery
from tm_torchrl.tracks import BUILTIN_TRACKS, load_track


def main() -> None:
    """Draw and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "tracks", nargs="*", default=BUILTIN_TRACKS, help="built-in names or .npz files; all by default"
    )
    parser.add_argument("--out", type=Path, default=Path("tracks.png"), help="picture to write (tracks.png)")
    args = parser.parse_args()
    try:
        tracks = [load_track(name) for name in args.tracks]
    except (ValueError, OSError) as error:
        raise SystemExit(str(error)) from None
    args.out.parent.mkdir(parents=True, exist_ok=True)
    track_gallery(tracks).savefig(args.out, dpi=80)
    print(f"wrote {args.out.resolve()}")


if __name__ == "__main__":
    main()
