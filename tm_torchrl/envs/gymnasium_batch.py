"""``GymnasiumBatch``: several copies of a gymnasium environment in one process, as a batched TorchRL environment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium
import numpy as np
import torch
from tensordict import TensorDict, TensorDictBase
from torchrl.data import Binary, Bounded, Categorical, Composite, Unbounded
from torchrl.envs import EnvBase


class GymnasiumBatch(EnvBase):
    """Copies of a gymnasium environment with discrete actions, stepped one after the other.

    TorchRL's ``GymEnv`` uses gymnasium's vector environments, whose reset rules differ between versions. Here a copy is
    only reset when ``reset`` asks for it, and an episode's last observation is the real one.

    Keys: ``observation`` float32 ``[N, F]``, or ``pixels`` uint8 ``[N, C, H, W]`` for image observations; ``action``
    int64 ``[N]``.

    Args:
        name: A gymnasium id; ``"package:id"`` imports the package first.
        num_envs: Number of copies.
        options: Keyword arguments of ``gymnasium.make``.
        seed: Seeds the first copy; the others use the following numbers. By default all are seeded from entropy.
        device: The device of all tensors.

    Examples:
        >>> env = GymnasiumBatch("CartPole-v1", num_envs=3)
        >>> env.rollout(2)["observation"].shape
        torch.Size([3, 2, 4])
    """

    batch_locked = True

    def __init__(
        self,
        name: str,
        *,
        num_envs: int = 1,
        options: Mapping[str, Any] | None = None,
        seed: int | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        if num_envs < 1:
            raise ValueError(f"num_envs={num_envs}: must be at least 1")
        try:
            self.copies = [gymnasium.make(name, **(options or {})) for _ in range(num_envs)]
        except (gymnasium.error.Error, ModuleNotFoundError, TypeError, ValueError) as error:
            raise ValueError(f"name={name!r}: gymnasium cannot make this environment: {error}") from error
        super().__init__(device=torch.device(device), batch_size=(num_envs,))
        self.name = name
        self._seeds: list[int | None] = [None if seed is None else seed + i for i in range(num_envs)]
        self._make_specs(num_envs)

    def _make_specs(self, num: int) -> None:
        shown, actions = self.copies[0].observation_space, self.copies[0].action_space
        if not isinstance(actions, gymnasium.spaces.Discrete) or actions.start != 0:
            raise ValueError(f"name={self.name!r}: its action space is {actions}; must be Discrete(n)")
        if not isinstance(shown, gymnasium.spaces.Box) or len(shown.shape) not in (1, 2, 3):
            raise ValueError(f"name={self.name!r}: its observation space is {shown}; must be a Box of 1 to 3 axes")
        device = self.device
        self.has_images = shown.dtype == np.uint8 and len(shown.shape) >= 2
        self._key = "pixels" if self.has_images else "observation"
        self._blank = np.stack([self._present(np.zeros(shown.shape, shown.dtype))] * num)
        spec = (
            Bounded(0, 255, shape=self._blank.shape, dtype=torch.uint8, device=device)
            if self.has_images
            else Unbounded(self._blank.shape, device=device)
        )
        self.observation_spec = Composite({self._key: spec}, shape=(num,))
        self.action_spec = Categorical(int(actions.n), shape=(num,), dtype=torch.int64, device=device)
        self.reward_spec = Unbounded((num, 1), device=device)
        flag = Binary(shape=(num, 1), dtype=torch.bool, device=device)
        self.full_done_spec = Composite(
            done=flag.clone(), terminated=flag.clone(), truncated=flag.clone(), shape=(num,)
        )

    def _present(self, seen: np.ndarray) -> np.ndarray:
        """Images with channels first, any other observation as one float32 vector."""
        if not self.has_images:
            return np.asarray(seen, np.float32).reshape(-1)
        return np.ascontiguousarray(np.moveaxis(seen, -1, 0)) if seen.ndim == 3 else seen[None]

    def _reset(self, tensordict: TensorDictBase | None = None, **kwargs: object) -> TensorDictBase:
        num = self.batch_size[0]
        mask = None if tensordict is None else tensordict.get("_reset", None)
        chosen = [True] * num if mask is None else mask.view(-1).tolist()
        before = None if tensordict is None else tensordict.get(self._key, None)
        shown = (self._blank if before is None else before.numpy(force=True)).copy()
        for i, (copy, is_reset) in enumerate(zip(self.copies, chosen, strict=True)):
            if is_reset:
                seen, _ = copy.reset(seed=self._seeds[i])
                self._seeds[i] = None
                shown[i] = self._present(seen)
        return self._tensors(shown, np.zeros((num, 1), bool), np.zeros((num, 1), bool))

    def _step(self, tensordict: TensorDictBase) -> TensorDictBase:
        shown = np.empty_like(self._blank)
        rewards = np.empty((len(shown), 1), np.float32)
        terminated, truncated = np.empty((2, len(shown), 1), bool)
        for i, (copy, action) in enumerate(zip(self.copies, tensordict["action"].tolist(), strict=True)):
            seen, rewards[i], terminated[i], truncated[i], _ = copy.step(action)
            shown[i] = self._present(seen)
        return self._tensors(shown, terminated, truncated, reward=rewards)

    def _tensors(
        self, shown: np.ndarray, terminated: np.ndarray, truncated: np.ndarray, **others: np.ndarray
    ) -> TensorDictBase:
        flags = {"done": terminated | truncated, "terminated": terminated, "truncated": truncated}
        arrays = {self._key: shown, **others, **flags}
        tensors = {key: torch.from_numpy(array) for key, array in arrays.items()}
        return TensorDict(tensors, batch_size=self.batch_size, device=self.device)

    def _set_seed(self, seed: int | None) -> None:
        first = int(torch.randint(2**31 - 1, ())) if seed is None else seed
        self._seeds = [first + i for i in range(len(self.copies))]

    def seed_copies(self, seeds: Sequence[int | None]) -> None:
        """Seed the next reset of each copy, except where there is ``None``."""
        self._seeds = [before if seed is None else seed for before, seed in zip(self._seeds, seeds, strict=True)]

    def close(self, *, raise_if_closed: bool = True) -> None:
        """Close all copies."""
        for copy in self.copies:
            copy.close()
        super().close(raise_if_closed=raise_if_closed)
