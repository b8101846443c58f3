"""Draw the learning curves of runs side by side, over frames and over time.

tm-torchrl compare runs/hillside/* --out compare.png
"""

from __future__ import annotations

from pathlib import Path

from tm_torchrl.commands.parser import parser_for
from tm_torchrl.record.curves import compare_runs


def main() -> None:
    """Draw and say where."""
    parser = parser_for("compare", __doc__)
    parser.add_argument("runs", type=Path, nargs="+", help="run folders")
    parser.add_argument("--track", help="which one, if the runs have several")
    parser.add_argument("--out", type=Path, default=Path("compare.png"), help="picture to write (compare.png)")
    args = parser.parse_args()
    try:
        compare_runs(args.runs, track=args.track).savefig(args.out, dpi=110)
    except (ValueError, OSError) as error:
        raise SystemExit(f"error: {error}") from None
    print(f"wrote {args.out.resolve()}")
