"""Draw the learning curves of runs side by side, over frames and over time.

tm-torchrl compare runs/hillside/*            # writes runs/compare.png
"""

from __future__ import annotations

import sys
from pathlib import Path

from tm_torchrl.commands.parser import parser_for, run_folder
from tm_torchrl.record.curves import compare_runs
from tm_torchrl.record.run_folder import read_evaluations


def main() -> None:
    """Draw and say where."""
    parser = parser_for("compare", __doc__)
    parser.add_argument("runs", type=run_folder, nargs="+", help="run folders")
    parser.add_argument("--track", help="which one, if the runs have several")
    parser.add_argument(
        "--out", type=Path, default=Path("runs/compare.png"), help="picture to write (runs/compare.png)"
    )
    args = parser.parse_args()
    try:
        if not args.out.suffix:
            raise ValueError(f"--out {args.out}: must end with .png, .svg or .pdf")
        without = [str(run) for run in args.runs if not read_evaluations(run)]
        if without:
            sys.stderr.write(f"left out, since they have no evaluations: {', '.join(without)}\n")
        args.out.parent.mkdir(parents=True, exist_ok=True)
        compare_runs(args.runs, track=args.track).savefig(args.out, dpi=110)
    except (ValueError, OSError) as error:
        raise SystemExit(f"error: {error}") from None
    print(f"wrote {args.out.resolve()}")
