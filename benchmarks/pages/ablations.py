"""Write ``docs/ablations.md``: the effect of parts of the default drive, and of others in their place.

python benchmarks/pages/ablations.py                                    # of benchmarks/results/ablation_floats.json
python benchmarks/pages/ablations.py --take runs/ablation --git HASH     # measure the runs of scripts/ablate.py first

HASH is the commit that the runs were made with, and in which their settings were frozen before the first of them.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.results_file import RESULTS, describe_run, write_results
from benchmarks.studies.short_drives import first_finish, last_quarter
from tm_torchrl.experiments.run_process import RUN, folder_name
from tm_torchrl.experiments.table import Entry, markdown, measure, plot

NAME = "ablation_floats"
DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGE = DOCS / "ablations.md"
SEEDS = range(5)
BASELINE = "short_drive"
BLOCK = "env.action_block=5+env.num_previous_actions=25"
# What was changed, in words, by the changes that scripts/ablate.py was asked for.
PARTS = {
    BASELINE: "the default drive in 160,000 frames",
    "estimator=double": "no Munchausen: double targets",
    "replay=prioritized+replay.prioritized.alpha=0.2": "prioritised replay, alpha 0.2",
    "exploration=noisy+exploration.epsilon=null+objective.network.linear=noisy": "noisy layers explore, alone",
    "objective.network.layer_norm=true": "layer norm",
    "objective=nq": "non-crossing quantiles",
    "objective=fqf": "proposed fractions (FQF)",
    BLOCK: "blocks of five actions of 10 ms",
}
MIXERS = {
    BLOCK: "blocks of five actions of 10 ms, shared layer",
    **{
        f"{BLOCK}+objective.network.mixer={mixer}": f"mixer: {title}"
        for mixer, title in {
            "embedding": "an embedding of the slot",
            "mlp": "an MLP for each slot",
            "conv": "a convolution over slots",
            "gru": "a GRU over slots",
            "attention": "attention between slots",
        }.items()
    },
}
GROUPS = (("Parts of the default drive, and others in their place", PARTS), ("Blocks and their mixers", MIXERS))


def taken(folder: Path, *, git: str) -> dict[str, Any]:
    """Measures of all finished runs of an ablation."""
    runs: dict[str, dict[str, Any]] = {}
    for name in {**PARTS, **MIXERS}:
        for seed in SEEDS:
            run = folder / folder_name(name) / f"seed_{seed}" / RUN
            if (run.parent / "result.json").exists():
                runs.setdefault(name, {})[str(seed)] = measure(run)
    return {**describe_run(device="cpu"), "runs_git": git, "runs": runs}


def entries_of(found: dict[str, Any], titles: dict[str, str]) -> list[Entry]:
    """The entries of a group; the others are added to its first one."""
    base = next(iter(titles.values()))
    return [
        Entry(
            title,
            base="" if title == base else base,
            measures={int(seed): row for seed, row in found["runs"].get(name, {}).items()},
        )
        for name, title in titles.items()
    ]


def finishes(entries: Sequence[Entry]) -> list[str]:
    """How many runs of each entry finish laps at the end, where that is not all of them."""
    finished = {entry.name: sum(row["finish_rate"] > 0 for row in entry.measures.values()) for entry in entries}
    few = [f"{name} {finished[name]} of {len(SEEDS)}" for name in finished if finished[name] < len(SEEDS)]
    return [f"Runs whose network finishes laps, where not all {len(SEEDS)} do: {'; '.join(few)}."] if few else []


def short_drives() -> list[str]:
    """What came of noisy layers and blocks afterwards."""
    runs = json.loads((RESULTS / "short_drives.json").read_text("utf-8"))["runs"]
    lines = [
        "Noisy layers and blocks did not learn in that commit. Since then each state has its own noise in the loss,",
        "only the advantages are noisy, n-step returns end where only the noise preferred the action, and the noise of",
        "a car doubles whenever it has changed none of its actions for 10 steps (`exploration.patience`). The value of",
        "a block is the mean over its slots, not the sum, which moved five times as far in one step of learning.",
        "Without `env.reward.failure=-2` waiting one step at a wall costs about 0.01 of value, and cars with blocks",
        "stayed there. Training with it also ends episodes that gain less than 5 m in 4 s, the others less than 0.5 m.",
        "In 240,000 frames, unless another number is given (`python benchmarks/studies/short_drives.py`):",
        "",
        "| settings | seeds | finished, last quarter | frames until half the laps finish | last median lap, s |",
        "|---|--:|---|---|---|",
    ]
    for name, of_seeds in runs.items():
        found = list(of_seeds.values())
        columns = [
            [f"{last_quarter(run):.0%}" for run in found],
            ["-" if (first := first_finish(run)) is None else f"{first:,}" for run in found],
            ["-" if (lap := run["median_lap_s"][-1]) is None else f"{lap:.1f}" for run in found],
        ]
        if found:
            lines.append(f"| {name} | {len(found)} | {' | '.join(', '.join(column) for column in columns)} |")
    return lines


def page(found: dict[str, Any]) -> str:
    """The page."""
    lines = [
        "# What the parts are worth",
        "",
        "The default drive over floats in 160,000 frames (`experiment=short_drive`, three CPU minutes a run), with",
        "one thing changed at a time, five seeds each. Settings were frozen in commit",
        f"{found['runs_git']} before the first run; measured with it on {found['machine']}, beside other work, so",
        "frames are compared and not seconds. Written by `python benchmarks/pages/ablations.py`.",
        "",
        *short_drives(),
    ]
    note = ""
    for k, (title, titles) in enumerate(GROUPS):
        entries = [entry for entry in entries_of(found, titles) if entry.measures]
        missing = [title for name, title in titles.items() if len(found["runs"].get(name, {})) < len(SEEDS)]
        lines += ["", f"## {title}", "", *finishes(entries)]
        lines += [f"Not all runs are made yet: {'; '.join(missing)}."] if missing else []
        lines += ["", f"![{title}](images/ablation_{k}.png)", ""]
        table, _, note = markdown(entries, seeds=SEEDS).partition("\n\n")
        lines.append(table)
    return "\n".join([*lines, "", note])


def main() -> None:
    """Take, write, draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--take", type=Path, help="folder of the runs")
    parser.add_argument("--git", default="", help="commit that they were made with")
    args = parser.parse_args()
    if args.take is not None:
        if not args.git:
            parser.error("--take: give --git too, the commit that the runs were made with")
        write_results(NAME, taken(args.take, git=args.git))
    found = json.loads((RESULTS / f"{NAME}.json").read_text(encoding="utf-8"))
    PAGE.write_text(page(found), encoding="utf-8")
    for k, (_, titles) in enumerate(GROUPS):
        plot([entry for entry in entries_of(found, titles) if entry.measures]).savefig(
            DOCS / "images" / f"ablation_{k}.png", dpi=110
        )
    print(f"wrote {PAGE}")


if __name__ == "__main__":
    main()
