"""One training on a simulated cluster through many faults, or through a partition of a node. On Linux.

    python benchmarks/studies/ray_faults.py                  # 50 faults: kills, stops, pauses, nodes that end
    python benchmarks/studies/ray_faults.py --partition 10   # as root: the link of a node is down for 10 s
    python benchmarks/studies/ray_faults.py --write          # and keep benchmarks/results/ray_faults.json

Two nodes hold the workers. The next fault of a worker comes when it delivers batches again after its last one:

- kill: SIGKILL of the worker's process.
- stop: SIGSTOP; the learner ends the process after ``hang_timeout_s``.
- pause: SIGSTOP and, 5 s later, SIGCONT; nothing may be lost.
- node: SIGKILL of all processes of the node; a new node comes in its place.

A batch that a worker was asked for is delivered, or is in flight at the end, or is lost; a fault may lose one. In the
partition the node is in a network namespace, and its virtual link is taken down.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.results_file import ROOT, add_results_argument, describe_run, write_results
from benchmarks.speeds.bench_ray import descendants, resident_mb_of, stat_of
from tm_torchrl.collectors.on_ray.worker import RayWorker
from tm_torchrl.settings import compose_settings
from tm_torchrl.tasks.task import make_task
from tm_torchrl.trainers.loop import run_loop
from tm_torchrl.trainers.malloc import resident_mb
from tm_torchrl.trainers.run import make_training
from tm_torchrl.trainers.training import Hook, Training

KINDS = ("kill", "stop", "kill", "pause", "kill", "node", "kill", "pause", "kill", "stop")
HANG_TIMEOUT_S = 20.0
PAUSE_S = 5.0
RECOVERY_S = 600.0  # more than a collector gives a worker for its start
NUM_NODES = 2
PACE_S = 0.05  # the learner's pause after a batch, which leaves a busy machine to those that start
SETTINGS = [
    *("experiment=cartpole_iqn", "collector=ray", "collector.frames_per_batch=64", "precision=float32"),
    *("replay.learning_starts=200", "replay.uses_per_transition=1", "total_frames=1_000_000_000"),
    f"collector.hang_timeout_s={HANG_TIMEOUT_S}",
]
RAY_START = [str(Path(sys.executable).with_name("ray")), "start", "--num-gpus=0", "--block"]
RAY_START += ["--object-store-memory=100000000"]
HOST_IP, NODE_IP, PORT, SPACE, LINK = "10.77.9.1", "10.77.9.2", 6399, "tm_torchrl_faults", "tmfaults"


class Gaps(Hook):
    """The longest time without a batch, and the greatest age of weights."""

    def __init__(self) -> None:
        self.last: float | None = None
        self.longest_s = self.oldest = 0.0

    def after_batch(self, training: Training) -> None:
        """Look at the clock."""
        time.sleep(PACE_S)
        now = time.monotonic()
        self.longest_s = max(self.longest_s, 0.0 if self.last is None else now - self.last)
        self.last = now
        self.oldest = max(self.oldest, training.source.metrics().get("weights_age_max", 0.0))


class Requests:
    """Counts what all workers were asked for."""

    def __init__(self) -> None:
        self.num = 0
        self.before = RayWorker.request

    def __enter__(self) -> Requests:
        def request(worker: RayWorker, *arguments: Any, **options: Any) -> None:
            self.num += 1
            self.before(worker, *arguments, **options)

        RayWorker.request = request  # type: ignore[method-assign]
        return self

    def __exit__(self, *_: object) -> None:
        RayWorker.request = self.before  # type: ignore[method-assign]


class Cluster:
    """A head without CPUs, and nodes; all of them on this machine."""

    def __init__(self, *, num_nodes: int, num_cpus: int) -> None:
        from ray.cluster_utils import Cluster as RayCluster

        small = {"num_gpus": 0, "object_store_memory": 100 * 2**20}
        self.node = {**small, "num_cpus": num_cpus}
        self.started: list[subprocess.Popen[bytes]] = []
        self.cluster = RayCluster(
            initialize_head=True, head_node_args={**small, "num_cpus": 0, "include_dashboard": False}
        )
        self.nodes = [self.cluster.add_node(**self.node) for _ in range(num_nodes)]
        self.address = self.cluster.address

    def replace_node_of(self, pid: int) -> None:
        """End the node that a process belongs to at once, and start another."""
        raylet = parent_of(pid)
        with contextlib.suppress(ProcessLookupError):
            for each in [
                raylet,
                *(int(p.name) for p in Path("/proc").glob("[0-9]*") if parent_of(int(p.name)) == raylet),
            ]:
                os.kill(each, signal.SIGKILL)
        words = [*RAY_START, f"--num-cpus={self.node['num_cpus']}", f"--address={self.address}"]
        self.started.append(subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))

    def shutdown(self) -> None:
        """End all nodes."""
        for process in self.started:
            process.terminate()
            process.wait(60)
        with contextlib.suppress(Exception):  # of nodes that have been killed
            self.cluster.shutdown()


def parent_of(pid: int) -> int:
    """The number of a process's parent; 0 for a process that has ended."""
    fields = stat_of(pid)
    return int(fields[1]) if fields else 0


