"""Write benchmarks/README.md and its pictures from the suite's tables.

    python benchmarks/report.py              # from benchmarks/results/suite
    python benchmarks/report.py --check      # changes nothing, exit 1 if the page is out of date
    python benchmarks/report.py --results FOLDER --out FOLDER

Results of several versions or machines are refused unless --mixed is given.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.grids import scores
from benchmarks.grids.cells import Suite
from benchmarks.grids.results import DONE, HELD_OUT, MEDALS, SEEN, Results
from benchmarks.pages.figures import Panel, curves_figure, profiles_figure
from benchmarks.pages.search import search_section
from benchmarks.pages.tables import table
from benchmarks.results_file import PACKAGES, RESULTS
from tm_torchrl.settings.construct import ConfigError

HOME = Path(__file__).resolve().parent
BASELINE = "qrdqn"
KINDS = (HELD_OUT, SEEN)  # of tracks; the first that there is, is judged
FINISHED = 1e-9  # a score above it has a finished lap
REFERENCE = (
    "These tracks have no author's time: a score of 1 is {:g} m/s on average. All but the laps is of held-out tracks."
)
INTRODUCTION = """\
# Benchmarks

Written by `python benchmarks/report.py` from the tables in `{folder}`.
`python benchmarks/suite.py` fills them cell by cell: the grid `quick` in four minutes on two cores; what this page has
took {hours} CPU hours of training. `pip install -e '.[bench]' -c constraints.txt` installs the other libraries.
`benchmarks/suite.yaml` says what a cell is.

- **Score:** 0 for the worst and 1 for the best that an environment pays; on tracks the mean of the author's time over
  the lap's, 0 for a lap that did not finish. A run's *final score* is the mean of the last fifth of its evaluations,
  its *area* the mean of all.
- **Numbers over runs** are interquartile means with 95 % stratified bootstrap intervals; of one run there is none.
- **Pairs won:** of all pairs of a run and one of the other algorithm (QR-DQN, if none is named), the share in which it
  has the higher final score, or the larger area (ties count half). Two algorithms differ if the interval lies on one
  side of a half. It is not corrected for the number of comparisons: a few will do so by chance.
- **Frames and CPU seconds to a score, or to a first finished lap,** are medians over runs: "never" if no run got there,
  "-" if at most half did. CPU seconds are those of training, one thread; their ratio is the median over
  seeds that both ran on the same day, since days differ in speed.
- **Policies** (PPO, GRPO, DPO) need more frames and far less computing for each. They get as many as PPO's
  preset plays in the CPU seconds of M-IQN's run: compare them with the others by CPU seconds. The frames in the
  headings are those of the quantile family.
- **Killed** runs went on from a checkpoint without all that their replay held.
- **Names:** M- is Munchausen, NQ non-crossing quantiles, BTR what Beyond The Rainbow adds but its images.

