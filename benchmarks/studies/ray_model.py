"""Where a cluster saturates, on paper: the costs that ``bench_ray.py`` has measured, for 1 to 1,000 nodes.

    python benchmarks/studies/ray_model.py    # prints a table, and draws docs/images/scaling.png

A node has 16 workers. Its frames are as many as a worker makes in its CPU seconds. One learner takes a batch in the CPU
time of a request, of its bytes, and of the replay; half of the learner's time is left for updates. Its network has
10 Gbit/s each way: frames come in, and each node reads new weights at each request, once for all workers that ask
between two pushes.
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
NETWORK_BYTES_PER_S = 10e9 / 8
SHARE_FOR_BATCHES = 0.5  # of the learner's time
PIXELS = 2 * 64 * 64  # bytes of a grey picture and the next one
SIZES = (64, 512, 4096)  # frames in a worker's batch


@dataclass(frozen=True)
class Costs:
    """Measured costs.

    Args:
        frames_per_s: Of one worker.
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
            frames_per_s=measured["ray"]["frames_per_worker_cpu_s"],
            request_s=requests[small] - byte_s * small,
            byte_s=byte_s,
            store_s=1e-6 * measured["ray"]["store_us_per_frame"],
            frame_bytes=measured["frame_bytes"],
            weights_bytes=measured["weights_bytes"],
        )

    def made(self, nodes: float) -> float:
        """Frames per second of the workers."""
        return nodes * WORKERS_PER_NODE * self.frames_per_s

    def taken(self, size: int, *, frame_bytes: int) -> float:
        """Frames per second that one learner takes in batches of a size."""
        batch_s = self.request_s + size * (self.byte_s * frame_bytes + self.store_s)
        return SHARE_FOR_BATCHES * size / batch_s

    def arrived(self, *, frame_bytes: int) -> float:
        """Frames per second that the network brings."""
        return NETWORK_BYTES_PER_S / frame_bytes

    def weights_bytes_per_s(self, nodes: float, size: int) -> float:
        """Bytes of weights that leave the learner, one push for each batch."""
        requests_of_a_node = WORKERS_PER_NODE * self.frames_per_s / size
        return nodes * requests_of_a_node * self.weights_bytes


def table(costs: Costs) -> list[str]:
    """What limits each number of nodes."""
    lines = [
        "| nodes | workers make, frames/s | learner takes, batches of 512 | of 4,096 | weights sent, GB/s (4,096) |"
    ]
    lines.append("|--:|--:|--:|--:|--:|")
    for nodes in NODES:
        made = costs.made(nodes)
        takes = [f"{min(1.0, costs.taken(size, frame_bytes=costs.frame_bytes) / made):.0%}" for size in (512, 4096)]
        sent = costs.weights_bytes_per_s(nodes, 4096) / 1e9
        lines.append(f"| {nodes:,} | {made:,.0f} | {takes[0]} | {takes[1]} | {sent:.2f} |")
    return lines


def draw(costs: Costs, path: Path) -> None:
    """The frames that workers make, and what learner and network take."""
    import matplotlib.pyplot as plt
    import numpy as np

    figure, axes = plt.subplots(figsize=(7.5, 4.5))
    nodes = np.geomspace(1, 1000)
    axes.loglog(nodes, [costs.made(n) for n in nodes], "k", linewidth=2, label="workers make (16 a node)")
    for size, style in zip(SIZES, (":", "--", "-"), strict=True):
        for name, bytes_, colour in (("floats", costs.frame_bytes, "C0"), ("pixels", costs.frame_bytes + PIXELS, "C1")):
            label = f"learner takes {name}, batches of {size:,}"
            axes.axhline(costs.taken(size, frame_bytes=bytes_), color=colour, linestyle=style, label=label)
    for name, bytes_, colour in (("floats", costs.frame_bytes, "C0"), ("pixels", costs.frame_bytes + PIXELS, "C1")):
        label = f"10 Gbit/s bring {name}"
        axes.axhline(costs.arrived(frame_bytes=bytes_), color=colour, linestyle="-.", linewidth=0.8, label=label)
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