def process_of(worker: Any) -> int:
    """The process number of a worker's actor."""
    import ray

    return int(ray.get(worker.collector.process.options(concurrency_group="watch").remote(), timeout=60))


def await_batches(worker: Any, num: int, training: Training) -> float:
    """Wait until a worker has delivered some more batches; the seconds that it took."""
    begin, before = time.monotonic(), worker.num_batches
    while worker.num_batches < before + num and not training.is_stopped:
        if time.monotonic() - begin > RECOVERY_S:
            raise TimeoutError(f"worker {worker.number} delivers nothing for {RECOVERY_S:g} s")
        time.sleep(0.1)
    return time.monotonic() - begin


def injected(kind: str, worker: Any, cluster: Cluster) -> bool:
    """Let a fault happen to a worker; returns whether it was there."""
    import ray

    try:
        pid = process_of(worker)
        if kind == "node":
            cluster.replace_node_of(pid)
        elif kind == "kill":
            os.kill(pid, signal.SIGKILL)
        else:
            os.kill(pid, signal.SIGSTOP)
        if kind == "pause":
            time.sleep(PAUSE_S)
            os.kill(pid, signal.SIGCONT)
    except (AttributeError, OSError, ray.exceptions.RayError):
        return False
    return True


def run_faults(training: Training, cluster: Cluster, *, num: int, minutes: float, found: dict[str, Any]) -> None:
    """Let faults happen to all workers, and say how long each one was away."""
    source: Any = training.source
    while not source._groups:
        time.sleep(0.1)
    for worker in source._groups:
        await_batches(worker, 2, training)
    begin, numbers = time.monotonic(), iter(range(num))
    found["memory_mb"] = [memory()]

    def haunt(worker: Any) -> None:
        while time.monotonic() - begin < 60 * minutes and (number := next(numbers, None)) is not None:
            kind, frames = KINDS[number % len(KINDS)], training.frames
            while not injected(kind, worker, cluster):
                await_batches(worker, 1, training)  # it was away because of another's fault
            away_s = await_batches(worker, 2, training)  # one may have been on its way
            fault = {"kind": kind, "away_s": round(away_s, 1), "frames_meanwhile": training.frames - frames}
            found["faults"].append(fault)
            found["memory_mb"].append(memory())
            print(f"{len(found['faults']):3d} {json.dumps(fault)}", flush=True)

    with ThreadPoolExecutor(len(source._groups)) as threads:
        list(threads.map(haunt, source._groups))
    found["minutes"] = round((time.monotonic() - begin) / 60, 1)


def memory() -> dict[str, float]:
    """Megabytes of the learner, and of all other processes of the cluster."""
    return {"learner": round(resident_mb()), "others": round(resident_mb_of(descendants()))}


def run_partition(training: Training, *, seconds: float, found: dict[str, Any]) -> None:
    """Take the link of the second node down for a while."""
    source: Any = training.source
    while not source._groups:
        time.sleep(0.1)
    for worker in source._groups:
        await_batches(worker, 5, training)
    before = [worker.num_batches for worker in source._groups]
    away = next(worker for worker in source._groups if is_in_namespace(worker))
    subprocess.run(["ip", "link", "set", f"{LINK}0", "down"], check=True)
    time.sleep(seconds)
    during = [worker.num_batches for worker in source._groups]
    subprocess.run(["ip", "link", "set", f"{LINK}0", "up"], check=True)
    found["seconds"] = seconds
    found["batches_meanwhile"] = {
        "cut off" if worker is away else "other": now - then
        for worker, now, then in zip(source._groups, during, before, strict=True)
    }
    found["away_after_s"] = round(await_batches(away, 2, training), 1)
    time.sleep(5.0)
    found["restarts"] = source.num_restarts


def is_in_namespace(worker: Any) -> bool:
    """Whether a worker's process sees another network than this one."""
    return os.readlink(f"/proc/{process_of(worker)}/ns/net") != os.readlink("/proc/self/ns/net")


