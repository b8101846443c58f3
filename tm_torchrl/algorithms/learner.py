"""The learner: a loss, an optimiser and a target network; one call makes one update."""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Protocol

import torch
from tensordict import TensorDictBase
from torch import Tensor, nn

from tm_torchrl.objectives.quantile_loss import QuantileLoss

PRECISIONS = {"float32": None, "bfloat16": torch.bfloat16}
AUTO = "auto"
COMPILE_MODES = ("default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs")


class NonFiniteLossError(RuntimeError):
    """The loss was not a number too many times in a row."""


class TargetUpdater(Protocol):
    """Moves the target network: ``SoftUpdate`` or ``HardUpdate``."""

    def step(self) -> Any:
        """Called after each update."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Counters, as plain values."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a saved state."""
        ...


class Learner:
    """Updates a loss's network from batches.

    Args:
        loss: The loss of a quantile network.
        optimizer: Makes the optimiser from parameter groups, each with its ``lr_scale``.
        target: Moves the target network after every update; ``None`` for a loss without one.
        learning_rate: Learning rate of groups with ``lr_scale`` 1; may be set at any time.
        clip_norm: Largest norm of all gradients together; ``None`` for no limit.
        clip_value: Largest gradient of a weight; ``None`` for no limit.
        decay_per_learning_rate: Decoupled weight decay: each update multiplies the weights by 1 minus this times the
            learning rate (0.02 in Linesight, 0.1 in rulka).
        precision: ``"float32"`` or ``"bfloat16"`` (autocast; parameters stay float32).
        compile: Whether to compile the loss, or a mode of ``torch.compile``; ``"reduce-overhead"`` records CUDA graphs.
            ``"auto"`` lets the trainer compile in the background (``CompileUpdates``); alone it changes nothing.
        max_skipped: Updates in a row that may be skipped because the loss is not finite.

    Examples:
        >>> from functools import partial
        >>> from tm_torchrl.modules import MLPIQNetwork
        >>> from tm_torchrl.objectives import IQNLoss, SoftUpdate
        >>> loss = IQNLoss(MLPIQNetwork(4, 2), action_space="categorical")
        >>> learner = Learner(loss, partial(torch.optim.Adam, eps=1e-4), target=SoftUpdate(loss, tau=0.01))
        >>> learner.learning_rate = 5e-4
        >>> learner.num_updates
        0
    """

    def __init__(
        self,
        loss: QuantileLoss,
        optimizer: Callable[..., torch.optim.Optimizer],
        *,
        target: TargetUpdater | None = None,
        learning_rate: float = 5e-4,
        clip_norm: float | None = 10.0,
        clip_value: float | None = None,
        decay_per_learning_rate: float = 0.0,
        precision: str = "float32",
        compile: bool | str = False,
        max_skipped: int = 100,
    ) -> None:
        for name, limit in (("clip_norm", clip_norm), ("clip_value", clip_value)):
            if limit is not None and not limit > 0:
                raise ValueError(f"{name}={limit}: must be positive, or null for no limit")
        if precision not in PRECISIONS:
            raise ValueError(f"precision={precision!r}: must be {' or '.join(PRECISIONS)}")
        if not isinstance(compile, bool) and compile not in (AUTO, *COMPILE_MODES):
            raise ValueError(f"compile={compile!r}: must be true, false, auto or one of {', '.join(COMPILE_MODES)}")
        if not decay_per_learning_rate >= 0:
            raise ValueError(f"decay_per_learning_rate={decay_per_learning_rate}: must not be negative")
        if max_skipped < 0:
            raise ValueError(f"max_skipped={max_skipped}: must not be negative")
        self.loss = loss
        groups = [{**group, "params": _trained(group["params"])} for group in loss.parameter_groups()]
        groups = [group for group in groups if group["params"]]
        self.parameters: list[nn.Parameter] = [parameter for group in groups for parameter in group["params"]]
        self.optimizer = optimizer([{"lr": learning_rate, **group} for group in groups])
        self.target = target
        self.clip_norm = clip_norm
        self.clip_value = clip_value
        self.decay_per_learning_rate = decay_per_learning_rate
        self.precision = precision
        self.compile = compile
        self.max_skipped = max_skipped
        self.num_updates = 0
        self.num_samples = 0  # of this session
        self.num_skipped = 0
        self._skipped_in_a_row = 0
        mode = None if isinstance(compile, bool) else compile
        self._compute = loss if compile in (False, AUTO) else torch.compile(loss, mode=mode)
        self.compute_gradients: Callable[[TensorDictBase], dict[str, Tensor]] = self.eager_gradients
        self.learning_rate = learning_rate

    @property
    def learning_rate(self) -> float:
        """Learning rate of groups with ``lr_scale`` 1."""
        return self._learning_rate

    @learning_rate.setter
    def learning_rate(self, value: float) -> None:
        if not (value >= 0 and math.isfinite(value)):
            raise ValueError(f"learning_rate={value}: must be finite and at least 0")
        self._learning_rate = value
        for group in self.optimizer.param_groups:
            group["lr"] = value * group["lr_scale"]

    def update(self, batch: TensorDictBase) -> dict[str, Tensor]:
        """Make one gradient step; writes priorities into the batch and returns detached scalars.

        If the loss or a gradient is not finite, the update is skipped and counted.
        """
        losses = self.compute_gradients(batch)
        norm = self._clip()
        found = losses | {"gradient_norm": norm}
        if not math.isfinite((norm + self._total(losses)).item()):
            self._skip()
            return found
        self._skipped_in_a_row = 0
        self.optimizer.step()
        self._decay()
        if self.target is not None:
            self.target.step()
        self.num_updates += 1
        self.num_samples += batch.numel()
        return found

    def eager_gradients(self, batch: TensorDictBase) -> dict[str, Tensor]:
        """The losses of a batch, detached; writes the parameters' gradients, and priorities into the batch."""
        with self.autocast():
            losses = self._compute(batch)
        for parameter in self.parameters:
            parameter.grad = None
        torch.autograd.backward(self._total(losses))
        return {key: losses[key].detach() for key in self.loss.out_keys}

    @torch.no_grad()
    def test(self, batch: TensorDictBase) -> Tensor:
        """The loss of a batch, without learning from it."""
        with self.autocast():
            losses = self._compute(batch)
        return self._total(losses)

    def _total(self, losses: Mapping[str, Tensor] | TensorDictBase) -> Tensor:
        return functools.reduce(torch.add, [losses[key] for key in self.loss.out_keys])

    @contextlib.contextmanager
    def autocast(self) -> Iterator[None]:
        """Compute with the learner's precision inside."""
        dtype = PRECISIONS[self.precision]
        if dtype is None:
            yield
            return
        with torch.autocast(self.parameters[0].device.type, dtype):
            yield

    @torch.no_grad()
    def _clip(self) -> Tensor:
        if self.clip_value is not None:
            nn.utils.clip_grad_value_(self.parameters, self.clip_value)
        # The numbers of torch's clip_grad_norm_, which spends half its time on sorting gradients by their devices.
        gradients = [weights.grad for weights in self.parameters if weights.grad is not None]
        norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
        if self.clip_norm is not None:
            torch._foreach_mul_(gradients, (self.clip_norm / (norm + 1e-6)).clamp(max=1.0))
        return norm

    @torch.no_grad()
    def _decay(self) -> None:
        if self.decay_per_learning_rate:
            for group in self.optimizer.param_groups:
                keep = 1.0 - self.decay_per_learning_rate * group["lr"]
                torch._foreach_mul_([parameter.data for parameter in group["params"]], keep)

    def _skip(self) -> None:
        self.num_skipped += 1
        self._skipped_in_a_row += 1
        if self._skipped_in_a_row > self.max_skipped:
            raise NonFiniteLossError(
                f"the loss or its gradient was not finite in {self._skipped_in_a_row} updates in a row, the last after "
                f"{self.num_updates} good ones: lower learning_rate, or find the cause with "
                "objective.loss.check_finite=true"
            )

    def state_dict(self) -> dict[str, Any]:
        """Networks, optimiser, the target's counter, and the counts of updates."""
        return {
            "loss": dict(self.loss.state_dict()),
            "optimizer": self.optimizer.state_dict(),
            "target": {} if self.target is None else self.target.state_dict(),
            "learning_rate": self.learning_rate,
            "precision": self.precision,
            "num_updates": self.num_updates,
            "num_skipped": self.num_skipped,
            "skipped_in_a_row": self._skipped_in_a_row,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a saved state."""
        self.loss.load_state_dict(state["loss"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.target is not None and state["target"]:
            self.target.load_state_dict(state["target"])
        self.num_updates = state["num_updates"]
        self.num_skipped = state["num_skipped"]
        self._skipped_in_a_row = state["skipped_in_a_row"]
        self.learning_rate = state["learning_rate"]


def _trained(parameters: Iterable[nn.Parameter]) -> list[nn.Parameter]:
    """Those that are not frozen."""
    return [parameter for parameter in parameters if parameter.requires_grad]
