"""``NStep``: turns collector batches into n-step transitions, correctly at ends of episodes, gaps and restarts.

Shapes: N lanes (cars), T steps of a batch, P pending steps, n steps per transition,
K = N * (P + T - n + 1) transitions.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import torch
from tensordict import TensorDict, TensorDictBase, unravel_key
from torch import Tensor
from torchrl.envs.transforms import Transform

from tm_torchrl.data.steps.windows import sum_windows

Key = str | tuple[str, ...]

OBSERVATION_KEYS = ("observation", "pixels", "potential")
TRAJECTORY = ("collector", "traj_ids")
FRAMES_PER_STREAM = 2**32

_stream_lock = threading.Lock()
_num_streams = 0


def _allocate_streams(num: int) -> Tensor:
    """First frame ids of ``num`` lanes; no two lanes of one process share an id."""
    global _num_streams
    with _stream_lock:
        first, _num_streams = _num_streams, _num_streams + num
    return torch.arange(first, first + num) * FRAMES_PER_STREAM


def number_streams_from(first: int) -> None:
    """Let the frame ids of this process begin with those of a lane, so that writers in several processes share none."""
    global _num_streams
    with _stream_lock:
        _num_streams = first


class NStep(Transform):
    """Turn batches of steps into n-step transitions, on their way into a replay buffer.

    The transition of action k is written as soon as its lane has n steps from k on. Consecutive batches continue each
    other, so every writer needs its own ``NStep``, and all its batches hold the same lanes. The sum of rewards ends
    with the episode, before the first action that was not greedy (if asked for), or at a gap, where a lane does not
    continue. Everything at ("next", ...) comes from the **last used step**, the flags too; TorchRL's
    ``MultiStepTransform`` leaves ``terminated`` False for the n - 1 steps before an end, so that targets bootstrap
    through it.

    Stored are the action, ``is_greedy`` if the batch has it, ``extra_keys``, and at both ends what the batch has
    of ``"observation"``, ``"pixels"`` and ``"potential"``. Everything else in the batch (``info``,
    ``step_count``, action values, what the collector adds) is left out. A change of ("collector", "traj_ids") without
    an end of an episode is a gap. The transform writes

    - ("next", "reward") ``[K, 1]``: the discounted sum; ("next", "done" | "terminated" | "truncated") ``[K, 1]``;
    - ``steps_to_next_obs`` int64 ``[K, 1]``: used steps; estimators discount by ``gamma ** steps_to_next_obs``;
    - for the mini-race: ``step_rewards`` ``[K, n]`` (discounted sums of the first 1, 2, ... n steps; the last value
      repeats after the used steps), ``step_discounts`` ``[K, n]`` (gamma, gamma^2, ...), ``num_steps`` int64 ``[K, 1]``
      (used steps) and ``steps_to_finish`` int64 ``[K, 1]``: actions until the episode terminates, or n + 1 if it does
      not within the n steps;
    - with ``end_key``: bool ``[K, 1]``, whether the next row belongs to another episode or lane, as sequences need it;
      ("next", "done") is True for all rows whose sum reaches the end;
    - with ``frame_ids=True``: ``frame_id`` and ("next", "frame_id") int64 ``[K]``, equal where the observation is the
      same, for :class:`~tm_torchrl.data.FrameStorage`.

    Args:
        num_steps: n.
        gamma: Discount of one step; may be set at any time.
        cut_at_exploration: Ends the sum before the first later action with ``is_greedy`` False.
        frame_ids: Whether to write ``frame_id``.
        extra_keys: What else to store of the first step, and under "next" of the last where the batch has it: a hidden
            state, ``is_init``, trajectory numbers.
        end_key: Where to mark the ends of sequences, for ``SliceSampler(end_key=...)`` and ``Sequence(done_key=...)``.

    Examples:
        >>> steps = TensorDict({"observation": torch.arange(4.0).view(1, 4, 1), "action": torch.zeros(1, 4).long(),
        ...     "next": {"observation": torch.arange(1.0, 5.0).view(1, 4, 1), "reward": torch.ones(1, 4, 1),
        ...         "terminated": torch.tensor([0, 0, 0, 1]).bool().view(1, 4, 1),
        ...         "done": torch.tensor([0, 0, 0, 1]).bool().view(1, 4, 1)}}, [1, 4])
        >>> transitions = NStep(3, gamma=0.5).transitions(steps)
        >>> transitions["next", "observation"].view(-1), transitions["next", "terminated"].view(-1)
        (tensor([3., 4.]), tensor([False,  True]))
    """

    def __init__(
        self,
        num_steps: int = 3,
        *,
        gamma: float,
        cut_at_exploration: bool = False,
        frame_ids: bool = False,
        extra_keys: Sequence[Key] = (),
        end_key: Key | None = None,
    ) -> None:
        if num_steps < 1:
            raise ValueError(f"num_steps={num_steps}: must be at least 1")
        if not 0.0 <= gamma <= 1.0:
            raise ValueError(f"gamma={gamma}: must lie between 0 and 1")
        super().__init__()
        self.num_steps = num_steps
        self.gamma = gamma
        self.cut_at_exploration = cut_at_exploration
        self.frame_ids = frame_ids
        self.extra_keys = tuple(extra_keys)
        self.end_key = end_key
        self._pending: TensorDictBase | None = None  # [N, P], P < n
        self._last: TensorDictBase | None = None  # [N, 1]: small tensors of the step before the next batch
        self._first_id: Tensor | None = None  # [N]: id of the first pending step's frame, valid in this process only

    def _inv_call(self, tensordict: TensorDictBase) -> TensorDictBase | None:
        """The transitions that ``rb.extend`` writes; ``None`` while the first windows are incomplete."""
        transitions = self.transitions(tensordict)
        return transitions if len(transitions) else None

    def forward(self, tensordict: TensorDictBase) -> TensorDictBase:
        """Samples are not changed."""
        return tensordict

    def transitions(self, batch: TensorDictBase) -> TensorDictBase:
        """The transitions ``[K]`` that a batch ``[N, T]`` (or ``[T]``, or ``[..., N, T]``) completes; K may be 0.

        They are ordered by lane, then by time. ``rb.extend`` calls this; it also works as a collector's ``postproc``.
        """
        steps = self._read(batch)
        pending = self._pending
        if pending is not None and pending.shape[0] != steps.shape[0]:
            raise ValueError(
                f"batch: has {steps.shape[0]} lanes, earlier batches had {pending.shape[0]}; every writer needs its "
                "own NStep and the same lanes in all batches"
            )
        if pending is not None and set(pending.keys(True, True)) != set(steps.keys(True, True)):
            raise ValueError(f"batch: its keys are {_names(steps)}; must be {_names(pending)} as in earlier batches")
        if pending is None:
            pending = steps[:, :0]
        self._mark_seam(pending, steps)
        small = [key for key in _SMALL if key in steps]
        line = torch.cat([pending.select(*small), steps.select(*small)], dim=1)
        out = self._write(line, pending, steps)
        if line.shape[1]:
            self._last = line[:, -1:].clone()
        keep = min(self.num_steps - 1, line.shape[1])
        if keep > steps.shape[1]:
            self._pending = torch.cat([pending[:, pending.shape[1] + steps.shape[1] - keep :], steps], dim=1)
        else:
            self._pending = steps[:, steps.shape[1] - keep :].clone()
        return out

    def get_extra_state(self) -> dict[str, Any]:
        """Pending steps as plain tensors."""
        if self._pending is None or self._last is None:
            return {}
        parts = {"pending": self._pending, "last": self._last}
        return {name: part.clone().to_dict() for name, part in parts.items()}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Load saved pending steps; frames get new ids, because ids belong to a process."""
        self._pending, self._last, self._first_id = None, None, None
        if state:
            self._pending, self._last = (
                TensorDict(state[name], batch_size=state[name]["seam"].shape).clone() for name in ("pending", "last")
            )

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_first_id": None}

    def _read(self, batch: TensorDictBase) -> TensorDictBase:
        """The batch as ``[N, T]`` steps: what will be stored, and the tensors of ``_SMALL`` ("seam" marks a gap)."""
        if batch.ndim == 0:
            raise ValueError("batch: its shape is []; must have steps along the last dimension, such as [N, T]")
        if batch.ndim != 2:
            batch = batch.unsqueeze(0) if batch.ndim == 1 else batch.flatten(0, batch.ndim - 2)
        present = {unravel_key(key) for key in batch.keys(include_nested=True, leaves_only=True)}
        named = dict.fromkeys([*(key for key in OBSERVATION_KEYS if {key, ("next", key)} <= present), *self.extra_keys])
        ends = [key for key in named if _under_next(key) in present]
        needed: list[Key] = ["action", *named, *(("next", key) for key in ("reward", "done", "terminated"))]
        needed += ["is_greedy"] if self.cut_at_exploration else []
        missing = [key for key in needed if key not in present] if ends else ["an observation"]
        if missing:
            raise ValueError(
                f"batch: {missing} missing among {sorted(present, key=str)}; extra_keys names other "
                "observations, and cut_at_exploration needs an actor that writes is_greedy"
            )
        shape = batch.shape
        reward = batch["next", "reward"]
        if reward.numel() != shape.numel():
            raise ValueError(
                f"reward: its shape is {tuple(reward.shape)}; must have one number for each of {tuple(shape)}"
            )
        steps = TensorDict(
            {
                "first": batch.select("action", *named),
                "last": batch.get("next").select(*ends),
                "reward": reward.reshape(shape),
                "done": batch["next", "done"].reshape(shape),
                "terminated": batch["next", "terminated"].reshape(shape),
                "seam": torch.zeros(shape, dtype=torch.bool, device=reward.device),
            },
            batch_size=shape,
        )
        if "is_greedy" in present:
            steps["is_greedy"] = batch["is_greedy"].reshape(shape)
        if ("next", "truncated") in present:
            steps["truncated"] = batch["next", "truncated"].reshape(shape)
        if TRAJECTORY in present:
            steps["trajectory"] = batch[TRAJECTORY].reshape(shape)
            changes = steps["trajectory"][:, 1:] != steps["trajectory"][:, :-1]
            steps["seam"][:, :-1] = changes & ~steps["done"][:, :-1]
        return steps

    def _mark_seam(self, pending: TensorDictBase, steps: TensorDictBase) -> None:
        """Mark the lanes that do not continue from the previous batch."""
        last = self._last
        if last is None or not steps.shape[1] or "trajectory" not in steps:
            return
        is_seam = (last["trajectory"][:, 0] != steps["trajectory"][:, 0]) & ~last["done"][:, 0]
        if pending.shape[1]:
            pending["seam"][:, -1] |= is_seam
        elif self._first_id is not None:
            self._first_id = self._first_id + is_seam.cpu()

    def _write(self, line: TensorDictBase, pending: TensorDictBase, steps: TensorDictBase) -> TensorDictBase:
        n, num_lanes = self.num_steps, line.shape[0]
        is_over = line["done"] | line["seam"]
        windows = sum_windows(
            line["reward"],
            line["terminated"],
            is_over,
            line["is_greedy"] if self.cut_at_exploration else None,
            num_steps=n,
            gamma=self.gamma,
        )
        num_used = windows.num_used.flatten()
        num = windows.num_used.shape[1]
        lane = torch.arange(num_lanes, device=num_used.device).repeat_interleave(num)
        first = torch.arange(num, device=num_used.device).repeat(num_lanes)
        last = first + num_used - 1
        out = _take(pending["first"], steps["first"], lane, first)
        out["next"] = _take(pending["last"], steps["last"], lane, last)
        for name in ("done", "terminated", "truncated"):
            if name in line:
                out["next", name] = line[name][lane, last].unsqueeze(-1)
        if "is_greedy" in line:
            out["is_greedy"] = line["is_greedy"][lane, first]
        if self.end_key is not None:
            is_last_of_lane = (first == num - 1) & (num_lanes > 1)  # one lane goes on in the next batch
            out[self.end_key] = (is_over[lane, first] | is_last_of_lane).unsqueeze(-1)
        sums = windows.sums.flatten(0, 1)
        out["next", "reward"] = sums[:, -1:].clone()
        out["steps_to_next_obs"] = num_used.unsqueeze(-1)
        out["num_steps"] = num_used.unsqueeze(-1).clone()
        out["steps_to_finish"] = windows.steps_to_finish.reshape(-1, 1)
        out["step_rewards"] = sums
        out["step_discounts"] = sums.new_tensor([self.gamma ** (i + 1) for i in range(n)]).repeat(len(sums), 1)
        if self.frame_ids:
            ids = self._frame_ids(is_over, num)
            out["frame_id"] = ids[lane, first]
            out["next", "frame_id"] = ids[lane, last] + 1
        return out

    def _frame_ids(self, is_over: Tensor, num_windows: int) -> Tensor:
        """Ids ``[N, P + T]`` of the frames before each step; the last observation of an episode has an id too."""
        if self._first_id is None:
            self._first_id = _allocate_streams(is_over.shape[0])
        frames = (1 + is_over.to(torch.int64).cpu()).cumsum(1)
        ids = torch.cat([self._first_id[:, None], self._first_id[:, None] + frames], dim=1)
        self._first_id = ids[:, num_windows].clone()
        return ids[:, :-1].to(is_over.device)


_SMALL = ("reward", "done", "terminated", "truncated", "seam", "is_greedy", "trajectory")


def _take(pending: TensorDictBase, steps: TensorDictBase, lane: Tensor, time: Tensor) -> TensorDictBase:
    """Rows at (lane, time) of pending and new steps end to end, without concatenating them."""
    num_pending, num_new = pending.shape[1], steps.shape[1]
    if not len(lane):
        return steps[:, :0].flatten(0, 1)
    index = lane * num_new + (time - num_pending).clamp(min=0)
    rows = select_rows(steps.flatten(0, 1), index)
    early = (time < num_pending).nonzero().squeeze(-1)
    if len(early):
        rows[early] = pending[lane[early], time[early]]
    return rows


def select_rows(tensordict: TensorDictBase, index: Tensor) -> TensorDictBase:
    """A copy of rows of every entry; for bytes several times faster than indexing, which copies single elements."""
    rows = tensordict.apply(lambda entry: entry.index_select(0, index), batch_size=[len(index)])
    assert rows is not None
    return rows


def _under_next(key: Key) -> Key:
    return ("next", key) if isinstance(key, str) else ("next", *key)


def _names(tensordict: TensorDictBase) -> list[str]:
    return sorted(map(str, tensordict.keys(True, True)))
