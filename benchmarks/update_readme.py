"""Write the tables of README.md and of pages in docs/ from the committed results.

python benchmarks/update_readme.py           # rewrite
python benchmarks/update_readme.py --check   # exit 1 if one is out of date
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.grids.cells import Suite
from benchmarks.grids.results import HELD_OUT, SEEN, Results
from benchmarks.grids.scores import ENOUGH_RUNS, estimate, finals
from benchmarks.pages.policies import policies_table
from benchmarks.pages.tables import table
from benchmarks.results_file import RESULTS, ROOT, command_of, measured_on, read_results
from tm_torchrl.settings.choices import choices_table

README = ROOT / "README.md"
ALGORITHMS, FAST_LAPS, GAME, POLICIES, QUICKSTART, RESULTS_PAGE, SETTINGS, TRACKS = (
    ROOT / "docs" / f"{name}.md"
    for name in ("algorithms", "fast_laps", "game", "policy_gradients", "quickstart", "results", "settings", "tracks")
)
MEDALS = ROOT / "tm_torchrl" / "tracks" / "data"
FAMILY = ("dqn", "qrdqn", "m_qrdqn", "iqn", "iqn_double", "m_iqn", "fqf", "nq", "nq_sampled", "btr_floats")
SCORED = (*FAMILY, "ppo", "grpo", "dpo")
HEADLINE, ENOUGH_ABROAD = ("m_iqn", "m_qrdqn", "iqn", "qrdqn"), 3
SIMULATOR = {
    "physics": "physics only",
    "physics + 264 floats": "physics and 264 floats",
    "physics + 264 floats + 64x64 image": "physics, floats and 64x64 image",
    "TrackManiaEnv.step floats": "`TrackManiaEnv` with floats, resets included",
    "TrackManiaEnv.step pixels": "`TrackManiaEnv` with floats and image, resets included",
}
LEARNERS = {
    "tianshou": "tianshou",
    "sb3-contrib": "sb3-contrib (greedy)",
    "ours": "ours, double",
    **{
        f"ours, {mode}": f"ours, {mode}"
        for mode in ("greedy", "bf16", "bf16, compiled", "prioritised", "shared fractions")
    },
}
LOSSES = (
    "Equal networks, batches, numbers of quantiles and kinds of target (tianshou's are double, sb3-contrib's greedy); "
    "sampling included. Shared fractions, one set for a batch, need more steps on CartPole (`"
    "benchmarks/studies/shared_fractions.py`, 10 seeds). Compare within a row: rows were measured one after the other."
)
FAST = ("fast_laps_cpu", "fast_laps_tracks_cpu")
SUITE_PAGE = "[suite](../benchmarks/README.md)"
Rows = list[tuple[str, str, str]]


def committed(name: str) -> dict[str, Any]:
    """The results of one measurement, which must be there."""
    found = read_results(name)
    if found is None:
        raise SystemExit(f"{RESULTS / name}.json: no such file; take it from the last commit")
    return found


def shown_command(results: dict[str, Any]) -> str:
    """The command as the pages show it."""
    return f"`{command_of(results).replace(' --write', '')}`"


def speed_table() -> str:
    """Environment steps per second and times to start."""
    cpu, cuda = committed("env_cpu"), read_results("env_cuda")
    speeds, start = cpu["steps_per_s"], cpu["start_s"]
    rows = [(label, *(f"{speeds[f'{key} {cars}']:,.0f}" for cars in (1, 64, 256))) for key, label in SIMULATOR.items()]
    if "CarRacing-v3" in speeds:
        rows += [("for comparison: gymnasium's CarRacing-v3 with its image", f"{speeds['CarRacing-v3']:,.0f}", "", "")]
    best = max(cuda["steps_per_s"].items(), key=lambda item: item[1]) if cuda else None
    times = [
        ("import of the package", f"{start['import_s']:.2f} s"),
        ("first start on a machine, which builds the kernels", f"{start['first_start_with_kernel_build_s']:.1f} s"),
        ("later starts, without the import of torch and TorchRL", f"{start['cached_start_s']:.1f} s"),
        ("steps of two processes over those of one", f"{cpu['scaling']['ratio_of_bests']:.2f}"),
        ("steps per second on CUDA", f"{best[1]:,.0f} ({best[0]} cars)" if best else "not measured"),
    ]
    return "\n".join(
        [
            *table(["environment steps per CPU second, one thread", "1 car", "64 cars", "256 cars"], rows),
            "",
            *table(["start and scaling", ""], times),
            "",
            f"Measured on {measured_on(cpu, 'torch', 'warp-lang')}: {shown_command(cpu)}.",
        ]
    )


def loss_table() -> str:
    """Whole updates of the losses beside those of other libraries, and how far their values agree."""
    cpu, parity = committed("loss_cpu"), committed("parity")
    rows = [
        (task, *(f"{speeds[name]:.3g}" if name in speeds else "" for name in LEARNERS))
        for task, speeds in cpu["updates_per_cpu_s"].items()
    ]
    deviation = max(row[key] for row in parity["rows"] for key in ("value_deviation", "gradient_deviation"))
    return "\n".join(
        [
            *table(["updates per CPU second, one thread", *LEARNERS.values()], rows),
            "",
            LOSSES,
            f"Measured on {measured_on(cpu, 'torch')}: {shown_command(cpu)}.",
            f"Largest relative deviation of values and gradients from both libraries': {deviation:.0e} "
            f"({shown_command(parity)}). CUDA: {'`loss_cuda.json`' if read_results('loss_cuda') else 'not measured'}.",
        ]
    )


def learning_table() -> str:
    """Milestones of whole runs, the loop's speed, and how other tasks are learnt."""
    found = committed("learning_cpu")
    milestones = []
    for run in sorted(found["runs"], key=lambda run: run["seed"]):
        times = (_minutes(run[f"{name}_min"], run["minutes"]) for name in ("first_finish", "gold", "author"))
        last = "-" if run["last_median_lap_s"] is None else f"{run['last_median_lap_s']:.2f} s"
        finished = f"{run['last_quarter_finish_rate']:.0%} of {run['last_quarter_laps']}"
        milestones.append((str(run["seed"]), *times, f"{run['best_lap_s']:.2f} s", last, finished))
    titles = ["seed", "first finish", "gold medal", "author medal", "best lap", "last median", "finished, last quarter"]
    commits = sorted({run["git"] for run in found["runs"]})
    suite = Results(RESULTS / "suite")
    besides = [*_loop_rows(), *_cartpole_rows(), *_pixel_rows(), *_suite_rows(suite), *_held_out_rows(suite)]
    return "\n".join(
        [
            *table(titles, milestones, align="r"),
            "",
            f"Greedy laps on {found['runs'][0]['track']}, starts perturbed by 5 cm and 3.6 km/h; wall-clock minutes "
            f"since the start of training. Measured on {found['date']}, {found['machine']}, two cores, torch "
            f"{found['versions']['torch']}, commit{'s' * (len(commits) > 1)} {', '.join(commits)}. {found['note']}",
            "",
            *table(["speed, and other tasks", "", "measured by"], besides, align="l"),
        ]
    )


