"""An environment in a worker process that shows it is alive, says what killed it, and can be continued.

The files of a channel folder are all that worker and trainer share besides TorchRL's pipes: a heartbeat for each
worker, its last traceback, its state at the end of the last batch, and the trainer's count of frames.
"""

from __future__ import annotations

import contextlib
import faulthandler
import io
import multiprocessing
import os
import shutil
import signal
import threading
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tensordict import TensorDict, TensorDictBase
from torchrl.envs import EnvBase

from tm_torchrl.data.saving.plain_state import from_plain, to_plain
from tm_torchrl.data.saving.random_state import random_state, restore_random_state
from tm_torchrl.modules.exploration import HELD_KEYS

ENDING_SIGNALS = frozenset({signal.SIGINT, signal.SIGTERM})  # Ctrl-C, and what ends a whole group of processes


@dataclass(frozen=True)
class Channel:
    """Files between one worker and the trainer.

    Args:
        folder: of the files.
        worker: number of the worker.
    """

    folder: Path
    worker: int

    @property
    def beat(self) -> Path:
        """Counts steps: eight bytes."""
        return self.folder / f"beat_{self.worker}"

    @property
    def frames(self) -> Path:
        """Played by the whole training when the present batch was asked for: eight bytes, the trainer's."""
        return self.folder / f"frames_{self.worker}"

    @property
    def trace(self) -> Path:
        """What went wrong."""
        return self.folder / f"trace_{self.worker}.txt"

    @property
    def state(self) -> Path:
        """At the end of the last batch."""
        return self.folder / f"state_{self.worker}"

    def num_steps(self) -> int:
        """Steps so far; 0 before the worker has begun."""
        try:
            return int(np.fromfile(self.beat, np.int64, count=1)[0])
        except (OSError, IndexError):
            return 0

    def traceback(self) -> str:
        """The worker's own words; empty if there are none."""
        try:
            return self.trace.read_text(encoding="utf-8", errors="replace").strip()
        except OSError:
            return ""

    def read_state(self) -> torch.Tensor:
        """The state as bytes."""
        return torch.from_numpy(np.fromfile(self.state, np.uint8).copy())


@dataclass
class WatchedEnvFunction:
    """Makes the watched environment; travels to the worker process.

    Args:
        make_env: makes the environment.
        channel: to the trainer.
        steps_per_batch: after which the state is written; ``None`` to write none.
        seed: of the worker's random generators; ``None`` leaves them alone, as in the trainer's own process.
        state: to continue from, from ``Channel.read_state``.
        is_worker: whether it is made in a worker process, not in the trainer's own.
    """

    make_env: Callable[[], EnvBase]
    channel: Channel
    steps_per_batch: int | None = None
    seed: int | None = None
    state: torch.Tensor | None = None
    is_worker: bool = False

    def __call__(self) -> EnvBase:
        """Make it, in the process where it will live."""
        if self.is_worker:
            _become_worker(self.channel)
        with _reported(self.channel):
            if self.seed is not None:
                torch.manual_seed(self.seed)
                np.random.seed(self.seed % 2**32)  # noqa: NPY002  (libraries draw from the global generator)
            env = self.make_env()
            _Watch(env, self)
        return env


class _Watch:
    """Stands between an environment and its ``_step`` and ``_reset``."""

    def __init__(self, env: EnvBase, function: WatchedEnvFunction) -> None:
        self.env, self.function, self.channel = env, function, function.channel
        np.zeros(1, np.int64).tofile(self.channel.beat)
        self.beat = np.memmap(self.channel.beat, np.int64, mode="r+", shape=(1,))
        self.tell = getattr(env, "set_frames", None)
        self.frames = np.memmap(self.channel.frames, np.int64, mode="r", shape=(1,))
        self.step, self.reset = env._step, env._reset
        self.continued = None if function.state is None else load_bytes(function.state)
        self.held = TensorDict()  # actions that the exploration holds, which travel beside what the environment gives
        env._step, env._reset = self.watched_step, self.watched_reset
        env.watch = self

    def watched_step(self, tensordict: TensorDictBase) -> TensorDictBase:
        with _reported(self.channel):
            if self.tell is not None:
                self.tell(int(self.frames[0]))
            after = self.step(tensordict)
        self.held = tensordict.select(*HELD_KEYS, strict=False)
        self.beat[0] += 1
        self._write_state()
        return after

    def watched_reset(self, tensordict: TensorDictBase | None = None, **options: Any) -> TensorDictBase:
        with _reported(self.channel):
            if self.continued is not None:
                saved, self.continued = self.continued, None
                self.env.restore(saved["env"])
                if saved["random"]:
                    restore_random_state(saved["random"])
                return self.env.present().update(from_plain(saved["held"]))
            after = self.reset(tensordict, **options)
        if self.beat[0]:
            self._write_state()
        return after

    def state(self) -> dict[str, Any]:
        """What continues this environment and its exploration, with the generators of a worker's process."""
        return {
            "env": to_plain(self.env.save()),
            "held": to_plain(self.held.clone()),
            "random": random_state() if self.function.is_worker else {},
        }

    def _write_state(self) -> None:
        steps = self.function.steps_per_batch
        if steps is not None and self.beat[0] % steps == 0 and can_be_continued(self.env):
            partial = self.channel.state.with_suffix(".partial")
            partial.write_bytes(to_bytes(self.state()).numpy().tobytes())
            os.replace(partial, self.channel.state)


def can_be_continued(env: EnvBase) -> bool:
    """Whether an environment has the three methods that continuing needs."""
    return all(hasattr(env, name) for name in ("save", "restore", "present"))


def to_bytes(state: Any) -> torch.Tensor:
    """A plain state as one tensor of bytes."""
    file = io.BytesIO()
    torch.save(state, file)
    return torch.frombuffer(bytearray(file.getvalue()), dtype=torch.uint8)


def load_bytes(state: torch.Tensor) -> Any:
    """The state again; nothing in it is run."""
    return torch.load(io.BytesIO(state.numpy().tobytes()), weights_only=True)


def _become_worker(channel: Channel) -> None:
    """One thread; requests to end are the trainer's business; no life without it; a stack trace on request."""
    torch.set_num_threads(1)
    with contextlib.suppress(ValueError):  # not the main thread
        for number in ENDING_SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        if hasattr(signal, "pthread_sigmask"):  # they were blocked while the process was young
            signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING_SIGNALS)
    if hasattr(faulthandler, "register"):  # not on Windows
        file = open(channel.trace, "a", encoding="utf-8")  # noqa: SIM115  (stays open as long as the process)
        faulthandler.register(signal.SIGUSR1, file=file, all_threads=False)

    parent = multiprocessing.parent_process()

    def watch_parent() -> None:
        assert parent is not None
        parent.join()
        shutil.rmtree(channel.folder, ignore_errors=True)
        os._exit(1)

    if parent is not None:
        threading.Thread(target=watch_parent, daemon=True).start()


@contextlib.contextmanager
def _reported(channel: Channel) -> Any:
    """Writes the traceback of what goes wrong for the trainer to read."""
    try:
        yield
    except BaseException:
        with open(channel.trace, "a", encoding="utf-8") as file:
            file.write(traceback.format_exc())
        raise
