"""Run a grid of algorithms x environments x seeds, each cell in a process of its own, into small tables.

    python benchmarks/suite.py                       # the grid "quick": four minutes on two cores
    python benchmarks/suite.py grid=standard         # quick | standard | extended | gpu, see suite.yaml
    python benchmarks/suite.py standard --cells iqn/cartpole m_iqn/hillside/0
    python benchmarks/suite.py standard --list       # what is done, what is to be done; runs nothing

What is done is skipped; the same command goes on where it was ended, a killed cell from its checkpoint. A cell that
fails is written down with the place of its log, and the rest goes on. Tables lie in benchmarks/results/suite, run
folders in runs/suite, those of the shortened grid "quick" both in runs/suite_quick; python benchmarks/report.py makes
the page of them. Exit status: 0 if all is done, 1 if cells failed, 2 for a mistake in what was asked for, 130 if it was
interrupted.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import yaml

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.grids.cells import INSTALL, Cell, Suite, digest
from benchmarks.grids.display import SuiteDisplay, default_workers
from benchmarks.grids.results import DONE, FAILED, Results, costs_of, curve_of
from benchmarks.results_file import RESULTS, describe_run
from tm_torchrl.experiments.run_process import RUN, STOPPED, RunProcess, failure, is_done, prepare
from tm_torchrl.record.run_folder import package_version
from tm_torchrl.settings import ConfigError

POLL_S = 0.2
BEGUN = "begun.json"  # in a cell's folder: with what its run began
PEER_COMMAND = [sys.executable, "-m", "benchmarks.peers.run"]
PEER_PACKAGES = {"sb3_contrib": "sb3-contrib", "tianshou": "tianshou"}


class Process(Protocol):
    """A cell's run while it goes on."""

    def poll(self) -> int | None:
        """Its exit status, ``None`` while it runs."""
        ...

    def stop(self) -> int:
        """Let it save and end."""
        ...


def start(folder: Path, *, peer: str | None) -> Process:
    """A cell's process."""
    return RunProcess(folder, command=None if peer is None else PEER_COMMAND)


