"""How fast the quantile losses learn: whole updates beside tianshou's and sb3-contrib's, and the loss alone over N.

    python benchmarks/speeds/bench_loss.py    # prints a table; --write keeps it, --device cuda, --compile

Learners are built by ``benchmarks/peers/updates.py``: equal networks, batches, numbers of fractions and kinds of target
(double beside tianshou, greedy beside sb3-contrib). They are run in turn in one process on one thread, several rounds
of each; the figure is the median of updates per CPU second. "Shared fractions" draws one set of fractions for a batch
instead of one for each sample; it needs more steps on CartPole (``benchmarks/studies/shared_fractions.py``), so it does
not count as of equal quality. Rows that are in the results file already are taken from it unless ``--fresh`` is given.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from benchmarks.peers import updates
from benchmarks.results_file import RESULTS, add_results_argument, describe_run, write_results
from tm_torchrl.objectives.functional import quantile_huber_loss

IMAGE = Path(__file__).resolve().parents[2] / "docs" / "images" / "loss_cost.png"

TASKS = {
    "QR-DQN N=32, B=32": updates.Task("mlp", "qrdqn", 32, 32),
    "QR-DQN N=32, B=256": updates.Task("mlp", "qrdqn", 32, 256),
    "QR-DQN N=200, B=256": updates.Task("mlp", "qrdqn", 200, 256),
    "IQN N=8, B=32": updates.Task("mlp", "iqn", 8, 32),
    "IQN N=8, B=256": updates.Task("mlp", "iqn", 8, 256),
    "IQN N=32, B=32": updates.Task("mlp", "iqn", 32, 32),
    "IQN N=32, B=256": updates.Task("mlp", "iqn", 32, 256),
    "pixels IQN N=8, B=512": updates.Task("pixels", "iqn", 8, 512),
}


def updates_per_s(learners: dict[str, Callable[[], None]], *, rounds: int, round_s: float) -> dict[str, float]:
    """Median updates per CPU second of each learner, run in turn."""
    counts = {}
    for name, update in learners.items():
        for _ in range(2):
            update()
        start = time.process_time()
        update()
        counts[name] = max(1, round(round_s / max(time.process_time() - start, 1e-4)))
    speeds: dict[str, list[float]] = {name: [] for name in learners}
    for _ in range(rounds):
        for name, update in learners.items():
            start = time.process_time()
            for _ in range(counts[name]):
                update()
            speeds[name].append(counts[name] / (time.process_time() - start))
    return {name: statistics.median(values) for name, values in speeds.items()}


def learners_of(task: updates.Task, *, device: str, compiled: bool) -> dict[str, Callable[[], None]]:
    """Ours in several modes, and the peers where they can do the task."""
    is_iqn = task.loss == "iqn"
    learners = {"ours": updates.ours(task, device=device)}
    learners["ours, bf16"] = updates.ours(task, bf16=True, device=device)
    if is_iqn:
        learners["ours, shared fractions"] = updates.ours(task, shared=True, device=device)
        learners["ours, munchausen"] = updates.ours(task, target="munchausen", device=device)
    if task.batch_size == 256:
        learners["ours, prioritised"] = updates.ours(task, prioritized=True, device=device)
    if compiled:
        learners["ours, compiled"] = updates.ours(task, compiled=True, device=device)
        learners["ours, bf16, compiled"] = updates.ours(task, bf16=True, compiled=True, device=device)
        if is_iqn:
            learners["ours, shared fractions, bf16, compiled"] = updates.ours(
                task, shared=True, bf16=True, compiled=True, device=device
            )
    if device == "cpu":
        learners["tianshou"] = updates.of_tianshou(task)
        if not is_iqn:
            learners["sb3-contrib"] = updates.of_sb3(task)
            learners["ours, greedy"] = updates.ours(task, target="greedy")
    return learners


def plain_loss(value: torch.Tensor, fractions: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """The loss pair by pair with autograd, as it is usually written."""
    difference = target.unsqueeze(1) - value.unsqueeze(2)
    huber = torch.where(difference.abs() <= 1, 0.5 * difference**2, difference.abs() - 0.5)
    return ((fractions.unsqueeze(2) - (difference.detach() < 0).float()).abs() * huber).sum(1).mean(1)


def cost_of_loss(*, device: str) -> dict[str, dict[str, list[float]]]:
    """Milliseconds for value and gradient, over N, for the plain form and ours."""
    costs: dict[str, dict[str, list[float]]] = {}
    for batch in (32, 256):
        rows: dict[str, list[float]] = {"N": [], "plain": [], "ours": []}
        for num in (8, 16, 32, 64, 128, 200, 256, 512):
            value = torch.randn(batch, num, device=device, requires_grad=True)
            fractions, target = torch.rand(batch, num, device=device), torch.randn(batch, num, device=device)
            rows["N"].append(num)
            for name, loss in (("plain", plain_loss), ("ours", quantile_huber_loss)):
                times = []
                for _ in range(3 if num * num * batch > 5e6 else 20):
                    start = time.process_time()
                    torch.autograd.grad(loss(value, fractions, target).mean(), value)
                    if device != "cpu":
                        torch.cuda.synchronize()
                    times.append((time.process_time() - start) * 1e3)
                rows[name].append(statistics.median(times[1:]))
        costs[f"B={batch}"] = rows
    return costs


def draw(costs: dict[str, dict[str, list[float]]]) -> None:
    """The cost over N, both axes logarithmic."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(9, 3.6), sharey=True, layout="constrained")
    for axis, (name, rows) in zip(axes, costs.items(), strict=True):
        axis.loglog(rows["N"], rows["plain"], "o-", color="#999999", label="pair by pair, with autograd")
        axis.loglog(rows["N"], rows["ours"], "o-", color="#c0392b", label="quantile_huber_loss")
        axis.set_xticks([8, 32, 128, 512], ["8", "32", "128", "512"])
        axis.minorticks_off()
        axis.set_xlabel("number of quantiles N")
        axis.set_title(name)
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("loss and gradient (CPU ms)")
    axes[0].legend(frameon=False)
    IMAGE.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(IMAGE, dpi=120)


