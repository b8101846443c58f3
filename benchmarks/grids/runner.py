"""Runs cells of the suite, each in its own process, and records their results."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import yaml

from benchmarks.grids.cells import INSTALL, Cell, Suite, digest
from benchmarks.grids.results import DONE, FAILED, Results, costs_of, curve_of
from tm_torchrl.experiments.grid import Process, run_grid
from tm_torchrl.experiments.run_process import RUN, STOPPED, RunProcess, failure, is_done, prepare
from tm_torchrl.record.run_folder import package_version, read_evaluations, read_metrics
from tm_torchrl.settings import ConfigError

POLL_S = 0.2
TELL_EVERY_S = 60.0  # how far the running cells are
BEGUN = "begun.json"  # in a cell's folder: versions, settings and place with which its run began
PEER_ARGUMENTS = ["-m", "benchmarks.peers.run"]
PEER_PACKAGES = {"sb3_contrib": "sb3-contrib", "tianshou": "tianshou"}
LISTED = 5  # differing results that a message names
Others = Literal["refuse", "take", "redo"]


def start(folder: Path, *, peer: str | None) -> Process:
    """The process of a cell."""
    return RunProcess(folder, command=None if peer is None else [sys.executable, *PEER_ARGUMENTS])


def starter(args: argparse.Namespace) -> Callable[..., Process]:
    """What starts the process of a cell here or, with ``--on ray``, in a cluster."""
    if args.on == "here":
        return start
    from tm_torchrl.experiments.on_ray import ray_runs  # imports torch

    try:
        start_run = ray_runs(args.resources, log=print)
    except (ValueError, ModuleNotFoundError) as error:
        raise ConfigError(str(error)) from error
    return lambda folder, *, peer: start_run(folder, arguments=None if peer is None else PEER_ARGUMENTS)


class Runner:
    """Runs cells and records what came of each."""

    def __init__(
        self,
        suite: Suite,
        cells: Sequence[Cell],
        *,
        results: Results,
        out: Path,
        facts: Mapping[str, Any],
        others: Others = "refuse",
        start: Callable[..., Process] = start,
        say: Callable[[str], None] = print,
    ) -> None:
        self.suite, self.cells, self.results, self.out = suite, list(cells), results, out
        self.facts, self.others, self.start, self.say = dict(facts), others, start, say
        self.failed: dict[str, str] = {}
        self._killed: set[str] = set()
        self._told = time.monotonic()

    def folder(self, cell: Cell) -> Path:
        """The folder of a cell's run."""
        return self.out / cell.environment / cell.algorithm / f"seed_{cell.seed}"

    def plan(self) -> dict[str, list[Cell]]:
        """Cells that are done, open, and skipped; raises for results of other versions or settings."""
        found: dict[str, list[Cell]] = {"done": [], "open": [], "skipped": []}
        others = []
        measured = {name: self.results.measured(name) for name in {cell.environment for cell in self.cells}}
        for cell in self.cells:
            row, lacking = self.results.cell(cell.environment, cell.algorithm, cell.seed), self.suite.lacking(cell)
            if row is None or (cell.algorithm, cell.seed) not in measured[cell.environment]:
                found["skipped" if lacking else "open"].append(cell)
                continue
            differs = "" if lacking else self._difference(cell, row)
            if differs and self.others == "refuse":
                others.append(f"{cell.name}: {differs}")
            found["open" if differs and self.others == "redo" else "done"].append(cell)
        if others:
            more = [f"and {len(others) - LISTED} more"] if len(others) > LISTED else []
            listed = "\n  ".join([*others[:LISTED], *more])
            raise ConfigError(
                f"{self.results.folder} holds results that were measured otherwise:\n  {listed}\n"
                "--mixed takes them as they are, --fresh does them again"
            )
        return found

    def _difference(self, cell: Cell, row: Mapping[str, Any]) -> str:
        """The difference between an earlier result and one measured now."""
        versions = self.versions(cell)
        if row["versions"] != versions:
            return f"versions {row['versions']}; here {versions}"
        return "" if str(row["settings"]) == digest(self.suite.settings(cell)) else "other settings"

    def versions(self, cell: Cell) -> str:
        """Versions of the packages that take part in a cell, as one text."""
        found = dict(self.facts["versions"])
        for module in self.suite.algorithms[cell.algorithm].get("needs", []):
            name = PEER_PACKAGES.get(module, module)
            found[name] = package_version(name)
        return ", ".join(f"{name} {version}" for name, version in found.items())

    def run(self, *, workers: int = 1) -> dict[str, str]:
        """Run all open cells; returns why cells failed, by name."""
        if workers < 1:
            raise ConfigError(f"workers={workers}: must be at least 1")
        plan = self.plan()
        for cell in plan["skipped"]:
            modules = ", ".join(name for name in self.suite.lacking(cell) if name != "cuda")
            why = f"{modules} is not installed: {INSTALL}" if modules else "it needs a CUDA device"
            self.say(f"{cell.name}: skipped, {why}")
        done, skipped = len(plan["done"]), len(plan["skipped"])
        self.say(f"{len(plan['open'])} cells to do, {done} done already, {skipped} skipped")
        run_grid(plan["open"], start=self._started, ended=self._ended, workers=workers, watch=self._show, poll_s=POLL_S)
        return self.failed

    def _show(self, running: Sequence[Cell]) -> None:
        if time.monotonic() - self._told < TELL_EVERY_S:
            return
        self._told = time.monotonic()
        for cell in running:
            run = self.folder(cell) / RUN
            frames = max((row["frames"] for row in [*read_metrics(run), *read_evaluations(run)]), default=0)
            self.say(f"{cell.name}: {frames:,} frames")

    def _started(self, cell: Cell) -> Process | None:
        """The process of a cell; ``None`` if its result is there already, or it cannot be started."""
        folder, settings = self.folder(cell), self.suite.settings(cell)
        before, now = self._begun(folder), self._facts(cell)
        is_alike = all(before.get(key) == now[key] for key in ("settings", "versions"))
        if self.others == "redo" and folder.exists() and not is_alike:  # what was begun by this command goes on
            shutil.rmtree(folder)
            before = {}
        try:
            refused = prepare(folder, settings)
            if not refused and not before:
                (folder / BEGUN).write_text(json.dumps(now) + "\n", encoding="utf-8")
        except (OSError, yaml.YAMLError) as error:
            refused = f"{folder} cannot be used, remove it: {error}"
        if not refused and before and not is_alike and self.others != "take":
            refused = f"{folder} began with {before['versions']}: --mixed takes it as it is, --fresh does it again"
        if refused:
            self._record(cell, {}, [], why=refused)
        elif is_done(folder):
            self._keep(cell)
        else:
            self.say(f"{cell.name}: runs, {settings['total_frames']:,} frames")
            return self.start(folder, peer=self.suite.peer(cell))
        return None

    def _ended(self, cell: Cell, status: int) -> bool:
        """Record the result of a cell; returns whether it goes on, which a cell does once if it was killed."""
        folder = self.folder(cell)
        if status < 0 and cell.name not in self._killed:
            self._killed.add(cell.name)
            self.say(f"{cell.name}: was killed ({status}); it goes on from its checkpoint")
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

    def _facts(self, cell: Cell) -> dict[str, Any]:
        """Settings, versions and place with which a cell would run now."""
        facts = {key: self.facts[key] for key in ("python", "machine", "git", "date", "command")}
        return {"settings": digest(self.suite.settings(cell)), "versions": self.versions(cell), **facts}

    def _begun(self, folder: Path) -> dict[str, Any]:
        """The facts with which the run of a folder began; empty if it did not."""
        try:
            found: dict[str, Any] = json.loads((folder / BEGUN).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            found = {}
        return found

    def _record(self, cell: Cell, costs: Mapping[str, Any], curve: Sequence[dict[str, Any]], *, why: str = "") -> None:
        row: dict[str, Any] = {"algorithm": cell.algorithm, "seed": cell.seed, "status": FAILED if why else DONE}
        row |= {"why": why, **costs, **(self._begun(self.folder(cell)) or self._facts(cell))}
        self.results.put(cell.environment, row, curve)
        if why:
            self.failed[cell.name] = why
            self.say(f"{cell.name}: FAILED: {why}")
        else:
            self.say(f"{cell.name}: done, {costs['cpu_s']:.0f} CPU s, score {curve[-1]['score']:.3f}")


def others_of(*, mixed: bool, fresh: bool) -> Others:
    """The treatment that ``--mixed`` and ``--fresh`` ask for."""
    return "take" if mixed else "redo" if fresh else "refuse"