def fast_laps_table() -> str:
    """When policies alone were as fast as the author, and how their last networks drive."""
    titles = ["", "seed", "frames", "CPU min", "first finish", "as fast as the author", "finished", "median", "best"]
    lines = []
    for name in FAST:
        found = committed(name)
        rows = []
        for run in sorted(found["runs"], key=lambda run: (run["track"], run["seed"])):
            minutes = (run["first_finish_cpu_min"], run["author_cpu_min"])
            times = ("no" if each is None else f"{each:.1f} min" for each in minutes)
            laps = (f"{run[f'rest_{kind}_lap_s']:.2f} s" for kind in ("median", "best"))
            frames, spent = f"{run['frames'] / 1e6:.0f} million", f"{run['cpu_minutes']:.1f}"
            finished = f"{run['rest_finish_rate']:.0%}"
            rows.append(
                (run["track"], str(run["seed"]), frames, spent, *times, finished, *laps, f"{run['author_s']:.2f} s")
            )
        where = f"{found['machine']}, torch {found['versions']['torch']}"
        lines += [
            *table([*titles, "author"], rows, align="lr"),
            "",
            f"Measured on {found['date']}, {where}. {found['note']}",
            "",
        ]
    return "\n".join(lines[:-1])


def _sourced(rows: list[tuple[str, str]], source: str) -> Rows:
    """Rows with their source in the first of them."""
    return [(what, value, source if number == 0 else "") for number, (what, value) in enumerate(rows)]


