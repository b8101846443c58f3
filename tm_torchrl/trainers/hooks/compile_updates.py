"""Losses and gradients as one compiled function, which a process makes while updates go on without it."""

from __future__ import annotations

import hashlib
import math
import os
import platform
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, cast

import torch
from tensordict import TensorDictBase
from torch import Tensor, nn

from tm_torchrl.algorithms.learner import Learner
from tm_torchrl.algorithms.precision import FASTER_BY, measure_gain
from tm_torchrl.algorithms.update_graph import CompiledUpdate, UpdateGraph, signature_of, trace_update
from tm_torchrl.collectors.processes import background_process, ignore_ending_signals
from tm_torchrl.objectives.memory_pass import MemoryPass
from tm_torchrl.objectives.quantile_loss import QuantileLoss
from tm_torchrl.record.run_folder import RunFolder
from tm_torchrl.trainers.training import Hook, Training

TIMEOUT_S = 1800.0  # of the compiler; half a minute of a core is usual
LARGEST_DIFFERENCE = 0.1  # of gradients, relative; bfloat16 differs by 0.003
OPTIONS = {
    "fallback_random": True,  # the same random numbers as without a compiler
    "compile_threads": 1,
    "aot_inductor.compile_wrapper_opt_level": "O0",
    "aot_inductor.enable_line_tables": False,
}


class CompileUpdates(Hook):
    """``learner.compile=auto``: replaces the computation of gradients by a compiled one, if that is faster.

    After the first update a process of lower priority compiles loss and gradients with AOTInductor. What it makes draws
    the same random numbers and agrees within rounding. It is kept in the cache of ``torch.compile``, where later runs
    with the same settings find it. Whatever goes wrong, updates stay as they are, and one line says why.

    Args:
        log: Takes messages.
        compiler: Starts to compile a graph.
    """

    def __init__(
        self,
        *,
        log: Callable[[str], None] = lambda message: None,
        compiler: Callable[[UpdateGraph], Compiler] | None = None,
    ) -> None:
        self.log = log
        self._start_compiler = Compiler if compiler is None else compiler
        self._compiler: Compiler | None = None
        self._compiled: CompiledUpdate | None = None
        self._is_traced = False

    def open(self, training: Training, run: RunFolder) -> None:
        """Take over the computation of gradients."""
        learner = training.algorithm.learner
        if not isinstance(learner, Learner):
            return
        reason = _why_not(learner)
        if reason is not None:
            self._stay_eager(reason)
            return
        self._learner = learner
        learner.compute_gradients = self

    def __call__(self, batch: TensorDictBase) -> dict[str, Tensor]:
        """The losses of a batch; writes the gradients."""
        if self._compiled is not None and self._compiled.signature == signature_of(batch, self._learner.loss):
            try:
                return self._compiled(batch)
            except RuntimeError as error:
                self._give_up(error)
        if not self._is_traced:
            self._is_traced = True
            traced = batch.clone()  # before the loss writes into it
            losses = self._learner.eager_gradients(batch)  # also checks the first batch
            self._start(traced)
            return losses
        if self._compiler is not None:
            self._look_at(self._compiler, batch)
        return self._learner.eager_gradients(batch)

    def _start(self, batch: TensorDictBase) -> None:
        try:
            self._compiler = self._start_compiler(trace_update(self._learner, batch))
        except Exception as error:  # whatever in torch's tracing does not know an operation
            self._give_up(error)

    def _look_at(self, compiler: Compiler, batch: TensorDictBase) -> None:
        """Begin to use what the compiler has made, if it is ready and faster."""
        try:
            compiled = compiler.result()
            if compiled is None:
                return
            compiler.close()
            self._compiler = None
            if compiled.signature != signature_of(batch, self._learner.loss):
                raise ValueError("batches differ in shape")
            is_faster, rates = self._probe(compiled, batch)
        except Exception as error:
            self._give_up(error)
            return
        if is_faster:
            self._compiled = compiled
            self.log(f"compile: updates are compiled from here on ({rates})")
        else:
            self._stay_eager(f"compiled ones are not faster: {rates}")

    def _probe(self, compiled: CompiledUpdate, batch: TensorDictBase) -> tuple[bool, str]:
        """Compare both ways on a batch, which like weights, buffers and random state stays as it was."""
        learner = self._learner
        buffers = [(buffer, buffer.clone()) for buffer in learner.loss.buffers()]
        with torch.random.fork_rng(devices=[]):
            try:
                state = torch.get_rng_state()
                learner.eager_gradients(batch.clone())
                wanted = _flat_gradients(learner)
                for buffer, value in buffers:
                    buffer.copy_(value)
                torch.set_rng_state(state)
                compiled(batch.clone())
                difference = float((_flat_gradients(learner) - wanted).norm() / wanted.norm().clamp(min=1e-12))
                if not difference <= LARGEST_DIFFERENCE:
                    raise ValueError(f"compiled gradients differ by {difference:.0%}")
                gain, eager, fast = measure_gain(
                    lambda: learner.eager_gradients(batch.clone()), lambda: compiled(batch.clone()), seconds=0.5
                )
            finally:
                for buffer, value in buffers:
                    buffer.copy_(value)
        return gain > FASTER_BY, f"gradients per CPU second: {fast:.0f}, eager {eager:.0f}"

    def _give_up(self, error: Exception) -> None:
        self._compiled = None
        self.close()
        text = str(error).strip().partition("\n")[0]
        self._stay_eager(text if type(error) in (ValueError, OSError) else f"{type(error).__name__}: {text[:200]}")

    def _stay_eager(self, reason: str) -> None:
        self.log(f"compile: updates stay eager ({reason})")

    def close(self) -> None:
        """End the compiler."""
        if self._compiler is not None:
            self._compiler.close()
            self._compiler = None


