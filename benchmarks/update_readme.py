"""Writes the tables of the README and of docs/game.md from the committed results; nothing in them is typed by hand.

python benchmarks/update_readme.py           # rewrite
python benchmarks/update_readme.py --check   # exit 1 if one is out of date
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.report_findings import ENOUGH_RUNS
from benchmarks.suite_cells import Suite
from benchmarks.suite_results import HELD_OUT, SEEN, Results
from benchmarks.suite_statistics import estimate, finals

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
GAME = ROOT / "docs" / "game.md"
RESULTS = ROOT / "benchmarks" / "results"
MEDALS = ROOT / "tm_torchrl" / "tracks" / "data"
HEADLINE, ENOUGH_ABROAD = ("m_iqn", "m_qrdqn", "iqn", "qrdqn"), 3


def speed_table() -> str:
    """Environment steps per second, from ``env_cpu.json`` and, where it exists, ``env_cuda.json``."""
    cpu = json.loads((RESULTS / "env_cpu.json").read_text())
    rows = ["| environment steps per CPU second, one thread | 1 car | 64 cars | 256 cars |", "|---|--:|--:|--:|"]
    labels = {
        "physics": "physics only",
        "physics + 264 floats": "physics and 264 floats",
        "physics + 264 floats + 64x64 image": "physics, floats and 64x64 image",
        "TrackManiaEnv.step floats": "`TrackManiaEnv` with floats, resets included",
        "TrackManiaEnv.step pixels": "`TrackManiaEnv` with floats and image, resets included",
    }
    speeds = cpu["steps_per_s"]
    for key, label in labels.items():
        rows.append(f"| {label} | " + " | ".join(f"{speeds[f'{key} {cars}']:,.0f}" for cars in (1, 64, 256)) + " |")
    racing = speeds.get("CarRacing-v3")
    if racing:
        rows.append(f"| for comparison: gymnasium's CarRacing-v3 with its image | {racing:,.0f} | | |")
    start, scaling = cpu["start_s"], cpu["scaling"]
    facts = [
        f"Importing the package takes {start['import_s']:.2f} s. The first start on a machine builds the kernels and "
        f"takes {start['first_start_with_kernel_build_s']:.1f} s, later ones {start['cached_start_s']:.1f} s (without "
        f"importing torch and TorchRL). Two processes do {scaling['ratio_of_bests']:.2f} times the steps of one.",
        f"Measured on {cpu['date']}, {cpu['machine']}, torch {cpu['versions']['torch']}, "
        f"Warp {cpu['versions']['warp-lang']}, commit {cpu['git']}: `{cpu['command']}`.",
    ]
    cuda = RESULTS / "env_cuda.json"
    facts.append(_cuda_line(json.loads(cuda.read_text())) if cuda.exists() else "CUDA: not measured.")
    return "\n".join([*rows, "", "\n".join(facts)])


def _cuda_line(cuda: dict[str, Any]) -> str:
    best = max(cuda["steps_per_s"].items(), key=lambda item: item[1])
    return f"CUDA ({cuda['machine']}): up to {best[1]:,.0f} steps per second ({best[0]} cars)."


def loss_table() -> str:
    """Whole updates of the losses beside the peers' from ``loss_cpu.json``, and parity from ``parity.json``."""
    cpu = json.loads((RESULTS / "loss_cpu.json").read_text())
    rows = [
        "| updates per CPU second, one thread | tianshou | sb3-contrib (greedy) | ours, double | ours, greedy "
        "| ours, bf16 | ours, bf16, compiled | ours, prioritised | ours, shared fractions |",
        "|---|" + "--:|" * 8,
    ]
    columns = (
        "tianshou",
        "sb3-contrib",
        "ours",
        "ours, greedy",
        "ours, bf16",
        "ours, bf16, compiled",
        "ours, prioritised",
        "ours, shared fractions",
    )
    for task, speeds in cpu["updates_per_cpu_s"].items():
        cells = (f"{speeds[name]:.3g}" if name in speeds else "" for name in columns)
        rows.append(f"| {task} | " + " | ".join(cells) + " |")
    parity = json.loads((RESULTS / "parity.json").read_text())
    deviation = max(row[key] for row in parity["rows"] for key in ("value_deviation", "gradient_deviation"))
    facts = [
        "Equal networks, batches, numbers of quantiles and kinds of target (tianshou's are double, sb3-contrib's "
        "greedy); sampling included. With shared fractions a batch has one set of them instead of one for each sample; "
        "that needs more steps on CartPole (`benchmarks/shared_fractions.py`, 10 seeds), so it is an option. Compare "
        "within a row: rows were measured one after the other. Measured on "
        f"{cpu['date']}, {cpu['machine']}, torch {cpu['versions']['torch']}, commit {cpu['git']}: `{cpu['command']}`.",
        f"On equal numbers the loss and its gradient equal those of both within {deviation:.0e} "
        f"(`{parity['command']}`).",
    ]
    cuda = RESULTS / "loss_cuda.json"
    facts.append(f"CUDA: `{cuda.relative_to(ROOT)}`." if cuda.exists() else "CUDA: not measured.")
    return "\n".join([*rows, "", *facts])