def _loop_rows() -> Rows:
    found = committed("train_cpu")
    row = found["rows"]["bfloat16"]
    rows = [
        ("loop in one process: frames per CPU second (bfloat16)", f"{row['ours_frames_per_cpu_s']:,.0f}"),
        ("updates of 128 per CPU second", f"{row['ours_updates_per_cpu_s']:.0f}"),
        ("share of simulator, network and loss", f"{row['share_in_simulator_network_and_loss']:.0%}"),
        ("time over the same work by hand in plain torch", f"{row['ours_time_over_bare']:.2f}"),
    ]
    return _sourced(rows, shown_command(found))


def _cartpole_rows() -> Rows:
    found, rows = committed("cartpole_cpu"), []
    for name, runs in found["rows"].items():
        spent, steps = (sorted(run[key] for run in runs) for key in ("cpu_s", "steps"))
        solved, middle = sum(run["score"] >= 475 for run in runs), len(runs) // 2
        value = f"{spent[middle]:.0f} CPU s ({spent[0]:.0f} to {spent[-1]:.0f}), {steps[middle]:,.0f} steps "
        value += f"({steps[0]:,.0f} to {steps[-1]:,.0f}), {solved} of {len(runs)} seeds"
        rows.append((f"CartPole-v1 to a mean of 475, median (least to most): {name}", value))
    return _sourced(rows, shown_command(found))


def _pixel_rows() -> Rows:
    found = committed("pixel_proof")
    right, wrong, blind = found["right_images"], found["wrong_images"], found.get("without_images")
    best = min(row["median_lap_s"] for row in found["curve"] if row["median_lap_s"] is not None)
    preset = f"`experiment=btr_cpu`, seed {found['settings']['seed']}, the line ahead hidden, two cores"
    rows = [
        (
            f"[from pixels](images/pixels.png) ({preset}): first greedy finish",
            f"{found['first_finish_minutes']:.1f} min",
        ),
        ("its best median while training", f"{best:.2f} s"),
        ("laps of its best network", f"{right['finish_rate']:.0%} finished, median {right['median_lap_s']:.2f} s"),
        ("the same network with pictures of other places", f"{wrong['finish_rate']:.0%} finished"),
    ]
    if blind is not None:
        what = f"the same floats without pictures, {blind['frames']:,} frames"
        rows.append((what, f"{blind['best_finish_rate']:.0%} finished"))
    return _sourced(rows, shown_command(found))


def _suite_rows(results: Results) -> Rows:
    """How algorithms ended on the default track; no rows while there are too few runs."""
    titles = {name: about["title"] for name, about in Suite().algorithms.items()}
    scores = {name: finals(results.curves("hillside"), name) for name in HEADLINE}
    if min(map(len, scores.values())) < ENOUGH_RUNS:
        return []
    frames = round(max(row["frames"] for row in results.cells("hillside") if row["algorithm"] in HEADLINE), -4)
    what = f"author's time / lap time, after {frames:,} frames"
    rows = [(f"{what}: {titles[name]}", f"{estimate(own).text()} ({len(own)} seeds)") for name, own in scores.items()]
    return _sourced(rows, SUITE_PAGE)