"""
BESIDE = """\
Beside other libraries, each with its authors' settings or with ours. Ours comes first; all runs of an environment have
the same number of frames. "Our settings" are ours as far as the library takes them. Ours have more: the target network
follows slowly; on tracks random actions are held for a while, actions nearly as good as the best are tried, the
discount rises, networks have dueling heads and orthogonal initial weights and round to bfloat16, the loss turns linear
at a smaller error (kappa), and returns end at random actions. "Plain" is ours without all that.
"""
NETWORKS = """\
Action gap: how far the best action's value is above the second's. Policy churn: the share of states whose greedy action
changes between two rows of the log, the mean over a run. Crossing: the share of neighbouring quantiles in the wrong
order. Gap and crossing are those at a run's end; all are medians over runs.
"""


class Page:
    """The page and its pictures."""

    def __init__(self, suite: Suite, results: Results, *, mixed: bool = False) -> None:
        self.suite, self.results = suite, results
        self.environments = [name for name in suite.environments if results.cells(name)]
        self.rows = {name: results.cells(name) for name in self.environments}
        self.curves_of_kinds = {name: self._done(name) for name in self.environments}
        self.curves = {name: [*kinds.values(), []][0] for name, kinds in self.curves_of_kinds.items()}
        self.titles = {name: about["title"] for name, about in suite.algorithms.items()}
        if not self.environments:
            raise SystemExit(f"{results.folder}: no results in it; python benchmarks/suite.py makes some")
        measured = self._measured_with()
        if len(measured) > 1 and not mixed:
            listed = "\n  ".join(measured)
            raise SystemExit(
                f"{results.folder} holds results of several versions or machines:\n  {listed}\n"
                "--mixed takes them together; benchmarks/suite.py --fresh measures those of other versions again, "
                "those of another machine or Python once their rows are removed"
            )

    def _done(self, environment: str) -> dict[str, list[dict[str, Any]]]:
        """Evaluations of finished runs, on held-out tracks and on seen ones; runs without any are refused."""
        measured = self.results.measured(environment)
        done = {(row["algorithm"], row["seed"]) for row in self.rows[environment] if row["status"] == DONE}
        lost = [f"{name}/{environment}/{seed}" for name, seed in sorted(done - measured)]
        if lost:
            listed = ", ".join([*lost[:3], *([f"{len(lost) - 3} more"] if len(lost) > 3 else [])])
            raise ConfigError(
                f"{self.results.folder / environment}_curves.csv has nothing of {listed}; take it from the last "
                "commit, or benchmarks/suite.py makes it anew"
            )
        rows = [row for row in self.results.curves(environment) if (row["algorithm"], row["seed"]) in measured]
        return {kind: own for kind in KINDS if (own := [row for row in rows if row["which"] == kind])}

    def _measured_with(self) -> list[str]:
        """Machines, and versions of the packages that all cells have; each once."""
        found = set()
        for rows in self.rows.values():
            for row in rows:
                versions = [part for part in row["versions"].split(", ") if part.split(" ")[0] in PACKAGES]
                found.add(f"{', '.join(versions)}, Python {row['python']}, {row['machine']}")
        return sorted(found)

    def algorithms(self, environment: str) -> list[str]:
        """Algorithms that have a finished run, in the order of ``suite.yaml``."""
        have = {row["algorithm"] for row in self.curves[environment]}
        return [name for name in self.titles if name in have]

    def pairs(self, names: Sequence[str]) -> list[tuple[str, str]]:
        """Ours of these algorithms, each with one to judge it by: another library's, or a plainer one of ours."""
        about = self.suite.algorithms
        found = {name: about[name] for name in names if "settings_of" in about[name]}
        beside = {name: arm.get("beside", [arm["settings_of"]]) for name, arm in found.items()}
        return [(ours, name) for name, all_ours in beside.items() for ours in all_ours if ours in names]

    def _panels(self, names: Sequence[str]) -> list[Panel]:
        """The panels of a picture of algorithms."""
        about, groups = self.suite.algorithms, dict[str, list[str]]()
        for name in names:
            groups.setdefault(about[name]["panel"], []).append(name)
        alone = [BASELINE]  # it is in every panel
        shown = {title: own for title, own in groups.items() if own != alone or len(groups) == 1}
        return [Panel(title, own, about[own[0]].get("settings_of", BASELINE)) for title, own in shown.items()]

    def text(self) -> str:
        """The whole page."""
        spent = sum(row["cpu_s"] for rows in self.rows.values() for row in rows if row["status"] == DONE)
        folder = self.results.folder
        shown = folder.relative_to(HOME.parent) if folder.is_relative_to(HOME.parent) else folder
        parts = [
            INTRODUCTION.format(folder=shown, hours=f"{spent / 3_600:.1f}"),
            f"Measured with {'; '.join(self._measured_with())}.\n",
        ]
        parts += [self._overall()] if len(self._places()) > 1 else []
        parts += [self._environment(name) for name in self.environments if self.curves[name]]
        searched = search_section(
            folder.parent / "tuning", self.environments, titles=self.titles, tuning=self.suite.tuning
        )
        return "\n".join([*parts, searched, self._failures()]).rstrip() + "\n"

    def _finals(self, algorithm: str, environment: str) -> list[float]:
        return scores.finals(self.curves[environment], algorithm)

    def _everywhere(self) -> list[str]:
        """Algorithms that have runs in each of these environments."""
        places = self._places()
        return [name for name in self.titles if places and all(self._finals(name, place) for place in places)]

    def _places(self) -> list[str]:
        """Environments where the baseline has enough runs to be judged by."""
        return [name for name in self.environments if len(self._finals(BASELINE, name)) >= scores.ENOUGH_RUNS]

    def _has_laps(self, environment: str) -> bool:
        return any(row["finish_rate"] is not None for row in self.curves[environment])

    def _overall(self) -> str:
        """The table over environments."""
        places = self._places()
        theirs, rows = [self._finals(BASELINE, place) for place in places], []
        for name in self._everywhere():
            ours = [self._finals(name, place) for place in places]
            won = "-" if name == BASELINE else scores.probability_of_improvement(ours, theirs).text()
            rows.append((self.titles[name], scores.over_environments(ours).text(), won))
        lines = [
            "## Environments together",
            "",
            f"Those with {scores.ENOUGH_RUNS} runs or more of QR-DQN: {', '.join(places)}. Scores are of equally many "
            "runs of each, pairs won of all.",
            "",
            *table(["algorithm", "final score", "pairs won against QR-DQN"], rows),
        ]
        return "\n".join([*lines, "", "![Performance profiles](images/profiles.png)", ""])

    def _environment(self, environment: str) -> str:
        about = self.suite.environment(environment)
        last = {(row["algorithm"], row["seed"]): row["frames"] for row in self.curves[environment]}
        title = f"{about['title'][0].upper()}{about['title'][1:]}"
        lines = [f"## {title}: runs of {min(last.values()):,} frames", ""]
        commits = Counter(row["git"] for row in self.rows[environment] if row["status"] == DONE).most_common()
        runs = ", ".join(f"{commit} ({num} run{'s' * (num != 1)})" for commit, num in commits)
        lines += [f"Settings as frozen in {runs}.", ""]
        lines += [REFERENCE.format(about["reference_speed"]), ""] if "reference_speed" in about else []
        lines += [f"![Learning curves](images/{environment}.png)", ""]
        lines += self._learning(environment)
        if self._has_laps(environment):
            lines += ["", *self._laps(environment)]
        pairs = self.pairs(self.algorithms(environment))
        lines += ["", BESIDE, *self._beside(environment, pairs)] if pairs else []
        return "\n".join([*lines, "", *self._networks(environment), "", NETWORKS])

    def _goals(self, environment: str) -> dict[str, float]:
        """Scores that are reached on the way, by what they are called."""
        threshold = threshold_of(self.suite.environment(environment))
        first = {"a first finish": FINISHED} if self._has_laps(environment) else {}
        return {**first, f"{threshold:.2f}": threshold}

    def _won(self, environment: str, ours: str, theirs: str) -> list[str]:
        """Pairs won by final scores and by areas."""
        ways = (scores.finals, scores.areas)
        return [scores.improvement(self.curves[environment], ours, theirs, by=way).text() for way in ways]

    def _learning(self, environment: str) -> list[str]:
        """The table of how well and how fast algorithms learn."""
        curves, names, rows = self.curves[environment], self.algorithms(environment), []
        goals = self._goals(environment)
        for name in names:
            ours = self._finals(name, environment)
            is_judged = name != BASELINE and BASELINE in names
            killed = sum(row["algorithm"] == name and bool(row["num_kills"]) for row in self.rows[environment])
            cells = [f"{len(ours)}{f', {killed} killed' if killed else ''}", scores.estimate(ours).text()]
            cells += [scores.estimate(scores.areas(curves, name)).text()]
            cells += self._won(environment, name, BASELINE) if is_judged else ["-", "-"]
            for goal in goals.values():
                for key in ("frames", "cpu_s"):
                    middle, reached, of = scores.median_to(curves, name, goal, key)
                    cells.append(f"{_way(middle, reached)} ({reached} of {of})")
            rows.append((self.titles[name], *cells))
        titles = ["algorithm", "seeds", "final score", "area", "pairs won", "pairs won by area"]
        return table([*titles, *(f"{what} to {goal}" for goal in goals for what in ("frames", "CPU s"))], rows)

    def _laps(self, environment: str) -> list[str]:
        """The table of laps at the end of runs."""
        rows = []
        for name in self.algorithms(environment):
            for kind, curves in self.curves_of_kinds[environment].items():
                score = scores.estimate(scores.finals(curves, name)).text()
                rate = scores.estimate(scores.finals(curves, name, key="finish_rate")).text()
                laps = scores.finals(curves, name, key="median_lap_s")
                lap = f"{scores.estimate(laps).text()} s" if laps else "-"
                last = [runs[-1]["medal"] for runs in scores.runs_of(curves, name).values()]
                medals = ", ".join(f"{last.count(medal)} {medal}" for medal in MEDALS if medal in last) or "-"
                rows.append((self.titles[name], kind, score, rate, lap, medals))
        titles = ["algorithm", "tracks", "score", "finish rate", "median lap", "runs by the medal of their median lap"]
        return table(titles, rows, align="llrrrl")

    def _networks(self, environment: str) -> list[str]:
        """The table of networks and their costs."""
        found = []
        for name in self.algorithms(environment):
            rows = [row for row in self.rows[environment] if row["algorithm"] == name and row["status"] == DONE]
            cells = [_middle(row[key] for row in rows) for key in ("action_gap", "policy_churn", "crossing_rate")]
            cells += [_middle((row["parameters"] for row in rows), "{:,.0f}")]
            speeds = (row["updates"] / row["cpu_s"] if row["updates"] and row["cpu_s"] else None for row in rows)
            cells += [_middle(speeds, "{:,.0f}"), _middle((row["memory_mb"] for row in rows), "{:,.0f}")]
            found.append((self.titles[name], *cells))
        names = ("action gap", "policy churn", "crossing", "parameters", "updates per CPU s", "memory, MB")
        return table(["algorithm", *names], found)

    def _beside(self, environment: str, pairs: Sequence[tuple[str, str]]) -> list[str]:
        """Other libraries and plainer ones, each beside ours."""
        goals, found = self._goals(environment), []
        for ours, other in pairs:
            spent = [self._column(name, environment, "cpu_s") for name in (ours, other)]
            cells = self._won(environment, ours, other)
            cells += [" / ".join(_middle(each.values(), "{:,.0f}") for each in spent)]
            days = [self._column(name, environment, "date") for name in (ours, other)]
            same_day = [seed for seed in days[0] if days[0][seed] == days[1].get(seed)]
            ratio = scores.median_ratio(*({seed: each[seed] for seed in same_day} for each in spent))
            cells += ["-" if ratio is None else ratio.text()]
            for goal in goals.values():
                for key in ("frames", "cpu_s"):
                    both = (scores.median_to(self.curves[environment], name, goal, key)[:2] for name in (ours, other))
                    cells.append(" / ".join(_way(*each) for each in both))
            found.append((f"{self.titles[ours]} beside {self.titles[other]}", *cells))
        titles = ["ours beside another", "pairs won", "pairs won by area", "CPU s of a run", "ratio"]
        return table([*titles, *(f"{what} to {goal}" for goal in goals for what in ("frames", "CPU s"))], found)

    def _column(self, algorithm: str, environment: str, key: str) -> dict[int, Any]:
        """An entry of each finished run, by seed."""
        rows = [row for row in self.rows[environment] if row["algorithm"] == algorithm and row["status"] == DONE]
        return {row["seed"]: row[key] for row in rows}

    def _failures(self) -> str:
        failed = [
            f"- {row['algorithm']}/{environment}/{row['seed']}: {row['why']}"
            for environment, rows in self.rows.items()
            for row in rows
            if row["status"] != DONE
        ]
        return "\n".join(["## Failed cells", "", *failed]) if failed else ""

    def draw(self, out: Path) -> None:
        """Draw the pictures into a folder."""
        out.mkdir(parents=True, exist_ok=True)
        for environment in self.environments:
            curves, about = self.curves[environment], self.suite.environment(environment)
            if not curves:
                continue
            figure = curves_figure(
                curves,
                self._panels(self.algorithms(environment)),
                titles=self.titles,
                title=about["title"],
                threshold=threshold_of(about),
            )
            figure.savefig(out / f"{environment}.png", dpi=100)
        places = self._places()
        if len(places) > 1:
            found = {name: [self._finals(name, place) for place in places] for name in self._everywhere()}
            shown = {name: scores.as_many_of_each(runs) for name, runs in found.items()}
            profiles_figure(shown, self._panels(list(shown)), titles=self.titles).savefig(out / "profiles.png", dpi=100)


