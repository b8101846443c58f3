"""An environment in a worker process that shows that it is alive, reports its errors, and can be continued.

Besides TorchRL's pipes, worker and trainer share the files of a channel folder: a heartbeat of each worker, its last
traceback, its state at the end of the last batch, and the trainer's count of frames.
"""

from __future__ import annotations

import contextlib
import faulthandler
import io
import multiprocessing
import multiprocessing.util
import os
import shutil
import signal
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tensordict import NestedKey, TensorDict, TensorDictBase
from torchrl.envs import EnvBase

from tm_torchrl.collectors.processes import ignore_ending_signals
from tm_torchrl.data.saving.plain_state import from_plain, to_plain
from tm_torchrl.data.saving.random_state import random_state, restore_random_state
from tm_torchrl.envs.protocols import FollowsFrames, Resumable
from tm_torchrl.modules.carried import carried_values, cleared


@dataclass(frozen=True)
class Channel:
    """Files between one worker and the trainer.

    Args:
        folder: Folder of the files.
        worker: Number of the worker.
    """

    folder: Path
    worker: int

    @property
    def beat(self) -> Path:
        """The number of steps so far, as eight bytes; the heartbeat."""
        return self.folder / f"beat_{self.worker}"

    @property
    def frames(self) -> Path:
        """The frames of the training when the present batch was requested, as eight bytes from the trainer."""
        return self.folder / f"frames_{self.worker}"

    @property
    def trace(self) -> Path:
        """The worker's last traceback."""
        return self.folder / f"trace_{self.worker}.txt"

    @property
    def state(self) -> Path:
        """The worker's state at the end of the last batch."""
        return self.folder / f"state_{self.worker}"

    def num_steps(self) -> int:
        """The number of steps so far; 0 before the worker has started."""
        try:
            return int(np.fromfile(self.beat, np.int64, count=1)[0])
        except (OSError, IndexError):
            return 0

    def traceback(self) -> str:
        """The text of the worker's traceback; empty if there is none."""
        try:
            return self.trace.read_text(encoding="utf-8", errors="replace").strip()
        except OSError:
            return ""

    def read_state(self) -> torch.Tensor:
        """The state as bytes."""
        return torch.from_numpy(np.fromfile(self.state, np.uint8).copy())


@dataclass
class WorkerEnvFunction:
    """Makes the environment of a worker; it is pickled and sent to the worker process.

    Args:
        make_env: Makes the environment.
        channel: Files shared with the trainer.
        steps_per_batch: The state is written after so many steps; ``None`` to write none.
        seed: Seeds the worker's random generators; ``None`` leaves them alone, as in the trainer's own process.
        state: State to continue from, as ``Channel.read_state`` returns it.
        is_worker: Whether the environment is made in a worker process rather than in the trainer's own.
        carried_keys: What the policy hands from one step to the next.
    """

    make_env: Callable[[], EnvBase]
    channel: Channel
    steps_per_batch: int | None = None
    seed: int | None = None
    state: torch.Tensor | None = None
    is_worker: bool = False
    carried_keys: Sequence[NestedKey] = ()

    def __call__(self) -> EnvBase:
        """Make the environment, in the process that will use it."""
        if self.is_worker:
            _become_worker(self.channel)
        with _reported(self.channel):
            if self.seed is not None:
                torch.manual_seed(self.seed)
                np.random.seed(self.seed % 2**32)  # noqa: NPY002  (libraries draw from the global generator)
            return WorkerEnv(self.make_env(), self)


