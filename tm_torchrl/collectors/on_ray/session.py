"""The connection to Ray: a Ray of our own on this machine, or a cluster that is running."""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Mapping
from typing import Any

from tm_torchrl.collectors.processes import ending_signals_blocked
from tm_torchrl.lazy import extras_named

LOCAL = "local"


_is_ours = False  # whether ``connect`` has connected this process


def connect(address: str, *, num_cpus: int = 1) -> bool:
    """Connect to Ray, unless this process has done so already; returns whether it had not.

    Args:
        address: ``"local"`` starts a Ray on this machine that ends with this process; ``"auto"`` finds the cluster
            that this machine belongs to; anything else is the address of a cluster's head, such as
            ``192.168.0.1:6379``, to which this machine belongs.
        num_cpus: CPUs that a Ray of our own offers.
    """
    global _is_ours
    is_local = address == LOCAL
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # sends nothing
    os.environ.setdefault("RAY_worker_niceness", "0")  # as other workers; Ray's 15 would starve beside any program
    with extras_named():
        import ray
    if ray.is_initialized():
        return False
    logging.getLogger("ray").setLevel(logging.ERROR)
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if is_local:
        options |= {"num_cpus": num_cpus, "num_gpus": 0, "include_dashboard": False}
    is_main = threading.current_thread() is threading.main_thread()
    before = signal.getsignal(signal.SIGTERM)
    try:
        with ending_signals_blocked():  # Ctrl-C spares Ray's processes, which the trainer ends
            ray.init(address=address, **options)
    except (ConnectionError, ValueError) as error:
        raise ValueError(
            f"address={address!r}: no Ray cluster answers ({str(error).splitlines()[0]}); start one with "
            "`ray start --head` (docs/scaling.md), or use the address local"
        ) from error
    except Exception as error:
        if type(error) is not Exception:  # Ray's own, of a start that took too long, has no class
            raise
        raise TimeoutError(f"Ray did not start in time on this machine, which may be too busy: {error}") from error
    finally:
        if is_main:
            signal.signal(signal.SIGTERM, before)  # Ray sets its own
    _is_ours = True
    _leave_out_worker_errors()
    return True


def disconnect() -> None:
    """Undo what ``connect`` has done."""
    global _is_ours
    if _is_ours:
        import ray

        _is_ours = False
        ray.shutdown()


def _leave_out_worker_errors() -> None:
    """Ray prints ten lines for each worker that ends, in the middle of the display; the collector reports it in one."""
    import ray

    if hasattr(ray._private.worker, "print_to_stdstream"):
        ray._private.worker.print_to_stdstream = lambda *arguments, **options: None


def total_cpus() -> float:
    """CPUs of the cluster."""
    import ray

    return float(ray.cluster_resources().get("CPU", 0.0))


def room(resources: Mapping[str, float]) -> str:
    """Text that says how much of some resources the cluster has, and has free.

    Args:
        resources: The resources of interest.
    """
    import ray

    total, free = ray.cluster_resources(), ray.available_resources()
    return ", ".join(f"{free.get(name, 0.0):g} of {total.get(name, 0.0):g} {name} free" for name in resources)


def missing(resources: Mapping[str, float]) -> str:
    """Text that says what an actor needs, and what the cluster has of it.

    Args:
        resources: What it needs.
    """
    wanted = ", ".join(f"{amount:g} {name}" for name, amount in resources.items())
    return f"it needs {wanted} on one node; the cluster has {room(resources)}"


def actor_options(resources: Mapping[str, float]) -> dict[str, Any]:
    """Options of an actor that never gets a GPU, and that whoever started it starts again.

    Args:
        resources: What it needs: ``CPU``, ``memory`` in bytes, and others as nodes offer them.
    """
    others = {name: amount for name, amount in resources.items() if name not in ("CPU", "memory")}
    options: dict[str, Any] = {
        "num_cpus": resources.get("CPU", 0.0),
        "num_gpus": 0,
        "resources": others,
        "scheduling_strategy": "SPREAD",
        "max_restarts": 0,
    }
    return options | ({"memory": int(resources["memory"])} if "memory" in resources else {})


def fitting_nodes(resources: Mapping[str, float]) -> int:
    """Nodes that have some resources, free or in use.

    Args:
        resources: Amounts by name.
    """
    import ray

    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    return sum(all(node.get(name, 0.0) >= amount for name, amount in resources.items()) for node in nodes)