def _held_out_rows(results: Results) -> Rows:
    """How Munchausen-IQN drives tracks that it was not trained on; no rows while there are too few runs."""
    about, rows = Suite().environment("held_out"), []
    for which, name in ((HELD_OUT, about["title"]), (SEEN, "the tracks that it was trained on")):
        curves = [row for row in results.curves("held_out") if row["which"] == which]
        rates, speeds = finals(curves, "m_iqn", key="finish_rate"), finals(curves, "m_iqn")
        if len(rates) < ENOUGH_ABROAD:
            return []
        speed = estimate(speeds).value * about["reference_speed"]
        laps = f"{sum(rates) / len(rates):.0%} of laps finished, {speed:.0f} m/s ({len(rates)} seeds)"
        rows.append((f"M-IQN on {name}", laps))
    return _sourced(rows, SUITE_PAGE)


def algorithms_table() -> str:
    """How algorithms ended on two tasks, and what an update costs."""
    results, suite = Results(RESULTS / "suite"), Suite()
    curves = {task: results.curves(task) for task in ("hillside", "cartpole")}
    rows = []
    for name in SCORED:
        scores = (finals(curves[task], name) for task in curves)
        shown = [f"{estimate(own).text()} ({len(own)})" for own in scores]
        speeds = [row["updates"] / row["cpu_s"] for row in results.cells("hillside") if row["algorithm"] == name]
        rows.append((suite.algorithms[name]["title"], *shown, f"{statistics.median(speeds):.0f}"))
    return "\n".join(
        [
            *table(["", "score on hillside (seeds)", "on CartPole-v1 (seeds)", "updates per CPU s, hillside"], rows),
            "",
            "Interquartile means of the last fifth of the evaluations, with 95 % bootstrap intervals.",
        ]
    )


def _minutes(value: float | None, limit: float) -> str:
    return f"not in {limit:.0f} min" if value is None else f"{value:.1f} min"


def numbers_table() -> str:
    """The numbers that matter most, for the README."""
    runs, fast, others_fast = (committed(name)["runs"] for name in ("learning_cpu", *FAST))
    first, gold = (sorted(run[f"{name}_min"] for run in runs) for name in ("first_finish", "gold"))
    laps = sorted(run["rest_median_lap_s"] for run in fast)
    spent = statistics.median(run["cpu_minutes"] for run in fast)
    minutes = [run["author_cpu_min"] for run in others_fast if run["author_cpu_min"] is not None]
    solved = {
        name: statistics.median(run["cpu_s"] for run in found)
        for name, found in committed("cartpole_cpu")["rows"].items()
    }
    others = ", ".join(f"{name} {spent:.0f} s" for name, spent in solved.items() if name != "ours")
    curves = [row for row in Results(RESULTS / "suite").curves("held_out") if row["which"] == HELD_OUT]
    record = json.loads((MEDALS / "hillside.json").read_text())["record"]
    best = "record of the default track: {found_by}, {cpu_minutes:.0f} CPU min".format(**record)
    abroad = finals(curves, "m_iqn", key="finish_rate")
    rows = [
        (
            f"{statistics.median(first):.1f} min",
            f"of training until a first finished lap, {statistics.median(gold):.1f} min until the gold medal: medians "
            f"of {len(runs)} seeds on two cores, at most {first[-1]:.1f} and {gold[-1]:.1f} min",
        ),
        (
            f"{laps[0]:.2f} to {laps[-1]:.2f} s",
            f"median laps of a policy alone on the default track after {spent:.0f} CPU min (`experiment=fast_laps`), "
            f"{len(laps)} seeds; the author medal is at {fast[0]['author_s']:.2f} s. On {len(minutes)} other tracks a "
            f"policy has it too, after {min(minutes):.0f} to {max(minutes):.0f} CPU min",
        ),
        (f"{record['time_s']:.2f} s", best),
        (f"{solved['ours']:.0f} CPU s", f"until CartPole-v1 reaches a mean of 475, median of 5 seeds; {others}"),
        (
            f"{sum(abroad) / len(abroad):.0%}",
            f"of laps finished on generated tracks that the driver has never seen ({len(abroad)} seeds)",
        ),
    ]
    return "\n".join(table(["", "what"], rows, align="rl"))


