"""Run a grid of algorithms x environments x seeds, each cell in its own process, into small tables.

    python benchmarks/suite.py                       # the grid "quick": four minutes on two cores
    python benchmarks/suite.py grid=standard         # quick | standard | extended | gpu, see suite.yaml
    python benchmarks/suite.py standard --cells iqn/cartpole m_iqn/hillside/0
    python benchmarks/suite.py standard --list       # what is done, what is to be done; runs nothing

Cells that are done are skipped; the same command goes on where it was ended, a killed cell from its checkpoint. A cell
that fails is recorded with the place of its log, and the rest goes on. Tables lie in benchmarks/results/suite, run
folders in runs/suite, those of the shortened grid "quick" both in runs/suite_quick; python benchmarks/report.py makes
the page of them. Exit status: 0 if all is done, 1 if cells failed, 2 for a mistake in what was asked for, 130 if it was
interrupted.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.grids.cells import Suite
from benchmarks.grids.results import Results
from benchmarks.grids.runner import Runner, others_of, starter
from benchmarks.results_file import RESULTS, describe_run
from tm_torchrl.commands.parser import add_ray
from tm_torchrl.settings import ConfigError


@contextlib.contextmanager
def errors_to_status() -> Iterator[None]:
    """End the program with status 2 for a mistake in what was asked for, and 130 if it is interrupted."""
    try:
        yield
    except (ConfigError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from here", file=sys.stderr)
        raise SystemExit(130) from None


def add_flags_for_others(parser: argparse.ArgumentParser) -> None:
    """Flags for results of other versions or settings."""
    other = parser.add_mutually_exclusive_group()
    other.add_argument("--mixed", action="store_true", help="take results of other versions or settings as they are")
    other.add_argument("--fresh", action="store_true", help="do those again; others of the grid stay as they are")


def main() -> None:
    """Run a grid, or say what there is to do."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("grid", nargs="?", default="quick", help="quick | standard | extended | gpu (quick)")
    parser.add_argument("--cells", nargs="+", default=[], help="only these: ALGORITHM[/ENVIRONMENT[/SEED]]")
    parser.add_argument("--workers", type=int, help="runs at a time (one per core; 1 for the grid gpu; on Ray all)")
    parser.add_argument("--out", type=Path, help="folder of the run folders (runs/suite; runs/suite_quick)")
    parser.add_argument("--results", type=Path, help="folder of the tables (benchmarks/results/suite; OUT/tables)")
    parser.add_argument("--list", action="store_true", help="say what is done and what is not")
    add_flags_for_others(parser)
    add_ray(parser)
    args = parser.parse_args()
    with errors_to_status():
        suite, grid = Suite(), args.grid.removeprefix("grid=")
        cells = suite.cells(grid)
        out = args.out or Path(f"runs/suite_{grid}" if suite.is_shortened(grid) else "runs/suite")
        tables = args.results or (out / "tables" if suite.is_shortened(grid) else RESULTS / "suite")
        facts = describe_run(device="cpu")
        facts["command"] = facts["command"].replace(" ".join(args.cells) or "...", "...")  # rows name their cells
        cells = suite.chosen(cells, args.cells) if args.cells else cells
        others = others_of(mixed=args.mixed, fresh=args.fresh)
        runner = Runner(suite, cells, results=Results(tables), out=out, facts=facts, others=others)
        if args.list:
            for state, own in runner.plan().items():
                print(f"{state} ({len(own)}): {' '.join(cell.name for cell in own)}")
            return
        runner.start = starter(args)
        cores = 1 if grid.endswith("gpu") else os.cpu_count() or 1  # all would share a GPU
        most = cores if args.on == "here" else len(cells)
        workers = most if args.workers is None else args.workers
        failed = runner.run(workers=workers)
    for name, why in failed.items():
        print(f"failed: {name}: {why}", file=sys.stderr)
    places = "" if tables == RESULTS / "suite" else f" --results {tables} --out {out}"
    print(f"tables: {tables}; python benchmarks/report.py{places} makes the page")
    raise SystemExit(bool(failed))


if __name__ == "__main__":
    main()
