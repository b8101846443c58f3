"""The protocol of a core: a recurrent layer whose state is one vector.

Shapes: B batch, T steps, D inputs, H outputs, S numbers of the state.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Core(nn.Module):
    """A recurrent layer behind the encoder, which acts by ``step`` and learns by ``scan``; both agree.

    A new core defines ``scan`` alone. The state is one vector, whatever it holds, so that collectors, memories and
    saved runs carry it without knowing the core. A new episode begins with a state of zeros. Subclasses compute in
    float32, also under autocast: small errors would add up over the steps.

    Attributes:
        num_features: H.
        state_size: S.
    """

    num_features: int
    state_size: int

    def step(self, x_BD: Tensor, state_BS: Tensor, is_init_B: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The output ``[B, H]`` and the next state of one step.

        Args:
            x_BD: Inputs.
            state_BS: The state before the step.
            is_init_B: Where an episode begins with this step, so that the state before it is of no account.
        """
        is_init_BT = None if is_init_B is None else is_init_B.unsqueeze(1)
        y_BTH, state_BS = self.scan(x_BD.unsqueeze(1), state_BS, is_init_BT)
        return y_BTH.squeeze(1), state_BS

    def scan(self, x_BTD: Tensor, state_BS: Tensor, is_init_BT: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The outputs ``[B, T, H]`` and the state after the last step of sequences.

        Args:
            x_BTD: Inputs.
            state_BS: The state before the first step.
            is_init_BT: Where episodes begin.
        """
        raise TypeError(f"{type(self).__name__} must define scan(x_BTD, state_BS, is_init_BT)")

    @torch.no_grad()
    def states_before(self, x_TD: Tensor) -> Tensor:
        """The state before each step of one episode, ``[T, S]``.

        Args:
            x_TD: Inputs.
        """
        states = [x_TD.new_zeros(1, self.state_size, dtype=torch.float32)]
        for x_1D in x_TD.unsqueeze(1).unbind()[:-1]:
            states.append(self.step(x_1D, states[-1])[1])
        return torch.cat(states)