def main() -> None:
    """Measure, print, and keep if asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--write", action="store_true", help="keep results and plot")
    parser.add_argument("--fresh", action="store_true", help="measure rows again that are in the results")
    parser.add_argument("--compile", action="store_true", help="also measure with torch.compile; takes minutes")
    add_results_argument(parser)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    name = f"loss_{arguments.device.split(':')[0]}"
    path = arguments.results / f"{name}.json"
    old: dict[str, Any] = json.loads(path.read_text()) if path.exists() and not arguments.fresh else {}
    results: dict[str, Any] = {**describe_run(device=arguments.device), "updates_per_cpu_s": {}}
    console = Console()
    table = Table("task", "learner", "updates / CPU s", title="Whole updates, one thread")
    for title, task in TASKS.items():
        speeds = old.get("updates_per_cpu_s", {}).get(title)
        if speeds is None:
            torch.compiler.reset()  # beyond eight versions of a function torch.compile gives up
            learners = learners_of(task, device=arguments.device, compiled=arguments.compile)
            speeds = updates_per_s(learners, rounds=5, round_s=2.0 if task.kind == "pixels" else 0.6)
        results["updates_per_cpu_s"][title] = {key: round(value, 2) for key, value in speeds.items()}
        for learner, speed in speeds.items():
            table.add_row(title, learner, f"{speed:.1f}")
        table.add_section()
        if arguments.write:
            write_results(name, results, folder=arguments.results)
    console.print(table)
    results["loss_ms"] = old.get("loss_ms") or cost_of_loss(device=arguments.device)
    costs = Table("batch", "N", "plain (ms)", "ours (ms)", "ratio", title="The loss alone, value and gradient")
    for batch, rows in results["loss_ms"].items():
        for num, plain, own in zip(rows["N"], rows["plain"], rows["ours"], strict=True):
            costs.add_row(batch, str(num), f"{plain:.2f}", f"{own:.2f}", f"{plain / own:.1f}")
    console.print(costs)
    if arguments.write:
        write_results(name, results, folder=arguments.results)
        if arguments.device == "cpu" and arguments.results == RESULTS:
            draw(results["loss_ms"])


if __name__ == "__main__":
    main()
