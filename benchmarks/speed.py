"""Measure all speeds, write their table, and guard against losing some.

    python benchmarks/speed.py                  # about an hour on a quiet core; makes benchmarks/speed.md
    python benchmarks/speed.py --device cuda    # the columns of the GPU
    python benchmarks/speed.py --page           # only the page, of the results that are there
    python benchmarks/speed.py --guard          # about ten minutes: shorter runs, ratios beside the committed ones

It runs bench_env, bench_loss, bench_network and bench_train, which take turns with other libraries in one process each.
The guard compares ratios, which hardly depend on the machine, keeps nothing, and exits with 1 if one is more than 20 %
worse. What is worse is measured a second time before it counts, since other programs disturb.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from benchmarks.pages.tables import table
from benchmarks.results_file import RESULTS, command_of, measured_on
from benchmarks.speeds.ratios import ALLOWED, Results, ratios, read, worse

FOLDER = Path(__file__).resolve().parent / "speeds"
PAGE = FOLDER.with_name("speed.md")
WHOLE = {"env": [], "loss": ["--fresh", "--compile", "--write"], "network": ["--write"], "train": ["--write"]}
SHORT = {
    "env": ["--rounds", "3"],
    "loss": ["--fresh", "--write"],
    "network": ["--write", "--eager", "--rounds", "3"],
    "train": ["--write", "--rounds", "3"],
}
NOT_ON = {"cuda": ("train",)}  # it compares with a loop for one core


def run(names: list[str], arguments: dict[str, list[str]], *, device: str, results: Path) -> None:
    """Run some of the four, one after the other; a failure ends everything."""
    for name in names:
        if name in NOT_ON.get(device, ()):
            continue
        asked = [*arguments[name], "--results", str(results)] + (["--device", device] if name != "train" else [])
        print(f"\n== bench_{name} {' '.join(arguments[name])}", flush=True)
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        done = subprocess.run([sys.executable, str(FOLDER / f"bench_{name}.py"), *asked], env=environment, check=False)
        if done.returncode:
            sys.exit(f"bench_{name}.py failed with {done.returncode}; its reason is above")


def guard(before: Results) -> int:
    """Measure shortly, compare, measure what is worse again; the exit status."""
    if not before:
        sys.exit(f"{RESULTS}: no results to compare with; run python benchmarks/speed.py once")
    with tempfile.TemporaryDirectory() as folder:
        found: dict[str, tuple[float, float]] = {}
        names = list(SHORT)
        for _ in range(2):
            run(names, SHORT, device="cpu", results=Path(folder))
            found = worse(read(Path(folder)), before)
            names = sorted({title.split(":")[0] for title in found})
            if not found:
                break
        compared = set(ratios(read(Path(folder)))) & set(ratios(before))
    print(f"\n{len(compared)} ratios compared, {len(found)} more than {ALLOWED - 1:.0%} worse")
    for title, (old, new) in found.items():
        print(f"  {title}: {old:.3g} before, {new:.3g} now")
    return 1 if found else 0


def page(cpu: Results, cuda: Results) -> str:
    """Markdown of all speeds."""
    parts = ["# Speed", "", "Made by `python benchmarks/speed.py`; higher is better unless said otherwise."]
    parts += _section("Simulator: environment steps per second", "env", cpu, cuda, _env_rows)
    parts += _section("Losses: whole updates per second", "loss", cpu, cuda, _loss_rows)
    parts += _section("One update of BTR: milliseconds, lower is better", "network", cpu, cuda, _network_rows)
    parts += _section("Training loop in one process", "train", cpu, cuda, _train_rows)
    return "\n".join(parts) + "\n"


def _section(title: str, name: str, cpu: Results, cuda: Results, rows_of: Any) -> list[str]:
    ours, gpu = (rows_of(found[name]) if name in found else {} for found in (cpu, cuda))
    keys = dict.fromkeys([*ours, *gpu])
    rows = [(key, ours.get(key, "not measured"), gpu.get(key, "not measured")) for key in keys]
    lines = ["", f"## {title}", "", *table(["", "CPU, one thread", "CUDA"], rows)]
    for found in (cpu, cuda):
        if name in found:
            lines += ["", f"{measured_on(found[name], 'torch')}: `{command_of(found[name])}`."]
    return lines


def _env_rows(found: dict[str, Any]) -> dict[str, str]:
    def title(name: str) -> str:
        what, _, cars = name.rpartition(" ")
        return f"{what}, {cars} car{'s' * (cars != '1')}" if cars.isdigit() else name

    return {title(name): f"{speed:,.0f}" for name, speed in found["steps_per_s"].items()}


def _loss_rows(found: dict[str, Any]) -> dict[str, str]:
    return {
        f"{task}: {learner}": f"{speed:.3g}"
        for task, speeds in found["updates_per_cpu_s"].items()
        for learner, speed in speeds.items()
    }


def _network_rows(found: dict[str, Any]) -> dict[str, str]:
    times = {
        f"{size}, {way}": f"{row['ms']:.0f}" + (f" ({row['peak_mb']:.0f} MB)" if "peak_mb" in row else "")
        for size, rows in found["updates"].items()
        for way, row in rows.items()
    }
    costs = {
        f"with {part}, {precision}: times as long as without": f"{row['ratio']:.2f}"
        for part, rows in found["costs"].items()
        for precision, row in rows.items()
    }
    return times | costs


def _train_rows(found: dict[str, Any]) -> dict[str, str]:
    rows: dict[str, str] = {}
    for precision, row in found["rows"].items():
        rows[f"{precision}: frames per CPU second"] = f"{row['ours_frames_per_cpu_s']:,.0f}"
        rows[f"{precision}: updates of 128 per CPU second"] = f"{row['ours_updates_per_cpu_s']:.0f}"
        rows[f"{precision}: time over that of a bare loop, lower is better"] = f"{row['ours_time_over_bare']:.2f}"
    return rows


def main() -> None:
    """Measure and write, or compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    only = parser.add_mutually_exclusive_group()
    only.add_argument("--guard", action="store_true", help="compare ratios with the committed ones")
    only.add_argument("--page", action="store_true", help="measure nothing")
    args = parser.parse_args()
    if not args.guard and not args.page:
        run(list(WHOLE), WHOLE, device=args.device, results=RESULTS)
    try:
        cpu, cuda = read(RESULTS), read(RESULTS, device="cuda")
    except ValueError as error:
        sys.exit(f"error: {error}")
    if args.guard:
        sys.exit(guard(cpu))
    PAGE.write_text(page(cpu, cuda), encoding="utf-8")
    print(f"wrote {PAGE}")


if __name__ == "__main__":
    main()
