"""Features for each slot of an action block, mixed between slots.

Shapes: R rows (of a batch and its fractions), D features, S slots, M the size of a slot's features.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tm_torchrl.modules.layers.activations import outputs_before
from tm_torchrl.modules.layers.arguments import chosen, require_count
from tm_torchrl.modules.layers.dense import dense
from tm_torchrl.modules.layers.style import DEFAULT_STYLE, LayerStyle

EMBEDDING_DEVIATION = 0.02  # first deviation of learned positions: Devlin et al. 2019 (BERT)
NUM_HEADS = 2
WIDTH = 3  # kernel of the convolution: a slot and its two neighbours


class SlotMixer(nn.Module):
    """Features for each slot of a block: the state's features, projected, plus the slot's embedding, then mixed.

    ``slots = activation(project(features) + embedding)``, and the result is ``slots + mix(slots)``:

    =============  =============================================================
    kind           what a slot sees
    =============  =============================================================
    ``embedding``  itself: nothing is mixed, slots differ by their embedding
    ``mlp``        itself: two dense layers of its own
    ``conv``       itself and its two neighbours: one convolution
    ``gru``        itself and the slots before it: a recurrent cell
    ``attention``  all slots: one layer of self-attention with two heads
    =============  =============================================================

    The mixing layers are plain even where the head's are noisy.

    Args:
        num_features: D.
        num_slots: S, 2 or more.
        kind: One of the kinds above.
        size: M.
        style: Activation, normalisation (before the first activation), kind of the projection's layer, and first
            weights; the recurrent cell keeps torch's own initialisation.

    Examples:
        >>> SlotMixer(16, 5, kind="gru")(torch.zeros(7, 16)).shape
        torch.Size([7, 5, 64])
    """

    def __init__(
        self,
        num_features: int,
        num_slots: int,
        *,
        kind: str,
        size: int = 64,
        style: LayerStyle = DEFAULT_STYLE,
    ) -> None:
        super().__init__()
        mix = chosen(kind, MIXERS, argument="kind")
        if num_slots < 2:
            raise ValueError(f"num_slots={num_slots}: must be at least 2 to mix slots")
        require_count(size, argument="size")
        self.kind = kind
        self.size = size
        self.activation = style.make_activation()
        inner = outputs_before(self.activation, size)
        self.project = style.make_linear(num_features, inner)
        style.initialize(self.project)
        self.embedding = nn.Parameter(EMBEDDING_DEVIATION * torch.randn(num_slots, inner))
        self.norm = nn.LayerNorm(inner) if style.layer_norm else None
        self.mix = None if mix is None else mix(num_slots, size, replace(style, layer_norm=False, linear=nn.Linear))

    def forward(self, features_RD: Tensor) -> Tensor:
        """``[R, S, M]``."""
        slots = self.project(features_RD).unsqueeze(1) + self.embedding
        if self.norm is not None:
            slots = self.norm(slots)
        slots = self.activation(slots)
        return slots if self.mix is None else slots + self.mix(slots)


class _OwnLayers(nn.Module):
    """Two dense layers for each slot."""

    def __init__(self, num_slots: int, size: int, style: LayerStyle) -> None:
        super().__init__()
        sizes = [size, size, size]
        self.layers = nn.ModuleList(dense(sizes, output_gain=1.0, style=style) for _ in range(num_slots))

    def forward(self, slots_RSM: Tensor) -> Tensor:
        """``[R, S, M]``."""
        return torch.stack([layer(slots_RSM[:, i]) for i, layer in enumerate(self.layers)], 1)


class _Convolution(nn.Module):
    """One convolution over the slots, padded with zeros."""

    def __init__(self, num_slots: int, size: int, style: LayerStyle) -> None:
        super().__init__()
        self.activation = style.make_activation(in_place=False)  # its input is a view
        self.convolution = nn.Conv1d(size, outputs_before(self.activation, size), WIDTH, padding=WIDTH // 2)
        style.initialize(self.convolution)

    def forward(self, slots_RSM: Tensor) -> Tensor:
        """``[R, S, M]``."""
        mixed: Tensor = self.activation(self.convolution(slots_RSM.transpose(1, 2)).transpose(1, 2))
        return mixed


class _Recurrent(nn.Module):
    """A recurrent cell over the slots in the order of time.

    ``nn.GRU`` keeps a list of its weights, so it would not see the weights that losses swap in.
    """

    def __init__(self, num_slots: int, size: int, style: LayerStyle) -> None:
        super().__init__()
        self.cell = nn.GRUCell(size, size)

    def forward(self, slots_RSM: Tensor) -> Tensor:
        """``[R, S, M]``."""
        hidden, states = torch.zeros_like(slots_RSM[:, 0]), []
        for slot in slots_RSM.unbind(1):
            hidden = self.cell(slot, hidden)
            states.append(hidden)
        return torch.stack(states, 1)


class _Attention(nn.Module):
    """Self-attention over the slots, without a bias: attention cancels that of the keys."""

    def __init__(self, num_slots: int, size: int, style: LayerStyle) -> None:
        super().__init__()
        if size % NUM_HEADS:
            raise ValueError(f"size={size}: must be a multiple of {NUM_HEADS}, the number of attention heads")
        self.seen = nn.Linear(size, 3 * size, bias=False)  # queries, keys, values
        self.output = nn.Linear(size, size)
        style.initialize(self.seen, 1.0)
        style.initialize(self.output, 1.0)

    def forward(self, slots_RSM: Tensor) -> Tensor:
        """``[R, S, M]``."""
        heads = torch.unflatten(self.seen(slots_RSM), -1, (3, NUM_HEADS, -1))  # [R, S, 3, heads, M / heads]
        queries, keys, values = heads.permute(2, 0, 3, 1, 4).unbind(0)
        seen = F.scaled_dot_product_attention(queries, keys, values)
        output: Tensor = self.output(seen.transpose(1, 2).flatten(2))
        return output


Mixing = Callable[[int, int, LayerStyle], nn.Module]
MIXERS: dict[str, Mixing | None] = {
    "embedding": None,
    "mlp": _OwnLayers,
    "conv": _Convolution,
    "gru": _Recurrent,
    "attention": _Attention,
}
