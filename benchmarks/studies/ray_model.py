"""Where a cluster saturates, on paper: the costs that ``bench_ray.py`` has measured, for 1 to 1,000 nodes.

    python benchmarks/studies/ray_model.py    # prints a table, and draws docs/images/scaling.png

A node has 16 workers, which make as many frames as their CPU seconds allow, or 4 game instances. One learner takes a
batch in the CPU time of a request, of its bytes, and of the replay; half of the learner's time is left for updates. Its
network brings 10 Gbit/s. Weights are counted once for each request, which is the most that they can be.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.results_file import ROOT, read_results

NODES = (1, 10, 100, 1000)
WORKERS_PER_NODE = 16
GAMES_PER_NODE, GAME_FRAMES_PER_S = 4, 10 * 20.0  # 20 decisions in a second of the race
NETWORK_BYTES_PER_S = 10e9 / 8
SHARE_FOR_BATCHES = 0.5  # of the learner's time
PIXELS = 2 * 64 * 64  # bytes of a grey picture and the next one
SIZES = (64, 512, 4096)  # frames in a worker's batch


@dataclass(frozen=True)
class Costs:
    """Measured costs.

    Args:
        frames_per_s: Of one worker; those of ``multi_async``, whose CPU time holds nothing else.
        request_s: Of one request, on the learner.
        byte_s: Of one byte of a batch, on the learner.
        store_s: Of a frame in the replay.
        frame_bytes: Of a frame on its way.
        weights_bytes: Of the policy.
    """

    frames_per_s: float
    request_s: float
    byte_s: float
    store_s: float
    frame_bytes: int
    weights_bytes: int

    @classmethod
    def of(cls, results: dict[str, Any]) -> Costs:
        """From the results of ``bench_ray.py``."""
        requests = {int(size): 1e-3 * ms for size, ms in results["costs"]["request_ms"].items()}
        small, large = min(requests), max(requests)
        byte_s = (requests[large] - requests[small]) / (large - small)
        measured = results["1_workers"]
        return cls(
            frames_per_s=measured["multi_async"]["frames_per_worker_cpu_s"],
            request_s=requests[small] - byte_s * small,
            byte_s=byte_s,
            store_s=1e-6 * measured["ray"]["store_us_per_frame"],
            frame_bytes=measured["frame_bytes"],
            weights_bytes=measured["weights_bytes"],
        )

    def rates(self) -> dict[str, float]:
        """Frames per second of a node of each kind."""
        return {
            f"simulator, {WORKERS_PER_NODE} workers a node": WORKERS_PER_NODE * self.frames_per_s,
            f"game, {GAMES_PER_NODE} instances a node at 10 times its speed": GAMES_PER_NODE * GAME_FRAMES_PER_S,
        }

    def taken(self, size: int, *, frame_bytes: int) -> float:
        """Frames per second that one learner takes in batches of a size."""
        batch_s = self.request_s + size * (self.byte_s * frame_bytes + self.store_s)
        return SHARE_FOR_BATCHES * size / batch_s


def table(costs: Costs) -> list[str]:
    """What limits each number of nodes, with batches of 512 frames."""
    head = ["nodes", "made, frames/s", "learner takes", "batches in, GB/s", "weights out, GB/s"]
    lines = []
    for name, rate in costs.rates().items():
        lines += ["", f"{name}:", "", f"| {' | '.join(head)} |", "|" + "--:|" * len(head)]
        for nodes in NODES:
            made = nodes * rate
            share = min(1.0, costs.taken(512, frame_bytes=costs.frame_bytes) / made)
            batches, weights = made * costs.frame_bytes / 1e9, made / 512 * costs.weights_bytes / 1e9
            lines.append(f"| {nodes:,} | {made:,.0f} | {share:.2%} | {batches:.3g} | {weights:.3g} |")
    return lines


def draw(costs: Costs, path: Path) -> None:
    """The frames that nodes make, and what learner and network take."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7.5, 4.5))
    for (name, rate), colour in zip(costs.rates().items(), ("black", "grey"), strict=True):
        axes.loglog([1, 1000], [rate, 1000 * rate], color=colour, linewidth=2, label=f"made: {name}")
    senses = (("floats", costs.frame_bytes, "C0"), ("pixels", costs.frame_bytes + PIXELS, "C1"))
    for name, frame_bytes, colour in senses:
        for size, style in zip(SIZES, (":", "--", "-"), strict=True):
            label = f"learner takes, {name}, batches of {size:,}"
            axes.axhline(costs.taken(size, frame_bytes=frame_bytes), color=colour, linestyle=style, label=label)
        arrived = NETWORK_BYTES_PER_S / frame_bytes
        axes.axhline(arrived, color=colour, linestyle="-.", linewidth=0.8, label=f"10 Gbit/s bring, {name}")
    axes.set(xlabel="nodes", ylabel="frames per second", title="Where one learner saturates (model)")
    axes.grid(alpha=0.3, which="both")
    axes.legend(fontsize=7, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    figure.savefig(path, dpi=120, bbox_inches="tight")


def main() -> None:
    """Print the table and draw."""
    results = read_results("ray_cpu")
    if results is None:
        sys.exit("benchmarks/results/ray_cpu.json is missing: run python benchmarks/speeds/bench_ray.py --write")
    costs = Costs.of(results)
    print(costs, *table(costs), sep="\n")
    draw(costs, ROOT / "docs" / "images" / "scaling.png")


if __name__ == "__main__":
    main()