class WorkerEnv(EnvBase):
    """An environment that counts its steps for the watchdog, reports its errors, and can be continued.

    Args:
        env: The environment.
        function: What made it.
    """

    def __init__(self, env: EnvBase, function: WorkerEnvFunction) -> None:
        super().__init__(device=env.device, batch_size=env.batch_size)
        self.env, self.function, self.channel = env, function, function.channel
        self.__dict__["_input_spec"] = env.input_spec.clone()
        self.__dict__["_output_spec"] = env.output_spec.clone()
        np.zeros(1, np.int64).tofile(self.channel.beat)
        self.beat = np.memmap(self.channel.beat, np.int64, mode="r+", shape=(1,))
        self.frames = np.memmap(self.channel.frames, np.int64, mode="r", shape=(1,))
        self._follows_frames = isinstance(env, FollowsFrames)
        self._continued = None if function.state is None else load_bytes(function.state)
        self._carried = TensorDict()  # what the policy hands to its next step
        if function.carried_keys:
            self._post_step_mdp_hooks = self._pass_on

    def _step(self, tensordict: TensorDictBase) -> TensorDictBase:
        with _reported(self.channel):
            if self._follows_frames:
                self.env.set_frames(int(self.frames[0]))
            after = self.env._step(tensordict)
        if self.function.carried_keys:
            self._carried = carried_values(tensordict, self.function.carried_keys)
        self.beat[0] += 1
        self._write_state()
        return after

    def _pass_on(self, step: TensorDictBase, following: TensorDictBase) -> tuple[TensorDictBase, TensorDictBase]:
        """Pass on what the policy wrote under "next"; TorchRL passes on only keys of the environment's specs."""
        return step, following.update(self._carried)

    def _reset(self, tensordict: TensorDictBase | None = None, **options: Any) -> TensorDictBase:
        with _reported(self.channel):
            if self._continued is not None:
                saved, self._continued = self._continued, None
                self.env.restore(saved["env"])
                if saved["random"]:
                    restore_random_state(saved["random"])
                return self.env.present().update(from_plain(saved["held"]))
            after = self.env._reset(tensordict, **options)
            if self.function.carried_keys:
                # TorchRL clears what the policy carries where some environments are reset, and keeps it where all are.
                self._carried = cleared(self._carried, None if tensordict is None else tensordict.get("_reset", None))
                after.update(self._carried)
        if self.beat[0]:
            self._write_state()
        return after

    def _set_seed(self, seed: int | None) -> None:
        self.env.set_seed(seed)

    def close(self, *, raise_if_closed: bool = True) -> None:
        """Close the environment."""
        self.env.close(raise_if_closed=raise_if_closed)
        super().close(raise_if_closed=raise_if_closed)

    def can_be_continued(self) -> bool:
        """Whether ``state`` is complete."""
        return isinstance(self.env, Resumable)

    def state(self) -> dict[str, Any]:
        """What continues this environment and its policy, with the random generators of a worker's process."""
        return {
            "env": to_plain(self.env.save()),
            "held": to_plain(self._carried.clone()),
            "random": random_state() if self.function.is_worker else {},
        }

    def _write_state(self) -> None:
        steps = self.function.steps_per_batch
        if steps is not None and self.beat[0] % steps == 0 and self.can_be_continued():
            partial = self.channel.state.with_suffix(".partial")
            partial.write_bytes(to_bytes(self.state()).numpy().tobytes())
            os.replace(partial, self.channel.state)


def to_bytes(state: Any) -> torch.Tensor:
    """A plain state as one tensor of bytes."""
    file = io.BytesIO()
    torch.save(state, file)
    return torch.frombuffer(bytearray(file.getvalue()), dtype=torch.uint8)


def load_bytes(state: torch.Tensor) -> Any:
    """The state of such bytes; no code in it is run."""
    return torch.load(io.BytesIO(state.numpy().tobytes()), weights_only=True)


def _become_worker(channel: Channel) -> None:
    """Set up a worker process.

    It uses one thread, leaves Ctrl-C and SIGTERM to the trainer, ends when the trainer ends, and writes a stack trace
    when it gets SIGUSR1.
    """
    torch.set_num_threads(1)
    with contextlib.suppress(ValueError):  # not the main thread
        ignore_ending_signals()
    if hasattr(faulthandler, "register"):  # not on Windows
        file = open(channel.trace, "a", encoding="utf-8")  # noqa: SIM115  (must stay open)
        faulthandler.register(signal.SIGUSR1, file=file, all_threads=False)

    parent = multiprocessing.parent_process()

    def clean_up(seconds: float | None = None) -> None:
        """Remove the files if the trainer has ended, or ends within so many seconds."""
        assert parent is not None
        parent.join(seconds)
        if parent.is_alive():
            return
        for _ in range(20):  # other workers may still write into it
            shutil.rmtree(channel.folder, ignore_errors=True)
            if not channel.folder.exists():
                break
            time.sleep(0.05)

    def watch_parent() -> None:
        clean_up()
        os._exit(1)

    if parent is not None:
        threading.Thread(target=watch_parent, daemon=True).start()
        # Where the worker sees its pipe close and ends before that thread runs.
        multiprocessing.util.Finalize(None, clean_up, args=(0.1,), exitpriority=0)


@contextlib.contextmanager
def _reported(channel: Channel) -> Any:
    """Write the traceback of an error to a file, where the trainer reads it."""
    try:
        yield
    except BaseException:
        with open(channel.trace, "a", encoding="utf-8") as file:
            file.write(traceback.format_exc())
        raise