class Runner:
    """Runs cells, several at a time, and writes down what came of each.

    Args:
        suite: says what the cells are.
        cells: to be done.
        results: tables.
        out: folder of the run folders.
        workers: processes at a time.
        facts: where and with what it is measured, for every row.
        display: what people see.
        mixed: take results of other versions or settings as they are.
        fresh: do those again.
        start: starts the process of a folder.
    """

    def __init__(
        self,
        suite: Suite,
        cells: Sequence[Cell],
        *,
        results: Results,
        out: Path,
        workers: int,
        facts: Mapping[str, Any],
        display: SuiteDisplay,
        mixed: bool = False,
        fresh: bool = False,
        start: Callable[..., Process] = start,
    ) -> None:
        if workers < 1:
            raise ConfigError(f"workers={workers}: at least 1 is needed")
        self.suite, self.cells, self.results, self.out = suite, list(cells), results, out
        self.workers, self.facts, self.display, self.start = workers, dict(facts), display, start
        self.mixed, self.fresh = mixed, fresh
        self.failed: dict[str, str] = {}
        self._killed: set[str] = set()

    def folder(self, cell: Cell) -> Path:
        """Of a cell's run."""
        return self.out / cell.environment / cell.algorithm / f"seed_{cell.seed}"

    def plan(self) -> dict[str, list[Cell]]:
        """Cells that are done, to be done, and skipped; results that do not belong here are refused."""
        found: dict[str, list[Cell]] = {"done": [], "open": [], "skipped": []}
        others = []
        measured = {name: self.results.measured(name) for name in {cell.environment for cell in self.cells}}
        for cell in self.cells:
            row = self.results.cell(cell.environment, cell.algorithm, cell.seed)
            if row is None or (cell.algorithm, cell.seed) not in measured[cell.environment]:
                found["skipped" if self.suite.lacking(cell) else "open"].append(cell)
                continue
            differs = "" if self.suite.lacking(cell) else self._difference(cell, row)
            if differs and self.fresh:
                found["open"].append(cell)
                continue
            if differs and not self.mixed:
                others.append(f"{cell.name}: {differs}")
            found["done"].append(cell)
        if others:
            listed = "\n  ".join([*others[:5], *([f"and {len(others) - 5} more"] if len(others) > 5 else [])])
            raise ConfigError(
                f"{self.results.folder} holds results that were measured otherwise:\n  {listed}\n"
                "--mixed takes them as they are, --fresh does them again"
            )
        return found

    def _difference(self, cell: Cell, row: Mapping[str, Any]) -> str:
        """What is different about a result of before."""
        versions = self.versions(cell)
        if row["versions"] != versions:
            return f"versions {row['versions']}; here {versions}"
        if str(row["settings"]) != digest(self.suite.settings(cell)):
            return "other settings"
        return ""

    def versions(self, cell: Cell) -> str:
        """Of what takes part in a cell, as one text."""
        wanted = dict(self.facts["versions"])
        for module in self.suite.algorithms[cell.algorithm].get("needs", []):
            name = PEER_PACKAGES.get(module, module)
            wanted[name] = package_version(name)
        return ", ".join(f"{name} {version}" for name, version in wanted.items())

    def run(self) -> dict[str, str]:
        """All cells that are to be done; returns why cells failed, by name."""
        plan = self.plan()
        for cell in plan["skipped"]:
            lacking = self.suite.lacking(cell)
            modules = ", ".join(name for name in lacking if name != "cuda")
            why = f"{modules} is not installed: {INSTALL}" if modules else "it needs a CUDA device"
            self.display.say(f"{cell.name}: skipped, {why}")
        waiting, running = deque(plan["open"]), dict[str, tuple[Cell, Process]]()
        self.display.begin(done=len(plan["done"]), skipped=len(plan["skipped"]), open_cells=len(waiting))
        try:
            while waiting or running:
                while waiting and len(running) < self.workers:
                    cell = waiting.popleft()
                    process = self._started(cell)
                    if process is not None:
                        running[cell.name] = (cell, process)
                for name, (cell, process) in list(running.items()):
                    status = process.poll()
                    if status is not None:
                        process.stop()
                        del running[name]
                        if self._ended(cell, status):
                            waiting.appendleft(cell)
                self.display.show({name: self.folder(cell) for name, (cell, _) in running.items()})
                if running:
                    time.sleep(POLL_S)
        finally:
            for _, process in running.values():
                process.stop()
        return self.failed

    def _started(self, cell: Cell) -> Process | None:
        """The process of a cell; none if its result lies there already, or it cannot be started."""
        folder, settings = self.folder(cell), self.suite.settings(cell)
        before, own = self._begun(folder), self._own_facts(cell)
        is_alike = all(before.get(key) == own[key] for key in ("settings", "versions"))
        if self.fresh and folder.exists() and not is_alike:  # what was begun by this command goes on
            shutil.rmtree(folder)
            before = {}
        try:
            refused = prepare(folder, settings)
            if not refused and not before:
                (folder / BEGUN).write_text(json.dumps(own) + "\n", encoding="utf-8")
        except (OSError, yaml.YAMLError) as error:
            refused = f"{folder} cannot be used, remove it: {error}"
        if not refused and before and not is_alike and not self.mixed:
            refused = f"{folder} began with {before['versions']}: --mixed takes it as it is, --fresh does it again"
        if refused:
            self._record(cell, {}, [], why=refused)
        elif is_done(folder):
            self._keep(cell)
        else:
            self.display.started(cell.name, total_frames=settings["total_frames"])
            return self.start(folder, peer=self.suite.peer(cell))
        return None

    def _ended(self, cell: Cell, status: int) -> bool:
        """Write down what came of a cell; returns whether it is to go on, once, since somebody killed it."""
        folder = self.folder(cell)
        if status < 0 and cell.name not in self._killed:
            self._killed.add(cell.name)
            self.display.say(f"{cell.name}: was killed ({status}); it goes on from its checkpoint")
            return True
        why = "it was stopped; the same command goes on" if status == STOPPED else failure(folder, status)
        if why:
            self._record(cell, {}, [], why=why)
        else:
            self._keep(cell)
        return False

    def _keep(self, cell: Cell) -> None:
        folder = self.folder(cell)
        try:
            about, every = self.suite.environment(cell.environment), self.suite.settings(cell)["evaluation"]
            curve = curve_of(folder / RUN, about, every_frames=every["every_frames"])
            self._record(cell, costs_of(folder), curve)
        except (ValueError, OSError, KeyError, TypeError, AttributeError) as error:
            self._record(cell, {}, [], why=f"its results cannot be read, remove {folder}: {error}")

    def _own_facts(self, cell: Cell) -> dict[str, Any]:
        """With what a cell would be run now."""
        facts = {key: self.facts[key] for key in ("python", "machine", "git", "date", "command")}
        return {"settings": digest(self.suite.settings(cell)), "versions": self.versions(cell), **facts}

    def _begun(self, folder: Path) -> dict[str, Any]:
        """With what the run of a folder began; empty if it did not."""
        try:
            found: dict[str, Any] = json.loads((folder / BEGUN).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            found = {}
        return found

    def _record(self, cell: Cell, costs: Mapping[str, Any], curve: Sequence[dict[str, Any]], *, why: str = "") -> None:
        row: dict[str, Any] = {"algorithm": cell.algorithm, "seed": cell.seed, "status": FAILED if why else DONE}
        row |= {"why": why, **costs, **(self._begun(self.folder(cell)) or self._own_facts(cell))}
        self.results.put(cell.environment, row, curve)
        if why:
            self.failed[cell.name] = why
            self.display.say(f"{cell.name}: FAILED: {why}")
        else:
            self.display.say(f"{cell.name}: done, {costs['cpu_s']:.0f} CPU s, score {curve[-1]['score']:.3f}")
        self.display.ended(cell.name, is_failed=bool(why))


def main() -> None:
    """Run a grid, or say what there is to do."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("grid", nargs="?", default="quick", help="quick | standard | extended | gpu (quick)")
    parser.add_argument("--cells", nargs="+", default=[], help="only these: ALGORITHM[/ENVIRONMENT[/SEED]]")
    parser.add_argument("--workers", type=int, help="processes at a time (one for each core; 1 for the grid gpu)")
    parser.add_argument("--out", type=Path, help="folder of the run folders (runs/suite; runs/suite_quick)")
    parser.add_argument("--results", type=Path, help="folder of the tables (benchmarks/results/suite; OUT/tables)")
    parser.add_argument("--list", action="store_true", help="say what is done and what is not")
    other = parser.add_mutually_exclusive_group()
    other.add_argument("--mixed", action="store_true", help="take results of other versions or settings as they are")
    other.add_argument("--fresh", action="store_true", help="do those again; others of the grid stay as they are")
    args = parser.parse_args()
    display = SuiteDisplay()
    try:
        suite, grid = Suite(), args.grid.removeprefix("grid=")
        cells, out, tables = suite.cells(grid), Path("runs/suite"), RESULTS / "suite"
        if suite.is_shortened(grid):
            out = Path(f"runs/suite_{grid}")
            tables = out / "tables"
        out, tables = args.out or out, args.results or tables
        facts = describe_run(device="cpu")
        facts["command"] = facts["command"].replace(" ".join(args.cells) or "...", "...")  # rows name their cells
        runner = Runner(
            suite,
            suite.chosen(cells, args.cells) if args.cells else cells,
            results=Results(tables),
            out=out,
            workers=default_workers(grid) if args.workers is None else args.workers,
            facts=facts,
            display=display,
            mixed=args.mixed,
            fresh=args.fresh,
        )
        if args.list:
            for state, own in runner.plan().items():
                print(f"{state} ({len(own)}): {' '.join(cell.name for cell in own)}")
            return
        with display:
            failed = runner.run()
    except (ConfigError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from here", file=sys.stderr)
        raise SystemExit(130) from None
    for name, why in failed.items():
        print(f"failed: {name}: {why}", file=sys.stderr)
    places = "" if tables == RESULTS / "suite" else f" --results {tables} --out {out}"
    print(f"tables: {tables}; python benchmarks/report.py{places} makes the page")
    raise SystemExit(bool(failed))


if __name__ == "__main__":
    main()
