"""Compiled updates: the numbers of eager ones, the swap, and every way in which it does not come to one."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tensordict import TensorDictBase
from torch import Tensor, nn
from torchrl.objectives import SoftUpdate

from tests.algorithms.test_learner import make_batch
from tm_torchrl.algorithms.learner import Learner
from tm_torchrl.algorithms.update_graph import CompiledUpdate, UpdateGraph, trace_update
from tm_torchrl.modules import MLPFQFNetwork, MLPIQNetwork, MLPQRNetwork
from tm_torchrl.objectives import FQFLoss, IQNLoss, QRDQNLoss, SelfLossNormalizer
from tm_torchrl.trainers.hooks import compile_updates as module
from tm_torchrl.trainers.hooks.compile_updates import Compiler, CompileUpdates

SIZES: dict[str, Any] = {"hidden_sizes": (8,), "head_size": 8}


def make_loss(kind: str = "iqn", **options: Any) -> Any:
    options = {"action_space": "categorical", **options}
    if kind == "fqf":
        return FQFLoss(MLPFQFNetwork(3, 2, num_fractions=4, **SIZES), **options)
    if kind == "noisy":
        return IQNLoss(MLPIQNetwork(3, 2, linear="noisy", **SIZES), num_fractions=4, **options)
    if kind == "normalized":
        return QRDQNLoss(MLPQRNetwork(3, 2, num_fractions=4, **SIZES), normalizer=SelfLossNormalizer(), **options)
    return IQNLoss(MLPIQNetwork(3, 2, **SIZES), num_fractions=4, **options)


def make_learner(kind: str = "iqn", **options: Any) -> Learner:
    torch.manual_seed(0)
    loss = make_loss(kind, **options)
    return Learner(loss, torch.optim.SGD, target=SoftUpdate(loss, tau=0.5), compile="auto")


class FakeCompiler:
    """Runs the graph as it is, from the second look on; ``run`` replaces it."""

    def __init__(self, update: UpdateGraph, *, run: Callable[..., Any] | None = None) -> None:
        self.update, self.run, self.looks, self.is_closed = update, run or update.graph, 0, False

    def result(self) -> CompiledUpdate | None:
        self.looks += 1
        return None if self.looks < 2 else CompiledUpdate(self.run, self.update)

    def close(self) -> None:
        self.is_closed = True


@pytest.fixture
def gain(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    found = [1.2]
    monkeypatch.setattr(module, "measure_gain", lambda *functions, **options: (found[0], 100.0, 100.0 * found[0]))
    return found


def hooked(learner: Learner, said: list[str], compiler: Any = FakeCompiler) -> CompileUpdates:
    hook = CompileUpdates(log=said.append, compiler=compiler)
    hook.open(SimpleNamespace(algorithm=SimpleNamespace(learner=learner)), None)  # type: ignore[arg-type]
    return hook


def outcome(compute: Callable[[TensorDictBase], dict[str, Tensor]], learner: Learner, batch: TensorDictBase) -> Any:
    """Everything that computing gradients gives."""
    torch.manual_seed(2)
    batch = batch.clone()
    losses = compute(batch)
    return (
        losses,
        [each.grad for each in learner.parameters],
        batch["td_error"],
        [each.clone() for each in learner.loss.buffers()],
        torch.rand(1),
    )


@pytest.mark.parametrize("kind", ["iqn", "fqf", "noisy", "normalized"])
def test_the_graph_computes_what_the_loss_does(kind: str) -> None:
    learner = make_learner(kind)
    batch = make_batch()
    batch["priority_weight"] = torch.rand(16, 1)
    learner.eager_gradients(batch.clone())
    before = [each.clone() for each in learner.loss.buffers()]
    state = torch.get_rng_state()
    graph = trace_update(learner, batch)
    torch.testing.assert_close(list(learner.loss.buffers()), before, rtol=0, atol=0)
    assert torch.equal(torch.get_rng_state(), state)
    for change in range(3):
        if change == 1:
            learner.loss.value_estimator.gamma.fill_(0.5)
        if change == 2:
            learner.load_state_dict(make_learner(kind).state_dict())
        saved = [each.clone() for each in learner.loss.buffers()]
        other = make_batch(2.0 + change)
        other["priority_weight"] = torch.rand(16, 1)
        wanted = outcome(learner.eager_gradients, learner, other)
        for buffer, value in zip(learner.loss.buffers(), saved, strict=True):
            buffer.copy_(value)
        torch.testing.assert_close(outcome(CompiledUpdate(graph.graph, graph), learner, other), wanted)


def test_it_swaps_once_it_is_there_and_faster(gain: list[float]) -> None:
    said: list[str] = []
    learner, plain = make_learner(), make_learner()
    hook = hooked(learner, said)
    for number in range(5):
        torch.manual_seed(number)
        wanted = plain.update(make_batch())
        torch.manual_seed(number)
        torch.testing.assert_close(learner.update(make_batch()), wanted)
        assert len(said) == (number >= 2)  # after two looks, which the second and the third update take
    assert said == ["compile: updates are compiled from here on (gradients per CPU second: 120, eager 100)"]
    torch.testing.assert_close(learner.parameters, plain.parameters)
    smaller = make_batch()[:8]
    torch.testing.assert_close(outcome(hook, learner, smaller), outcome(learner.eager_gradients, learner, smaller))


def broken(*inputs: Tensor) -> Any:
    raise RuntimeError("of the compiled code\nand more")


def check_stays_eager(learner: Learner, said: list[str], reason: str) -> None:
    plain = make_learner()
    for number in range(5):
        torch.manual_seed(number)
        wanted = plain.update(make_batch())
        torch.manual_seed(number)
        torch.testing.assert_close(learner.update(make_batch()), wanted)
    assert len(said) == 1
    assert said[0].startswith("compile: updates stay eager (")
    assert reason in said[0]
    assert "\n" not in said[0]


def test_it_stays_where_nothing_is_gained(gain: list[float]) -> None:
    gain[0], said, learner = 1.05, [], make_learner()
    hooked(learner, said)
    check_stays_eager(learner, said, "not faster: gradients per CPU second: 105, eager 100")


@pytest.mark.parametrize(
    ("run", "reason"),
    [
        (broken, "RuntimeError: of the compiled code"),
        (lambda graph, *inputs: [2 * each for each in graph(*inputs)], "gradients differ by 100%"),
    ],
)
def test_it_stays_where_the_result_is_wrong(gain: list[float], run: Any, reason: str) -> None:
    said: list[str] = []
    learner = make_learner()

    def compiler(update: UpdateGraph) -> FakeCompiler:
        return FakeCompiler(update, run=run if run is broken else partial(run, update.graph))

    hooked(learner, said, compiler)
    check_stays_eager(learner, said, reason)


def test_a_later_failure_ends_it(gain: list[float]) -> None:
    said: list[str] = []
    learner = make_learner()
    hook = hooked(learner, said)
    for _ in range(4):
        learner.update(make_batch())
    assert hook._compiled is not None
    hook._compiled._run = broken
    found = outcome(hook, learner, make_batch())
    assert said[1:] == ["compile: updates stay eager (RuntimeError: of the compiled code)"]
    torch.testing.assert_close(found[1:3], outcome(learner.eager_gradients, learner, make_batch())[1:3])


def test_what_cannot_be_traced_stays(gain: list[float]) -> None:
    said: list[str] = []
    learner = make_learner(check_finite=True)
    hooked(learner, said)
    check_stays_eager(learner, said, "RuntimeError")

    class Hidden(nn.Module):
        factor = torch.tensor(1.0)

        def forward(self, loss_B: Tensor, target_BM: Tensor) -> Tensor:
            return loss_B * self.factor

    learner, said = make_learner(normalizer=Hidden()), []
    hooked(learner, said)
    check_stays_eager(learner, said, "neither a parameter nor a buffer")


def test_what_it_is_not_for() -> None:
    for change, reason in (({"loss": nn.Linear(1, 1)}, "losses of quantiles, not Linear"), ({}, "on meta use true")):
        said: list[str] = []
        learner = make_learner()
        vars(learner).update(change or {"parameters": [nn.Parameter(torch.zeros(1, device="meta"))]})
        hooked(learner, said)
        assert learner.compute_gradients == learner.eager_gradients
        assert len(said) == 1
        assert reason in said[0]


def dies(connection: Connection, *arguments: Any) -> None:
    os._exit(3)


def hangs(connection: Connection, code: str, shapes: Any, path: Path, num_threads: int) -> None:
    os.setsid()
    child = subprocess.Popen(["sleep", "60"])
    path.with_suffix(".pid").write_text(str(child.pid))
    time.sleep(60)


def wait_until(is_true: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not is_true():
        assert time.monotonic() < end
        time.sleep(0.02)


def has_ended(pid: int) -> bool:
    try:
        return "\nState:\tZ" in Path(f"/proc/{pid}/status").read_text()  # nobody has waited for it yet
    except (FileNotFoundError, ProcessLookupError):
        return True


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="looks at processes as Linux shows them")
def test_a_process_that_dies_or_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    said: list[str] = []
    for target, reason in ((dies, "ended with exit code 3"), (hangs, "took longer than 0 minutes")):
        monkeypatch.setattr(module, "_compile", target)
        learner, lines = make_learner(), len(said)
        hook = hooked(learner, said, Compiler)
        learner.update(make_batch())
        compiler = hook._compiler
        assert compiler is not None
        pids = compiler._path.with_suffix(".pid")
        if target is hangs:
            wait_until(lambda: pids.exists() and pids.read_text() != "")  # noqa: B023
            assert compiler.result() is None
            monkeypatch.setattr(module, "TIMEOUT_S", 0.0)
        else:
            wait_until(lambda: not compiler._process.is_alive())  # noqa: B023
        learner.update(make_batch())
        assert said[lines:] == [f"compile: updates stay eager ({said[lines].partition('(')[2]}"]
        assert reason in said[lines]
        if target is hangs:
            wait_until(lambda: has_ended(int(pids.read_text())))  # noqa: B023


def test_a_cache_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "file"))
    said: list[str] = []
    learner = make_learner()
    hooked(learner, said, Compiler)
    check_stays_eager(learner, said, "file")


@pytest.mark.slow
def test_the_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    learner = make_learner()
    batch = make_batch()
    learner.eager_gradients(batch.clone())
    graph = trace_update(learner, batch)
    for is_cached in (False, True):
        compiler = Compiler(graph)
        assert (compiler._process is None) == is_cached
        end = time.monotonic() + 600
        while (compiled := compiler.result()) is None:
            assert time.monotonic() < end
            time.sleep(0.1)
        compiler.close()
        wanted = outcome(learner.eager_gradients, learner, batch)
        torch.testing.assert_close(outcome(compiled, learner, batch), wanted)
    compiler._path.write_bytes(b"damaged")
    with pytest.raises(RuntimeError):
        Compiler(graph).result()
    assert not compiler._path.exists()