def threshold_of(about: Mapping[str, Any]) -> float:
    """The threshold of an environment as a score.

    >>> threshold_of({"measure": "return_mean", "worst": -100.0, "best": 100.0, "threshold": 50.0})
    0.75
    """
    if about["measure"] != "return_mean":
        return float(about["threshold"])
    return float((about["threshold"] - about["worst"]) / (about["best"] - about["worst"]))


def _way(middle: float | None, reached: int) -> str:
    """Frames or seconds to a threshold, where at least half of the runs reached it.

    >>> _way(81_920.0, 5), _way(None, 2), _way(None, 0)
    ('81,920', '-', 'never')
    """
    return f"{middle:,.0f}" if middle is not None else "-" if reached else "never"


def _middle(values: Any, form: str = "{:.3g}") -> str:
    """The median of the values that there are."""
    found: Sequence[float] = sorted(value for value in values if value is not None)
    if not found:
        return "-"
    return form.format((found[(len(found) - 1) // 2] + found[len(found) // 2]) / 2)


def main() -> None:
    """Write or check."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=RESULTS / "suite", help="folder of the tables")
    parser.add_argument("--out", type=Path, default=HOME, help="folder of README.md and images/ (benchmarks)")
    parser.add_argument("--check", action="store_true", help="change nothing, exit 1 if the page is out of date")
    parser.add_argument("--mixed", action="store_true", help="take several versions and machines together")
    args = parser.parse_args()
    try:
        page = Page(Suite(), Results(args.results), mixed=args.mixed)
        path, text = args.out / "README.md", page.text()
    except ConfigError as error:
        sys.exit(f"error: {error}")
    if args.check:
        is_right = path.exists() and path.read_text(encoding="utf-8") == text
        sys.exit(0 if is_right else f"{path} is out of date: run python benchmarks/report.py")
    page.draw(args.out / "images")
    path.write_text(text, encoding="utf-8")
    print(f"wrote {path} and its images")


if __name__ == "__main__":
    main()
