"""GRU and LSTM as cores.

Shapes: B batch, T steps, D inputs, H outputs, S numbers of the state.
"""

from __future__ import annotations

import itertools
from typing import Any

import torch
from torch import Tensor, nn

from tm_torchrl.modules.cores.core import Core
from tm_torchrl.modules.layers.arguments import require_count


class _Recurrent(Core):
    """Scans with torch's recurrent functions, whole where no episode begins, and otherwise part by part."""

    num_states: int
    layer_class: type[nn.GRU] | type[nn.LSTM]

    def __init__(self, num_inputs: int, *, hidden_size: int = 256) -> None:
        super().__init__()
        require_count(num_inputs, argument="num_inputs")
        require_count(hidden_size, argument="hidden_size")
        self.layer = self.layer_class(num_inputs, hidden_size, batch_first=True)
        self.num_features = hidden_size
        self.state_size = self.num_states * hidden_size

    def scan(self, x_BTD: Tensor, state_BS: Tensor, is_init_BT: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The outputs ``[B, T, H]`` and the state after the last step."""
        with torch.autocast(x_BTD.device.type, enabled=False):
            x_BTD, state_BS = x_BTD.float(), state_BS.float()
            if is_init_BT is None:
                return self._run(x_BTD, state_BS)
            begins = is_init_BT.any(0).nonzero().squeeze(1).tolist()
            bounds = sorted({0, *begins, x_BTD.shape[1]})
            parts = []
            for start, stop in itertools.pairwise(bounds):
                state_BS = state_BS.masked_fill(is_init_BT[:, start, None], 0.0)
                y_BTH, state_BS = self._run(x_BTD[:, start:stop], state_BS)
                parts.append(y_BTH)
            return (parts[0] if len(parts) == 1 else torch.cat(parts, 1)), state_BS

    def _weights(self) -> list[Tensor]:
        """By name at each use: a loss exchanges the parameters, of which ``nn.RNNBase`` keeps a list of its own."""
        layer: Any = self.layer
        return [layer.weight_ih_l0, layer.weight_hh_l0, layer.bias_ih_l0, layer.bias_hh_l0]

    def _run(self, x_BTD: Tensor, state_BS: Tensor) -> tuple[Tensor, Tensor]:
        raise TypeError(f"{type(self).__name__} must define _run(x_BTD, state_BS)")


class GRU(_Recurrent):
    """A gated recurrent unit (Cho et al. 2014).

    Args:
        num_inputs: D.
        hidden_size: H, which is also the size of the state.

    Examples:
        >>> core = GRU(8, hidden_size=16)
        >>> y, state = core.scan(torch.zeros(5, 10, 8), torch.zeros(5, core.state_size))
        >>> y.shape, state.shape
        (torch.Size([5, 10, 16]), torch.Size([5, 16]))
    """

    num_states = 1
    layer_class = nn.GRU

    def _run(self, x_BTD: Tensor, state_BS: Tensor) -> tuple[Tensor, Tensor]:
        run: Any = torch.gru
        y_BTH, state = run(x_BTD, state_BS.unsqueeze(0), self._weights(), True, 1, 0.0, False, False, True)
        return y_BTH, state.squeeze(0)


class LSTM(_Recurrent):
    """A long short-term memory (Hochreiter and Schmidhuber 1997); the core of R2D2.

    Args:
        num_inputs: D.
        hidden_size: H; the state has twice as many numbers.

    Examples:
        >>> core = LSTM(8, hidden_size=16)
        >>> y, state = core.step(torch.zeros(5, 8), torch.zeros(5, core.state_size))
        >>> y.shape, state.shape
        (torch.Size([5, 16]), torch.Size([5, 32]))
    """

    num_states = 2
    layer_class = nn.LSTM

    def _run(self, x_BTD: Tensor, state_BS: Tensor) -> tuple[Tensor, Tensor]:
        run: Any = torch.lstm
        before = [part.contiguous().unsqueeze(0) for part in state_BS.chunk(2, -1)]
        y_BTH, hidden, cell = run(x_BTD, before, self._weights(), True, 1, 0.0, False, False, True)
        return y_BTH, torch.cat([hidden, cell], -1).squeeze(0)