def learning_table() -> str:
    """Milestones of the runs in ``learning_cpu.json``, and the loop's speed from ``train_cpu.json``."""
    found = json.loads((RESULTS / "learning_cpu.json").read_text())
    rows = [
        "| seed | first finish | gold medal | author medal | best lap | last median | finished, last quarter |",
        "|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for run in sorted(found["runs"], key=lambda run: run["seed"]):
        times = (_minutes(run[f"{name}_min"], run["minutes"]) for name in ("first_finish", "gold", "author"))
        last = "-" if run["last_median_lap_s"] is None else f"{run['last_median_lap_s']:.2f} s"
        rows.append(
            f"| {run['seed']} | {' | '.join(times)} | {run['best_lap_s']:.2f} s | {last} "
            f"| {run['last_quarter_finish_rate']:.0%} of {run['last_quarter_laps']} |"
        )
    facts = [
        f"Greedy laps on {found['runs'][0]['track']}, starts perturbed by 5 cm and 3.6 km/h; wall-clock minutes since "
        f"the start of training. Measured on {found['date']}, {found['machine']}, two cores, torch "
        f"{found['versions']['torch']}, commits {', '.join(sorted({run['git'] for run in found['runs']}))}. "
        f"{found['note']}",
    ]
    speed = RESULTS / "train_cpu.json"
    if speed.exists():
        facts += [_loop_line(json.loads(speed.read_text()))]
    peers = RESULTS / "cartpole_cpu.json"
    if peers.exists():
        facts += [_cartpole_line(json.loads(peers.read_text()))]
    pixels = RESULTS / "pixel_proof.json"
    if pixels.exists():
        facts += [_pixel_line(json.loads(pixels.read_text()))]
    suite = Results(RESULTS / "suite")
    facts += [line for line in (_suite_line(suite), _held_out_line(suite)) if line]
    return "\n".join([*rows, "", "\n".join(facts)])


def _suite_line(results: Results) -> str:
    """How the algorithms of the headline ended on the default track; empty while there are too few runs."""
    titles = {name: about["title"] for name, about in Suite().algorithms.items()}
    scores = {name: finals(results.curves("hillside"), name) for name in HEADLINE}
    if min(map(len, scores.values())) < ENOUGH_RUNS:
        return ""
    frames = max(row["frames"] for row in results.cells("hillside"))
    parts = [f"{titles[name]} {estimate(own).text()} ({len(own)} seeds)" for name, own in scores.items()]
    return (
        f"Algorithms after {round(frames, -4):,} frames of the default track, as the author's time over the lap's: "
        f"{', '.join(parts)}; [more of them, other environments and other libraries](benchmarks/README.md)."
    )


def _held_out_line(results: Results) -> str:
    """How Munchausen-IQN drives tracks that it was not trained on; empty while there are too few runs."""
    about = Suite().environment("held_out")
    kinds = [[row for row in results.curves("held_out") if row["which"] == which] for which in (HELD_OUT, SEEN)]
    rates = finals(kinds[0], "m_iqn", key="finish_rate")
    if len(rates) < ENOUGH_ABROAD:
        return ""
    speeds = [estimate(finals(rows, "m_iqn")).value * about["reference_speed"] for rows in kinds]
    return (
        f"On {about['title']}, M-IQN finishes {sum(rates) / len(rates):.0%} of laps at {speeds[0]:.0f} m/s; on those "
        f"others, which it was trained on, at {speeds[1]:.0f} m/s ({len(rates)} seeds)."
    )


def _minutes(value: float | None, limit: float) -> str:
    return f"not in {limit:.0f} min" if value is None else f"{value:.1f} min"


def _loop_line(found: dict[str, Any]) -> str:
    row = found["rows"]["bfloat16"]
    return (
        f"The loop in one process plays {row['ours_frames_per_cpu_s']:,.0f} frames and makes "
        f"{row['ours_updates_per_cpu_s']:.0f} updates of 128 per CPU second (bfloat16); "
        f"{row['share_in_simulator_network_and_loss']:.0%} of the time is simulator, network and loss, and it takes "
        f"{row['ours_time_over_bare']:.2f} times as long as the same work written by hand in plain torch "
        f"(`{found['command']}`)."
    )


def _cartpole_line(found: dict[str, Any]) -> str:
    parts = []
    for name, runs in found["rows"].items():
        spent, steps = (sorted(run[key] for run in runs) for key in ("cpu_s", "steps"))
        solved = sum(run["score"] >= 475 for run in runs)
        middle = len(runs) // 2
        parts.append(
            f"{name} {spent[middle]:.0f} CPU s ({spent[0]:.0f} to {spent[-1]:.0f}) and {steps[middle]:,.0f} steps "
            f"({steps[0]:,.0f} to {steps[-1]:,.0f}; {solved} of {len(runs)} seeds)"
        )
    return f"CartPole-v1 to a mean of 475, medians (least to most): {'; '.join(parts)} (`{found['command']}`)."


def _pixel_line(found: dict[str, Any]) -> str:
    right, wrong = found["right_images"], found["wrong_images"]
    best = min(row["median_lap_s"] for row in found["curve"] if row["median_lap_s"] is not None)
    line = (
        f"From pixels on two cores (`experiment=btr_cpu`, seed {found['settings']['seed']}, the line ahead hidden): "
        f"first greedy finish after {found['first_finish_minutes']:.1f} minutes; its best network finishes "
        f"{right['finish_rate']:.0%} of laps (median {right['median_lap_s']:.2f} s; the best median while training was "
        f"{best:.2f} s), and {wrong['finish_rate']:.0%} of them when it is shown pictures of other places"
    )
    blind = found.get("without_images")
    if blind is not None:
        line += (
            f"; the same floats without pictures finished {blind['best_finish_rate']:.0%} in {blind['frames']:,} frames"
        )
    return f"{line} ([curve](docs/images/pixels.png), `{found['command'].replace(' --write', '')}`)."


def medal_table() -> str:
    """Medal times of the built-in tracks."""
    rows = ["| track | bronze | silver | gold | author | search |", "|---|--:|--:|--:|--:|---|"]
    for path in sorted(MEDALS.glob("*.json")):
        medals = json.loads(path.read_text())
        times = " | ".join(f"{medals[f'{name}_s']:.2f}" for name in ("bronze", "silver", "gold", "author"))
        state = "settled" if medals["search_is_settled"] else "not settled yet"
        rows.append(f"| {path.stem} | {times} | {medals['search_cpu_minutes']:.0f} CPU min, {state} |")
    return "\n".join(rows)


def game_rates() -> str:
    """Decisions per second through the protocols, from ``game.json`` and ``game1.json``."""
    rows = ["| decisions per second, one car | best | median |", "|---|--:|--:|"]
    facts = []
    for name in ("game", "game1"):
        found = json.loads((RESULTS / f"{name}.json").read_text())
        for title, rate in found["decisions_per_s"].items():
            shown = f"1.x, {title}" if name == "game1" else title
            rows.append(f"| {shown} | {rate['best']:,} | {rate['median']:,} |")
        facts.append(f"`{found['command'].replace(' --write', '')}`")
    return "\n".join(
        [
            *rows,
            "",
            f"Wall-clock seconds of two processes on {found['machine']}, {found['date']}, a decision being 50 ms of "
            f"race unless it says otherwise: {' and '.join(facts)}.",
        ]
    )


TABLES = {
    README: {
        "speed-table": speed_table,
        "loss-table": loss_table,
        "medal-table": medal_table,
        "learning-table": learning_table,
    },
    GAME: {"rates": game_rates},
}


def updated(page: Path) -> str:
    """A page with its generated parts made anew."""
    text = page.read_text(encoding="utf-8")
    for name, table in TABLES[page].items():
        pattern = rf"(<!-- {name}:begin -->\n).*?(<!-- {name}:end -->)"
        content = table()
        text, count = re.subn(pattern, lambda found, new=content: f"{found[1]}{new}\n{found[2]}", text, flags=re.S)
        if count != 1:
            raise SystemExit(f"{page.name}: expected one part between <!-- {name}:begin --> and <!-- {name}:end -->")
    return text


def main() -> None:
    """Rewrite or check."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="change nothing, exit 1 if one is out of date")
    args = parser.parse_args()
    for page in TABLES:
        new = updated(page)
        if args.check and new != page.read_text(encoding="utf-8"):
            sys.exit(f"{page.name} is out of date: run python benchmarks/update_readme.py")
        page.write_text(new, encoding="utf-8")
    print("up to date" if args.check else f"wrote {', '.join(page.name for page in TABLES)}")


if __name__ == "__main__":
    main()