class Compiler:
    """Compiles a graph in a process, unless the result is in the cache.

    Args:
        update: What is compiled.
    """

    def __init__(self, update: UpdateGraph) -> None:
        self._update = update
        self._path = _cached(update)
        self._process = None
        self._started_at = time.monotonic()
        if not self._path.is_file():
            arguments = update.graph.code, update.shapes, self._path, torch.get_num_threads()
            self._process, self._connection = background_process(_compile, *arguments)

    def result(self) -> CompiledUpdate | None:
        """What was compiled; ``None`` if it is not there yet."""
        if self._process is not None:
            if not self._connection.poll(0):
                if time.monotonic() - self._started_at > TIMEOUT_S:
                    raise OSError(f"compiling took longer than {TIMEOUT_S / 60:.0f} minutes")
                return None
            try:
                problem = self._connection.recv()
            except (EOFError, OSError) as error:
                self._process.join(5.0)
                raise OSError(f"the process that compiles ended with exit code {self._process.exitcode}") from error
            if problem:
                raise OSError(problem)
        try:
            return CompiledUpdate(_load(self._path), self._update)
        except Exception:
            self._path.unlink(missing_ok=True)  # a damaged file; the next run compiles again
            raise

    def close(self) -> None:
        """End the process and what it has started."""
        if self._process is None or self._process.pid is None:
            return
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):  # it has ended, or has no group yet
            self._process.kill()
        self._connection.close()
        self._process.join(5.0)
        self._process = None


def _compile(connection: Connection, code: str, shapes: Sequence[Any], path: Path, num_threads: int) -> None:
    """Compile in a process, and try the result there; answers with what went wrong."""
    os.setsid()  # a group of its own, which ends together
    ignore_ending_signals()
    os.nice(10)
    threading.Thread(target=_end_with, args=(connection,), daemon=True).start()
    with open(os.devnull, "w") as nowhere:  # the terminal shows the training
        os.dup2(nowhere.fileno(), 1)
        os.dup2(nowhere.fileno(), 2)
    torch.set_num_threads(num_threads)
    own, problem = path.with_name(f"{path.stem}.{os.getpid()}.pt2"), ""
    try:
        inputs = tuple(torch.empty_strided(size, stride, dtype=dtype).zero_() for dtype, size, stride in shapes)
        with torch.no_grad():
            program = torch.export.export(_GraphOf(code), inputs)
            torch._inductor.aoti_compile_and_package(
                program,
                package_path=str(own),
                inductor_configs=OPTIONS,
            )
            _load(own)(*inputs)
        os.replace(own, path)
    except Exception as error:
        problem = f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0][:200]}"
    finally:
        own.unlink(missing_ok=True)
    connection.send(problem)


class _GraphOf(nn.Module):
    """Runs the code of a graph; a graph that is pickled computes the random numbers once for all."""

    def __init__(self, code: str) -> None:
        super().__init__()
        names: dict[str, Any] = {"torch": torch, "device": torch.device, "inf": math.inf, "nan": math.nan}
        exec(code, names)
        self._function = names["forward"]

    def forward(self, *inputs: Tensor) -> Any:
        return self._function(self, *inputs)


def _end_with(connection: Connection) -> None:
    """End this process and its compilers when training has ended."""
    try:
        connection.recv()
    except (EOFError, OSError):
        os.killpg(0, signal.SIGKILL)


def _load(path: Path) -> Callable[..., Any]:
    run: Callable[..., Any] = torch._inductor.aoti_load_package(str(path), run_single_threaded=True)
    return run


def _cached(update: UpdateGraph) -> Path:
    """Where the compiled graph is or will be: beside what ``torch.compile`` keeps, for this machine alone."""
    from torch._inductor.runtime.runtime_utils import cache_dir

    made_by = torch.__version__, platform.node(), torch.backends.cpu.get_cpu_capability(), torch.get_num_threads()
    text = repr((made_by, OPTIONS, update.graph.code, update.shapes))
    folder = Path(cache_dir()) / "tm_torchrl"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if folder.stat().st_uid != os.getuid() or not os.access(folder, os.W_OK):
        raise OSError(f"{folder} cannot be written; TORCHINDUCTOR_CACHE_DIR names another folder")
    return folder / f"{hashlib.sha256(text.encode()).hexdigest()[:32]}.pt2"


def _why_not(learner: Learner) -> str | None:
    """Why its updates are not compiled; ``None`` if they may be."""
    device, loss = learner.parameters[0].device.type, cast("nn.Module", learner.loss)
    if sys.platform == "win32":
        return "learner.compile=auto is not for Windows"
    if device != "cpu":
        return f"learner.compile=auto is for the CPU; on {device} use true or reduce-overhead"
    if not isinstance(loss, QuantileLoss):
        return f"learner.compile=auto is for losses of quantiles, not {type(loss).__name__}"
    if isinstance(loss.evaluate, MemoryPass):
        return "batches of sequences have no fixed number of steps to learn from"
    return None


def _flat_gradients(learner: Learner) -> Tensor:
    return torch.cat([each.grad.flatten() for each in learner.parameters if each.grad is not None])
