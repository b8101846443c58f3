"""Between a state's features and the slots of an action block: what each slot sees of its neighbours.

Shapes: R rows (of a batch and its fractions), D features, S slots, M the size of a slot's features.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tm_torchrl.modules.layers.activations import Activation, leaky_relu, make_activation, outputs_before
from tm_torchrl.modules.layers.choices import chosen
from tm_torchrl.modules.layers.dense import Initialization, LinearLayer, dense, linear_layer
from tm_torchrl.modules.layers.initialization import HIDDEN_GAIN, orthogonal_

EMBEDDING_DEVIATION = 0.02  # of learned positions: Devlin et al. 2019 (BERT)
NUM_HEADS = 2
WIDTH = 3  # of the convolution: a slot and its two neighbours


class SlotMixer(nn.Module):
    """Features of each slot of a block: the state's, projected, plus the slot's embedding; then mixed over slots.

    ``slots = activation(project(features) + embedding)``, and ``slots + mix(slots)``. What mixes is a choice:

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
        kind: what mixes.
        size: M.
        activation: makes one, or its name.
        layer_norm: normalise before the first activation.
        linear: makes the projection, or its name.
        initialization: of the weights; the recurrent cell has torch's own.

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
        activation: Activation = leaky_relu,
        layer_norm: bool = False,
        linear: LinearLayer = nn.Linear,
        initialization: Initialization | None = orthogonal_,
    ) -> None:
        super().__init__()
        mix = chosen(kind, MIXERS, argument="kind")
        if num_slots < 2:
            raise ValueError(f"num_slots={num_slots}: one slot has no neighbours; 2 or more are needed to mix them")
        if size < 1:
            raise ValueError(f"size={size}: at least 1 is needed")
        self.kind = kind
        self.size = size
        self.activation = make_activation(activation)
        inner = outputs_before(self.activation, size)
        self.project = linear_layer(linear)(num_features, inner)
        if initialization is not None:
            initialization(self.project, HIDDEN_GAIN)
        self.embedding = nn.Parameter(EMBEDDING_DEVIATION * torch.randn(num_slots, inner))
        self.norm = nn.LayerNorm(inner) if layer_norm else None
        self.mix = None if mix is None else mix(num_slots, size, activation, initialization)

    def forward(self, features_RD: Tensor) -> Tensor:
        """``[R, S, M]``."""
        slots = self.project(features_RD).unsqueeze(1) + self.embedding
        if self.norm is not None:
            slots = self.norm(slots)
        slots = self.activation(slots)
        return slots if self.mix is None else slots + self.mix(slots)


class _OwnLayers(nn.Module):
    """Two dense layers for each slot."""

    def __init__(
        self, num_slots: int, size: int, activation: Activation, initialization: Initialization | None
    ) -> None:
        super().__init__()
        sizes = [size, size, size]
        self.layers = nn.ModuleList(
            dense(sizes, output_gain=1.0, activation=activation, initialization=initialization)
            for _ in range(num_slots)
        )

    def forward(self, slots_RSM: Tensor) -> Tensor:
        """``[R, S, M]``."""
        return torch.stack([layer(slots_RSM[:, i]) for i, layer in enumerate(self.layers)], 1)


class _Convolution(nn.Module):
    """One convolution over the slots; beyond the ends lie zeros."""

    def __init__(
        self, num_slots: int, size: int, activation: Activation, initialization: Initialization | None
    ) -> None:
        super().__init__()
        self.activation = make_activation(activation, in_place=False)  # of a view
        self.convolution = nn.Conv1d(size, outputs_before(self.activation, size), WIDTH, padding=WIDTH // 2)
        if initialization is not None:
            initialization(self.convolution, HIDDEN_GAIN)

    def forward(self, slots_RSM: Tensor) -> Tensor:
        """``[R, S, M]``."""
        mixed: Tensor = self.activation(self.convolution(slots_RSM.transpose(1, 2)).transpose(1, 2))
        return mixed


class _Recurrent(nn.Module):
    """A cell that goes over the slots in the order of time.

    ``nn.GRU`` would keep a list of its own weights, past the ones that losses swap in.
    """

    def __init__(
        self, num_slots: int, size: int, activation: Activation, initialization: Initialization | None
    ) -> None:
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
    """Self-attention over the slots; without a bias of the keys, which attention cancels."""

    def __init__(
        self, num_slots: int, size: int, activation: Activation, initialization: Initialization | None
    ) -> None:
        super().__init__()
        if size % NUM_HEADS:
            raise ValueError(f"size={size}: attention has {NUM_HEADS} heads, so an even size is needed")
        self.seen = nn.Linear(size, 3 * size, bias=False)  # queries, keys, values
        self.output = nn.Linear(size, size)
        if initialization is not None:
            initialization(self.seen, 1.0)
            initialization(self.output, 1.0)

    def forward(self, slots_RSM: Tensor) -> Tensor:
        """``[R, S, M]``."""
        heads = torch.unflatten(self.seen(slots_RSM), -1, (3, NUM_HEADS, -1))  # [R, S, 3, heads, M / heads]
        queries, keys, values = heads.permute(2, 0, 3, 1, 4).unbind(0)
        seen = F.scaled_dot_product_attention(queries, keys, values)
        output: Tensor = self.output(seen.transpose(1, 2).flatten(2))
        return output


Mixing = Callable[[int, int, Activation, Initialization | None], nn.Module]
MIXERS: dict[str, Mixing | None] = {
    "embedding": None,
    "mlp": _OwnLayers,
    "conv": _Convolution,
    "gru": _Recurrent,
    "attention": _Attention,
}