@contextlib.contextmanager
def partitionable() -> Iterator[str]:
    """A head here, a node in a network namespace, one CPU each; the address of the head."""
    ray = [*RAY_START, "--num-cpus=1"]
    inside = ["ip", "netns", "exec", SPACE]
    for words in (
        ["ip", "netns", "add", SPACE],
        ["ip", "link", "add", f"{LINK}0", "type", "veth", "peer", "name", f"{LINK}1", "netns", SPACE],
        ["ip", "addr", "add", f"{HOST_IP}/24", "dev", f"{LINK}0"],
        ["ip", "link", "set", f"{LINK}0", "up"],
        [*inside, "ip", "addr", "add", f"{NODE_IP}/24", "dev", f"{LINK}1"],
        [*inside, "ip", "link", "set", f"{LINK}1", "up"],
        [*inside, "ip", "link", "set", "lo", "up"],
    ):
        subprocess.run(words, check=True)
    head = [*ray, "--head", f"--node-ip-address={HOST_IP}", f"--port={PORT}", "--include-dashboard=false"]
    node = [*inside, *ray, f"--address={HOST_IP}:{PORT}", f"--node-ip-address={NODE_IP}"]
    started = []
    try:
        for words in (head, node):
            started.append(subprocess.Popen(words, stdout=subprocess.DEVNULL))
            time.sleep(20.0)
        yield f"{HOST_IP}:{PORT}"
    finally:
        for process in reversed(started):
            process.terminate()
            process.wait(60)
        subprocess.run(["ip", "netns", "del", SPACE], check=True)  # its links go with it


def measure(address: str, *, workers: int, faults: Callable[[Training, dict[str, Any]], None]) -> dict[str, Any]:
    """Train while faults happen in a thread; what came of it."""
    sizes = [f"collector.num_workers={workers}", f"env.num_envs={2 * workers}"]
    settings = compose_settings([*SETTINGS, *sizes, f"collector.address={address}"])
    found: dict[str, Any] = {"faults": []}

    def work() -> None:
        try:
            faults(training, found)
        except BaseException as error:
            found["error"] = f"{type(error).__name__}: {error}"
        training.stop("all faults have happened")

    task, gaps = make_task(settings), Gaps()
    with Requests() as requests:
        training = make_training(settings, task)
        training.hooks = [gaps]
        source: Any = training.source
        try:
            thread = threading.Thread(target=work, daemon=True)
            thread.start()
            run_loop(training)
            thread.join()
            in_flight = sum(group.is_requested for group in source._groups)
            delivered, restarts = training.num_batches, source.num_restarts
            left_out = int(source.metrics()["left_out"])
        finally:
            source.shutdown()
            task.close()
    return {
        **found,
        "workers": workers,
        "frames": training.frames,
        "updates": training.algorithm.learner.num_updates,
        "requested": requests.num,
        "delivered": delivered,
        "in_flight": in_flight,
        "left_out": left_out,
        "restarts": restarts,
        "longest_gap_s": round(gaps.longest_s, 1),
        "weights_age_max": gaps.oldest,
    }


def main() -> None:
    """Run, print, and keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faults", type=int, default=50, help="(50)")
    parser.add_argument("--minutes", type=float, default=60.0, help="after which no other fault begins (60)")
    parser.add_argument("--workers", type=int, default=6, help="(6)")
    parser.add_argument("--partition", type=float, metavar="SECONDS", help="instead of the faults")
    parser.add_argument("--write", action="store_true", help="keep the results")
    add_results_argument(parser)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        token = Path(folder, "token")
        token.write_text(uuid.uuid4().hex * 2)
        os.environ |= {
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_worker_niceness": "0",
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(token),
            "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
        }
        import ray
        from ray._raylet import Config

        Config.initialize("")  # TorchRL has imported Ray before
        quiet = {"log_to_driver": False, "logging_level": "ERROR"}
        if args.partition is None:
            name, cluster = "ray_faults", Cluster(num_nodes=NUM_NODES, num_cpus=-(-args.workers // NUM_NODES))
            try:
                ray.init(address=cluster.address, **quiet)
                results = measure(
                    cluster.address,
                    workers=args.workers,
                    faults=lambda training, found: run_faults(
                        training, cluster, num=args.faults, minutes=args.minutes, found=found
                    ),
                )
            finally:
                ray.shutdown()
                cluster.shutdown()
        else:
            name = "ray_partition"
            with partitionable() as address:
                ray.init(address=address, _node_ip_address=HOST_IP, **quiet)
                results = measure(
                    address,
                    workers=2,
                    faults=lambda training, found: run_partition(training, seconds=args.partition, found=found),
                )
                ray.shutdown()
    results["lost"] = results["requested"] - results["delivered"] - results["in_flight"] - results["left_out"]
    print(json.dumps(results, indent=2))
    if args.write:
        print("wrote", write_results(name, {**describe_run(device="cpu"), **results}, folder=args.results))


if __name__ == "__main__":
    main()
