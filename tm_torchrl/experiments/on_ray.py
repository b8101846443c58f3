"""Runs in a Ray cluster: each in a process of its own, on a node that has room for it."""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tm_torchrl.collectors.on_ray.session import connect, fitting_nodes
from tm_torchrl.collectors.on_ray.worker import reason
from tm_torchrl.experiments.run_actor import Judge, RunActor, pack, unpack
from tm_torchrl.experiments.run_process import LOG, STOPPED

MAX_LOSSES = 10  # of one run
STOP_TIMEOUT_S = 120.0  # for a run to save and to be sent back
MARK = "started_by.txt"  # in a run's folder while it starts: a node that can read it reaches the folder
FAILED = 1


class RayRun:
    """The process of a folder, in the cluster; a run whose node or actor is lost is started again.

    Where the nodes reach the folder, the run works in it and goes on from its checkpoint when it is started again.
    Elsewhere the folder is sent to the node and back, without the replay, and a lost run begins anew.

    Args:
        folder: Folder that ``prepare`` has written settings into.
        resources: What the run needs on its node, such as ``{"CPU": 2, "GPU": 1}``.
        arguments: Of Python, before the folder; ``None`` trains.
        judge: Called on the node with the folder of a finished run.
        log: Takes messages.
    """

    def __init__(
        self,
        folder: Path,
        *,
        resources: Mapping[str, float],
        arguments: Sequence[str] | None = None,
        judge: Judge | None = None,
        log: Callable[[str], None] = lambda message: None,
    ) -> None:
        self.folder = folder.resolve()
        self.resources = dict(resources)
        self.arguments, self.judge, self.log = arguments, judge, log
        self.num_losses = 0
        self._status: int | None = None
        self._begin()

    def _begin(self) -> None:
        text = uuid.uuid4().hex
        (self.folder / MARK).write_text(text, encoding="utf-8")
        self._is_working = False
        self._actor = _remote_class(self.resources).remote()
        self._answer = self._actor.reaches.remote(str(self.folder / MARK), text)

    def poll(self) -> int | None:
        """The exit status; ``None`` while it waits for a place or runs."""
        import ray

        if self._status is None and ray.wait([self._answer], timeout=0)[0]:
            try:
                self._take(ray.get(self._answer))
            except ray.exceptions.RayTaskError as error:
                self._fail(str(error.cause).strip().splitlines()[-1])
            except ray.exceptions.RayError as error:
                self._begin_again(reason(error))
        return self._status

    def _take(self, answer: Any) -> None:
        if self._is_working:
            self._status, files = answer
            if files:
                unpack(files, self.folder)
            return
        (self.folder / MARK).unlink(missing_ok=True)
        self._is_working = True
        files = b"" if answer else pack(self.folder)
        self._answer = self._actor.work.remote(str(self.folder), files, self.arguments, self.judge)

    def _begin_again(self, why: str) -> None:
        self.num_losses += 1
        self._end()
        if self.num_losses == MAX_LOSSES:
            self._fail(f"it was lost {MAX_LOSSES} times; at last, its actor {why}")
        else:
            self.log(f"{self.folder}: its actor {why}. The run is started again.")
            self._begin()

    def _fail(self, why: str) -> None:
        with open(self.folder / LOG, "a", encoding="utf-8") as log:
            log.write(f"\n{why}\n")
        self._status = FAILED

    def stop(self) -> int:
        """Let the run save and end; returns its exit status."""
        import ray

        if self._status is None and self._is_working:
            with contextlib.suppress(ray.exceptions.RayError):
                self._actor.stop.options(concurrency_group="stop").remote()
                if ray.wait([self._answer], timeout=STOP_TIMEOUT_S)[0]:
                    self._take(ray.get(self._answer))
        self._end()
        (self.folder / MARK).unlink(missing_ok=True)
        self._status = STOPPED if self._status is None else self._status
        return self._status

    def _end(self) -> None:
        import ray

        with contextlib.suppress(Exception):  # it has ended by itself
            ray.kill(self._actor)


def ray_runs(
    resources: Iterable[tuple[str, float]] = (),
    *,
    judge: Judge | None = None,
    log: Callable[[str], None] = lambda message: None,
) -> Callable[..., RayRun]:
    """What starts runs in the cluster that this machine belongs to, or in that of ``RAY_ADDRESS``.

    Args:
        resources: What each run needs on its node; one CPU by default, and no GPU.
        judge: Called on the node with the folder of a finished run.
        log: Takes messages.
    """
    needed = {"CPU": 1.0, **dict(resources)}
    for name, amount in needed.items():
        if not amount >= 0:
            raise ValueError(f"resources: {name}={amount:g}: must not be negative")
    connect(os.environ.get("RAY_ADDRESS") or "auto", num_cpus=os.cpu_count() or 1)
    if not fitting_nodes(needed):
        wanted = ", ".join(f"{amount:g} {name}" for name, amount in needed.items())
        log(f"no node of the cluster has {wanted}, which each run needs: they wait for one")

    def start(folder: Path, *, arguments: Sequence[str] | None = None) -> RayRun:
        return RayRun(folder, resources=needed, arguments=arguments, judge=judge, log=log)

    return start


def _remote_class(resources: Mapping[str, float]) -> Any:
    import ray

    return ray.remote(
        num_cpus=resources.get("CPU", 0.0),
        num_gpus=resources.get("GPU", 0.0),
        resources={name: amount for name, amount in resources.items() if name not in ("CPU", "GPU")},
        scheduling_strategy="SPREAD",
        concurrency_groups={"stop": 1},  # answers while the run goes on
        max_restarts=0,
    )(RunActor)
