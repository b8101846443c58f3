"""The quantile network: an encoder, an optional trunk and core, a source of fractions and a head.

Shapes: B batch, N fractions, D features, S slots of an action block, A actions; of the state of a core S numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from tm_torchrl.modules.cores.core import Core
from tm_torchrl.modules.freezing import NetworkOfParts
from tm_torchrl.modules.layers.arguments import require_count
from tm_torchrl.modules.quantiles.fractions import FractionProposal, FractionSource
from tm_torchrl.modules.quantiles.heads import FixedHead, ImplicitHead, MonotoneHead


class Quantiles(NamedTuple):
    """The output of a quantile network for a batch."""

    values: Tensor  # [B, N, A] or [B, N, S, A]
    fractions: Tensor  # [B, N]
    features: Tensor  # [B, D], what the head reads
    edges: Tensor | None = None  # [B, N + 1], of proposed fractions
    entropy: Tensor | None = None  # [B], of proposed fractions
    state: Tensor | None = None  # [B, S] after the step, of a network with memory

    def mean(self) -> Tensor:
        """The expectation over fractions, ``[B, A]`` or ``[B, S, A]``."""
        return mean_over_fractions(self.values, self.edges)


def mean_over_fractions(values: Tensor, edges: Tensor | None = None) -> Tensor:
    """The mean over N (dimension 1); with edges each value is weighted by the distance between its two edges.

    Examples:
        >>> import torch
        >>> values, edges = torch.tensor([[[1.0], [5.0]]]), torch.tensor([[0.0, 0.75, 1.0]])
        >>> mean_over_fractions(values), mean_over_fractions(values, edges)
        (tensor([[3.]]), tensor([[2.]]))
    """
    if edges is None:
        return values.float().mean(1)
    widths = edges.diff(dim=-1)
    return (values.float() * widths.view(*widths.shape, *(1,) * (values.ndim - 2))).sum(1)


class QuantileNetwork(NetworkOfParts):
    """QR-DQN, IQN, FQF and non-crossing networks: one class with a source and a head.

    ==============  ============================  ==============
    network         source                        head
    ==============  ============================  ==============
    QR-DQN          none (the head has its own)   FixedHead
    IQN             StratifiedFractions, Uniform  ImplicitHead
    FQF             FractionProposal              ImplicitHead
    non-crossing    none, or any of IQN's         MonotoneHead
    ==============  ============================  ==============

    A call returns the values with the fractions last, ``[B, A, N]``. Losses and actors call ``quantiles``, which keeps
    the fractions next to the batch and returns what else they need.

    Args:
        encoder: Turns observations into features ``[B, D]``. Its ``num_dims`` is the number of dimensions of one
            observation, or a list with that of each key.
        head: Turns features and fractions into values.
        source: Draws fractions when none are given; ``None`` for a head that has its own.
        num_fractions: N, the number of fractions drawn when none are given.
        num_slots: S, the length of an action block; ``None`` for single actions.
        trunk: Turns features into features, between encoder and head; ``None`` for none.
        core: The memory between trunk and head; ``None`` for none. The network then takes the core's state ``[B, S]``
            behind the observations, and acts step by step; losses scan sequences.

    Examples:
        >>> import torch
        >>> from tm_torchrl.modules import Decoder, FixedHead
        >>> network = QuantileNetwork(nn.Linear(4, 16), FixedHead(Decoder(16, 2, num_outputs=8)))
        >>> network(torch.zeros(5, 4)).shape
        torch.Size([5, 2, 8])
    """

    def __init__(
        self,
        encoder: nn.Module,
        head: FixedHead | ImplicitHead | MonotoneHead | nn.Module,
        *,
        source: FractionSource | FractionProposal | None = None,
        num_fractions: int = 32,
        num_slots: int | None = None,
        trunk: nn.Module | None = None,
        core: Core | None = None,
    ) -> None:
        super().__init__()
        if source is None and not hasattr(head, "fractions"):
            raise ValueError(
                f"source=None: a {type(head).__name__} has no fractions of its own; give a source such as "
                "StratifiedFractions()"
            )
        if source is not None and not head.takes_fractions:
            raise ValueError(
                f"source={type(source).__name__}: a {type(head).__name__} has fixed fractions; leave the source out"
            )
        of_decoder = getattr(getattr(head, "decoder", None), "num_slots", num_slots)
        if of_decoder != num_slots:
            raise ValueError(f"num_slots={num_slots}: must be {of_decoder}, as in the head's decoder")
        self.encoder = encoder
        num_dims = getattr(encoder, "num_dims", None)
        self._num_dims: int | None = num_dims[0] if isinstance(num_dims, list) else num_dims  # of the first observation
        self.head: Any = head
        self.source = source
        self.num_fractions = num_fractions
        if source is None or isinstance(source, FractionProposal):
            self.num_fractions = int((head if source is None else source).num_fractions)  # type: ignore[arg-type]
        require_count(self.num_fractions, argument="num_fractions")
        self.num_slots = num_slots
        self.trunk = trunk
        self.core = core

    @property
    def reads_time(self) -> bool:
        """Whether a module of the network reads sequences ``[B, T, ...]``, and says so with ``reads_time = True``."""
        return any(getattr(module, "reads_time", False) for module in self.modules() if module is not self)

    @property
    def takes_fractions(self) -> bool:
        """Whether the values depend on the fractions that are given."""
        return bool(self.head.takes_fractions)

    def flattened(
        self, observations: Sequence[Tensor], *, batch_size: Sequence[int] = ()
    ) -> tuple[torch.Size, Sequence[Tensor]]:
        """The shape B of a batch of observations ``[*B, ...]``, and the observations ``[prod(B), ...]``.

        Args:
            observations: In the order of the encoder's arguments.
            batch_size: B for an encoder without ``num_dims``; if empty, its observation is a vector.
        """
        first = observations[0]
        num_leading = len(batch_size)
        if self._num_dims is not None or num_leading == 0:
            num_leading = max(first.ndim - (self._num_dims or 1), len(batch_size))  # embeddings have fewer than images
        shape = first.shape[:num_leading]
        if num_leading == 1:
            return shape, observations
        return shape, [each.reshape(-1, *each.shape[num_leading:]) for each in observations]

    def quantiles(self, *observations: Tensor, fractions: Tensor | None = None) -> Quantiles:
        """Values at the given fractions ``[B, N]``, or at fractions from the network's source."""
        if self.core is None:
            return self.quantiles_of(self.features(*observations), fractions=fractions)
        *seen, state = observations
        if not seen or state.shape[-1] != self.core.state_size:
            raise ValueError(
                f"observations: the last of {len(observations)} must be the state [B, {self.core.state_size}] of the "
                "core; zeros begin an episode"
            )
        features, state = self.core.step(self.features(*seen), state)
        return self.quantiles_of(features, fractions=fractions)._replace(state=state)

    def features(self, *observations: Tensor) -> Tensor:
        """The output of encoder and trunk, ``[B, D]``."""
        features: Tensor = self.encoder(*observations)
        if features.ndim > 2:  # an encoder that reads time keeps it
            features = features.flatten(0, -2)
        return features if self.trunk is None else self.trunk(features)

    def quantiles_of(self, features: Tensor, *, fractions: Tensor | None = None) -> Quantiles:
        """The head's values for features ``[B, D]``, which are those of the core if there is one."""
        if isinstance(self.source, FractionProposal) and fractions is None:
            proposal = self.source(features.detach())
            values = self.head(features, proposal.fractions.detach())
            return Quantiles(values, proposal.fractions, features, proposal.edges, proposal.entropy)
        if fractions is None and self.source is not None:
            fractions = self.source(features.shape[:1], self.num_fractions, device=features.device)
        elif fractions is None or not self.takes_fractions:
            own: Tensor = self.head.fractions
            fractions = own.expand(features.shape[0], -1)
        return Quantiles(self.head(features, fractions), fractions, features)

    def forward(self, *observations: Tensor, fractions: Tensor | None = None) -> Tensor:
        """Values with the fractions last: ``[B, A, N]``, ``[B, S, A, N]`` for blocks."""
        return self.quantiles(*observations, fractions=fractions).values.movedim(1, -1)
