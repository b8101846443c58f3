"""Search settings for the suite's algorithms: random search, the same number of equally long trials for each.

    python benchmarks/tune.py cartpole                     # all algorithms of the space in suite.yaml
    python benchmarks/tune.py cartpole --algorithms iqn m_iqn
    python benchmarks/tune.py cartpole --write             # and let the suite use the best: benchmarks/tuned.yaml

Trial 0 is what suite.yaml says; the others draw every setting of the space anew, settings that algorithms share alike
for all of them. A trial is judged by the mean area under the curves of its seeds, which no grid has. What is done is
skipped, as in the suite; the tables lie in benchmarks/results/tuning.
"""

from __future__ import annotations

import argparse
import os
import sys
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.grids.cells import TUNED, Cell, Suite, known
from benchmarks.grids.results import DONE, Results, write_table
from benchmarks.grids.runner import Runner, others_of, starter
from benchmarks.grids.scores import areas, finals
from benchmarks.results_file import RESULTS, describe_run
from benchmarks.suite import add_flags_for_others, errors_to_status
from tm_torchrl.commands.parser import add_ray
from tm_torchrl.settings import ConfigError

FIRST_SEED, SEEDS_APART = 1_000, 10  # seeds of trial t: 1000 + 10 t and on; grids begin with 0
COLUMNS = ("algorithm", "trial", "runs", "area", "final_score", "cpu_s", "settings")
HEADER = "# Written by python benchmarks/tune.py: the best settings of each search, which the suite uses.\n"


def drawn(space: Sequence[Any], *, name: str) -> Any:
    """A value of a setting; the same name gives the same value.

    Examples:
        >>> drawn(["choice", 1, 2, 3], name="x/gamma/1") in (1, 2, 3)
        True
        >>> 0.1 <= drawn(["log", 0.1, 10.0], name="x/gamma/1") <= 10.0
        True
    """
    kind, *rest = space
    draws = np.random.default_rng(zlib.crc32(name.encode()))
    if kind == "choice":
        return rest[int(draws.integers(len(rest)))]
    if kind == "log":
        low, high = rest
        return float(f"{low * (high / low) ** draws.random():.2g}")
    raise ConfigError(f"tuning: {kind!r}: must be log or choice")


class Search:
    """Trials of one environment, whose name the search has unless it says otherwise."""

    def __init__(self, suite: Suite, name: str) -> None:
        self.suite = suite
        self.about: dict[str, Any] = known(name, suite.tuning, kind="environment")
        self.environment: str = self.about.get("environment", name)
        if self.about["seeds"] > SEEDS_APART:
            raise ConfigError(f"tuning: seeds={self.about['seeds']}: must be at most {SEEDS_APART}")

    def overrides(self, algorithm: str, trial: int) -> list[str]:
        """The overrides of a trial; the first has none."""
        if trial == 0:
            return []
        parts = known(algorithm, self.suite.algorithms, kind="algorithm").get("parts", [])
        spaces = [self.about["space"], *(self.about.get("parts", {}).get(part, {}) for part in parts)]
        return [
            f"{key}={drawn(values, name=f'{self.environment}/{key}/{trial}')}"
            for space in spaces
            for key, values in space.items()
        ]

    def cells(self, algorithms: Sequence[str]) -> list[Cell]:
        """The cells of all trials of all algorithms, trial by trial."""
        return [
            Cell(
                algorithm,
                self.environment,
                FIRST_SEED + SEEDS_APART * trial + seed,
                (*self.about.get("overrides", []), *self.overrides(algorithm, trial)),
            )
            for trial in range(self.about["trials"])
            for algorithm in algorithms
            for seed in range(self.about["seeds"])
        ]

    def trials(self, results: Results, algorithms: Sequence[str]) -> list[dict[str, Any]]:
        """A row for each trial of which all seeds are done."""
        rows, curves, found = results.cells(self.environment), results.curves(self.environment), []
        for algorithm in algorithms:
            for trial in range(self.about["trials"]):
                first = FIRST_SEED + SEEDS_APART * trial
                seeds = range(first, first + self.about["seeds"])
                done = [r for r in rows if r["algorithm"] == algorithm and r["seed"] in seeds and r["status"] == DONE]
                own = [r for r in curves if r["algorithm"] == algorithm and r["seed"] in seeds]
                if len(done) < len(seeds):
                    continue
                found.append(
                    {
                        "algorithm": algorithm,
                        "trial": trial,
                        "runs": len(done),
                        "area": float(np.mean(areas(own, algorithm))),
                        "final_score": float(np.mean(finals(own, algorithm))),
                        "cpu_s": sum(row["cpu_s"] for row in done),
                        "settings": " ".join(self.overrides(algorithm, trial)),
                    }
                )
        return found