def install_table() -> str:
    """What each extra takes on the disk, and what an import takes."""
    found = committed("install_cpu")
    names = {"core": "`.`", **{extra: f'`".[{extra}]"`' for extra in found["extras"] if extra != "core"}}
    sizes = [(names[extra], str(row["packages"]), f"{row['mb']:,.0f}") for extra, row in found["extras"].items()]
    times = [(f"`{code}`" if "Python" not in code else code, f"{spent:.1f}") for code, spent in found["cpu_s"].items()]
    return "\n".join(
        [
            *table(["`pip install`", "packages", "MB"], sizes, align="lrr"),
            "",
            f"The package itself has {found['package_mb']:.1f} MB; of the others torch, for CPUs on Linux, has "
            f"{found['torch_mb']:,.0f} MB.",
            "",
            *table(["import", "CPU seconds"], times, align="lr"),
            "",
            f"Measured on {measured_on(found, 'torch')}, Python {found['python']}, beside other programs: "
            f"{shown_command(found)}.",
        ]
    )


def medal_table() -> str:
    """Medal times and records of the built-in tracks."""
    rows = []
    for path in sorted(MEDALS.glob("*.json")):
        medals = json.loads(path.read_text())
        times = (f"{medals[f'{name}_s']:.2f}" for name in ("bronze", "silver", "gold", "author"))
        record = medals["record"]
        found = "{found_by}, {cpu_minutes:.1f} CPU min, ".format(**record)
        found += "settled" if record["is_settled"] else "not settled yet"
        rows.append((path.stem, *times, f"{record['time_s']:.2f}", found))
    return "\n".join(table(["track", "bronze", "silver", "gold", "author", "record", "search"], rows, align="lrrrrrl"))


def game_rates() -> str:
    """Decisions per second through the protocols."""
    every = {"": committed("game"), "1.x, ": committed("game1")}
    rows = [
        (f"{version}{title}", f"{rate['best']:,}", f"{rate['median']:,}")
        for version, found in every.items()
        for title, rate in found["decisions_per_s"].items()
    ]
    last = every["1.x, "]
    return "\n".join(
        [
            *table(["decisions per second, one car", "best", "median"], rows),
            "",
            f"Wall-clock seconds of two processes on {last['machine']}, {last['date']}, a decision being 50 ms of "
            f"race unless it says otherwise: {' and '.join(map(shown_command, every.values()))}.",
        ]
    )


TABLES = {
    README: {"numbers-table": numbers_table},
    FAST_LAPS: {"fast-laps-table": fast_laps_table},
    POLICIES: {"policies-table": policies_table},
    ALGORITHMS: {"algorithms-table": algorithms_table},
    QUICKSTART: {"install-table": install_table},
    RESULTS_PAGE: {"learning-table": learning_table, "loss-table": loss_table, "speed-table": speed_table},
    SETTINGS: {"choices-table": choices_table},
    TRACKS: {"medal-table": medal_table},
    GAME: {"rates": game_rates},
}


def updated(page: Path) -> str:
    """A page with its generated parts made anew."""
    text = page.read_text(encoding="utf-8")
    for name, content_of in TABLES[page].items():
        pattern = rf"(<!-- {name}:begin -->\n).*?(<!-- {name}:end -->)"
        content = content_of()
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
