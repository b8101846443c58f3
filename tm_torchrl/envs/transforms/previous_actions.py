"""The latest actions as part of the observation."""

from __future__ import annotations

import torch
from tensordict import NestedKey, TensorDictBase
from torch import Tensor
from torchrl.data import Categorical, OneHot, TensorSpec, Unbounded
from torchrl.envs.transforms import Transform


class PreviousActions(Transform):
    """Appends the latest discrete actions, oldest first, to a float observation.

    It is for other environments, since ``TrackManiaEnv`` has ``num_previous_actions``. The indices are written too, as
    int64 ``[*B, H]``, -1 where there was no action yet; they are kept in the tensordict, so that resets and saved
    states include them. Insert it before ``ActionBlock``, so that it sees every single action.

    Args:
        num_previous_actions: How many actions H to remember.
        codes: What to append for each action, ``[num_actions, K]``, such as the keys that are pressed; one-hot by
            default.
        first_action: The action that counts as taken before an episode; zeros are appended if there is none.
        observation_key: Key of the float observation ``[*B, F]``, which becomes ``[*B, F + H * K]``.
        out_key: Key of the indices.

    Examples:
        >>> from torchrl.envs import GymEnv, TransformedEnv
        >>> env = TransformedEnv(GymEnv("CartPole-v1", categorical_action_encoding=True), PreviousActions(2))
        >>> env.reset()["observation"].shape  # 4 floats + 2 actions, each one of 2
        torch.Size([8])
    """

    def __init__(
        self,
        num_previous_actions: int,
        *,
        codes: Tensor | None = None,
        first_action: int | None = None,
        observation_key: NestedKey = "observation",
        out_key: NestedKey = "previous_actions",
    ) -> None:
        if num_previous_actions < 1:
            raise ValueError(f"num_previous_actions={num_previous_actions}: must be at least 1")
        if codes is not None and codes.ndim != 2:
            raise ValueError(f"codes has shape {tuple(codes.shape)}; expected [num_actions, K]")
        super().__init__(in_keys=[observation_key], out_keys=[observation_key, out_key])
        self.num_previous_actions = num_previous_actions
        self.first_action = first_action
        self.observation_key = observation_key
        self.out_key = out_key
        self.codes = codes
        self._codes_table: Tensor | None = None
        self._is_one_hot = False

    def _table(self) -> Tensor:
        """The environment's codes, with a last row of zeros for index -1."""
        if self._codes_table is not None:
            return self._codes_table
        if self.parent is None:
            raise RuntimeError("PreviousActions must be part of a TransformedEnv")
        spec = self.parent.base_env.action_spec
        if self.parent.action_spec != spec:
            raise ValueError("a transform before PreviousActions changes the actions: insert PreviousActions before it")
        if not isinstance(spec, (Categorical, OneHot)):
            raise ValueError(f"PreviousActions needs discrete actions; the environment has {type(spec).__name__}")
        num_actions = int(spec.space.n)
        if self.codes is not None and len(self.codes) != num_actions:
            raise ValueError(f"codes has {len(self.codes)} rows, but the environment has {num_actions} actions")
        if self.first_action is not None and not 0 <= self.first_action < num_actions:
            raise ValueError(f"first_action={self.first_action}: the environment's actions are 0 to {num_actions - 1}")
        self._is_one_hot = isinstance(spec, OneHot)
        codes = torch.eye(num_actions) if self.codes is None else self.codes.to(torch.float32)
        self._codes_table = torch.cat((codes, codes.new_zeros(1, codes.shape[1])))
        return self._codes_table

    def _append(self, tensordict: TensorDictBase, history: Tensor) -> TensorDictBase:
        observation = tensordict.get(self.observation_key)
        table = self._table().to(device=observation.device, dtype=observation.dtype)
        tensordict.set(self.observation_key, torch.cat((observation, table[history].flatten(-2)), -1))
        return tensordict.set(self.out_key, history)

    def _reset(self, tensordict: TensorDictBase, tensordict_reset: TensorDictBase) -> TensorDictBase:
        # Rows that are not reset keep their actions: TorchRL restores the old entries wherever `_reset` is False.
        first = -1 if self.first_action is None else self.first_action
        observation = tensordict_reset.get(self.observation_key)
        shape = (*tensordict_reset.batch_size, self.num_previous_actions)
        return self._append(tensordict_reset, torch.full(shape, first, dtype=torch.int64, device=observation.device))

    def _step(self, tensordict: TensorDictBase, next_tensordict: TensorDictBase) -> TensorDictBase:
        history = tensordict.get(self.out_key, None)
        if history is None:
            raise KeyError(f"PreviousActions: no {self.out_key!r} in the step's input; call env.reset() first")
        action = tensordict.get(self.parent.action_key).to(torch.int64)
        newest = (action.argmax(-1) if self._is_one_hot else action).reshape(*history.shape[:-1], 1)
        return self._append(next_tensordict, torch.cat((history[..., 1:], newest), -1))

    def forward(self, tensordict: TensorDictBase) -> TensorDictBase:
        """Always raises: a sampled transition does not include the actions before it."""
        raise RuntimeError("PreviousActions must be part of a TransformedEnv")

    def transform_observation_spec(self, observation_spec: TensorSpec) -> TensorSpec:
        """The observation grows by the codes, and the indices are added."""
        if self.observation_key not in observation_spec.keys(True, True):
            found = sorted(map(str, observation_spec.keys(True, True)))
            raise KeyError(
                f"PreviousActions: no {self.observation_key!r} in the environment, which has {', '.join(found)}"
            )
        old = observation_spec[self.observation_key]
        batch = observation_spec.shape
        num_coded = self.num_previous_actions * self._table().shape[1]
        observation_spec[self.observation_key] = Unbounded(
            (*old.shape[:-1], old.shape[-1] + num_coded), dtype=old.dtype, device=old.device
        )
        observation_spec[self.out_key] = Unbounded(
            (*batch, self.num_previous_actions), dtype=torch.int64, device=old.device
        )
        return observation_spec