def best_of(trials: Sequence[Mapping[str, Any]], algorithm: str) -> Mapping[str, Any] | None:
    """The trial of an algorithm with the largest area; the earlier of equal ones.

    >>> trials = [{"algorithm": "a", "trial": trial, "area": 1.0} for trial in (0, 1)]
    >>> best_of(trials, "a")["trial"]
    0
    """
    own = [trial for trial in trials if trial["algorithm"] == algorithm]
    return max(own, key=lambda trial: (trial["area"], -trial["trial"]), default=None)


def write_tuned(path: Path, environment: str, best: Mapping[str, Mapping[str, Any]]) -> None:
    """Put the settings of an environment's best trials into ``tuned.yaml``; others stay."""
    found: dict[str, dict[str, list[str]]] = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    own = found.setdefault(environment, {})
    for algorithm, trial in best.items():
        own[algorithm] = trial["settings"].split()
    path.write_text(HEADER + yaml.safe_dump(found, sort_keys=True), encoding="utf-8")


def main() -> None:
    """Search, write the table, say what was best."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("environment", help="a search of suite.yaml's tuning section")
    parser.add_argument("--algorithms", nargs="+", help="only these (all of the space)")
    parser.add_argument("--workers", type=int, help="runs at a time (one per core; on Ray all)")
    parser.add_argument("--out", type=Path, default=Path("runs/tuning"), help="folder of the run folders")
    parser.add_argument("--results", type=Path, default=RESULTS / "tuning", help="folder of the tables")
    add_flags_for_others(parser)
    add_ray(parser)
    parser.add_argument("--write", action="store_true", help="put the best into benchmarks/tuned.yaml")
    args = parser.parse_args()
    results = Results(args.results)
    with errors_to_status():
        suite = Suite(tuned=None)
        search = Search(suite, args.environment)
        algorithms = [*dict.fromkeys(args.algorithms or search.about["algorithms"])]
        facts, cells = describe_run(device="cpu"), search.cells(algorithms)
        others = others_of(mixed=args.mixed, fresh=args.fresh)
        runner = Runner(suite, cells, results=results, out=args.out, facts=facts, others=others)
        runner.start = starter(args)
        most = len(cells) if args.on == "ray" else os.cpu_count() or 1
        failed = runner.run(workers=most if args.workers is None else args.workers)
    trials = search.trials(results, [*dict.fromkeys([*search.about["algorithms"], *algorithms])])
    write_table(args.results / f"{args.environment}_trials.csv", COLUMNS, trials)
    found = {name: best for name in algorithms if (best := best_of(trials, name)) is not None}
    for name, best in found.items():
        spent = sum(trial["cpu_s"] for trial in trials if trial["algorithm"] == name) / 60
        print(f"{name}: trial {best['trial']}, area {best['area']:.3f}, of {spent:.0f} CPU minutes: {best['settings']}")
    if args.write and not failed:
        write_tuned(TUNED, search.environment, found)
        print("wrote", TUNED)
    raise SystemExit(bool(failed))


if __name__ == "__main__":
    main()
