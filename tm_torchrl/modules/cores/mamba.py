"""Mamba as a core: selective state spaces (Gu and Dao 2023), with a first state and resets inside the scan.

Published implementations lack one or both: mamba-ssm needs CUDA, mambapy begins each scan with a state of zeros.

Shapes: B batch, T steps, D inputs, H features, E channels inside, N numbers of a channel's state, K the convolution's
width, R the rank of the step size, S numbers of the whole state.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tm_torchrl.modules.cores.core import Core
from tm_torchrl.modules.layers.arguments import require_count

STEP_SIZES = (1e-3, 1e-1)  # of the first weights: Gu and Dao 2023, section 3.6


def selective_scan(decay_BTEN: Tensor, input_BTEN: Tensor, state_BEN: Tensor) -> Tensor:
    """The states ``[B, T, E, N]`` of ``h[t] = decay[t] * h[t - 1] + input[t]``; an episode begins where decay is 0.

    One step after the other: on a CPU that is faster than a parallel scan, which moves more memory.

    Examples:
        >>> decay = torch.tensor([0.5, 0.0, 1.0]).view(1, 3, 1, 1)
        >>> selective_scan(decay, torch.ones(1, 3, 1, 1), torch.full((1, 1, 1), 4.0)).flatten()
        tensor([3., 1., 2.])
    """
    states = []
    for decay_BEN, input_BEN in zip(decay_BTEN.unbind(1), input_BTEN.unbind(1), strict=True):
        state_BEN = torch.addcmul(input_BEN, decay_BEN, state_BEN)
        states.append(state_BEN)
    return torch.stack(states, 1)


def same_episode(is_init_BT: Tensor | None, like_BT: Tensor, num_back: int) -> list[Tensor]:
    """For 0, 1, ... ``num_back`` steps back, whether that step belongs to the same episode, ``[B, T]``.

    Steps before the first one count as the same episode, since the state that was given stands for them.

    Examples:
        >>> is_init = torch.tensor([[False, False, True, False]])
        >>> for same in same_episode(is_init, is_init, 2): print(same.int().tolist())
        [[1, 1, 1, 1]]
        [[1, 1, 0, 1]]
        [[1, 1, 0, 0]]
    """
    found = [torch.ones_like(like_BT, dtype=torch.bool)]
    for back in range(num_back):
        same = found[-1]
        if is_init_BT is not None:
            same = same & ~F.pad(is_init_BT, (back, 0))[:, : same.shape[1]]
        found.append(same)
    return found


class Mamba(Core):
    """One Mamba block around a residual connection: ``y = x + block(norm(x))``.

    Args:
        num_inputs: D; a linear layer comes first where H is another number.
        hidden_size: H.
        state_dim: N.
        expand: E as a multiple of H.
        conv_width: K.

    Examples:
        >>> core = Mamba(8, hidden_size=16)
        >>> y, state = core.scan(torch.zeros(5, 10, 8), torch.zeros(5, core.state_size))
        >>> y.shape, state.shape  # E = 32 channels with 3 inputs of the convolution and 16 numbers each
        (torch.Size([5, 10, 16]), torch.Size([5, 608]))
    """

    def __init__(
        self, num_inputs: int, *, hidden_size: int = 128, state_dim: int = 16, expand: int = 2, conv_width: int = 4
    ) -> None:
        super().__init__()
        arguments = {"num_inputs": num_inputs, "hidden_size": hidden_size, "state_dim": state_dim}
        for name, value in {**arguments, "expand": expand, "conv_width": conv_width}.items():
            require_count(value, argument=name)
        self.num_features, self.state_dim, self.conv_width = hidden_size, state_dim, conv_width
        self.num_channels = channels = expand * hidden_size
        self.rank = math.ceil(hidden_size / 16)  # Gu and Dao's code
        self.state_size = channels * (conv_width - 1 + state_dim)
        self.enter = nn.Identity() if num_inputs == hidden_size else nn.Linear(num_inputs, hidden_size)
        self.norm = nn.LayerNorm(hidden_size)
        self.split = nn.Linear(hidden_size, 2 * channels, bias=False)
        self.conv = nn.Parameter(torch.empty(channels, conv_width).uniform_(-1, 1) / math.sqrt(conv_width))
        self.conv_bias = nn.Parameter(torch.zeros(channels))
        self.select = nn.Linear(channels, self.rank + 2 * state_dim, bias=False)
        self.step_size = nn.Linear(self.rank, channels)
        self.log_decay = nn.Parameter(torch.arange(1.0, state_dim + 1).log().repeat(channels, 1))
        self.skip = nn.Parameter(torch.ones(channels))
        self.leave = nn.Linear(channels, hidden_size, bias=False)
        with torch.no_grad():
            nn.init.uniform_(self.step_size.weight, -(self.rank**-0.5), self.rank**-0.5)
            low, high = (math.log(size) for size in STEP_SIZES)
            size = torch.empty(channels).uniform_(low, high).exp()
            self.step_size.bias.copy_(size + torch.log(-torch.expm1(-size)))  # the inverse of softplus

    def scan(self, x_BTD: Tensor, state_BS: Tensor, is_init_BT: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The outputs ``[B, T, H]`` and the state after the last step."""
        with torch.autocast(x_BTD.device.type, enabled=False):
            x_BTH = self.enter(x_BTD.float())
            size = self.num_channels * (self.conv_width - 1)
            before_BKE = state_BS[:, :size].float().reshape(-1, self.conv_width - 1, self.num_channels)
            state_BEN = state_BS[:, size:].float().reshape(-1, self.num_channels, self.state_dim)
            u_BTE, gate_BTE = self.split(self.norm(x_BTH)).chunk(2, -1)
            u_BTE, before_BKE = self._convolve(u_BTE, before_BKE, is_init_BT)
            y_BTE, state_BEN = self._scan_states(u_BTE, state_BEN, is_init_BT)
            y_BTH = x_BTH + self.leave(y_BTE * F.silu(gate_BTE))
        return y_BTH, torch.cat([before_BKE.flatten(1), state_BEN.flatten(1)], 1)

    def _convolve(self, u_BTE: Tensor, before_BKE: Tensor, is_init_BT: Tensor | None) -> tuple[Tensor, Tensor]:
        """A convolution over each channel's present and last inputs of the episode, and the last K - 1 inputs."""
        num, num_back = u_BTE.shape[1], self.conv_width - 1
        line = torch.cat([before_BKE, u_BTE], 1)
        same = same_episode(is_init_BT, u_BTE[..., 0], num_back)
        total = self.conv_bias.expand_as(u_BTE)
        for back in range(num_back + 1):
            seen_BTE = line[:, num_back - back : num_back - back + num]
            if is_init_BT is not None:
                seen_BTE = seen_BTE * same[back].unsqueeze(-1)
            total = total + seen_BTE * self.conv[:, num_back - back]
        after_BKE = line[:, num:]  # the input of the last step is the last one
        if is_init_BT is not None and num_back:
            of_last = torch.stack([same[back][:, -1] for back in reversed(range(num_back))], 1)
            after_BKE = after_BKE * of_last.unsqueeze(-1)
        return F.silu(total), after_BKE

    def _scan_states(self, u_BTE: Tensor, state_BEN: Tensor, is_init_BT: Tensor | None) -> tuple[Tensor, Tensor]:
        rank_BTR, in_BTN, out_BTN = self.select(u_BTE).split([self.rank, self.state_dim, self.state_dim], -1)
        size_BTE = F.softplus(self.step_size(rank_BTR))
        decay_BTEN = torch.exp(size_BTE.unsqueeze(-1) * -self.log_decay.exp())
        if is_init_BT is not None:
            decay_BTEN = decay_BTEN * ~is_init_BT[..., None, None]
        states_BTEN = selective_scan(decay_BTEN, (size_BTE * u_BTE).unsqueeze(-1) * in_BTN.unsqueeze(2), state_BEN)
        y_BTE = (states_BTEN * out_BTN.unsqueeze(2)).sum(-1) + self.skip * u_BTE
        return y_BTE, states_BTEN[:, -1]
