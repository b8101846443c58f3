"""TorchRL's own DQN loss with the interface of the quantile losses."""

from __future__ import annotations

from typing import Any

from tensordict import NestedKey
from tensordict.nn import TensorDictModuleBase
from torchrl.data import TensorSpec
from torchrl.objectives import DQNLoss as _TorchRLDQNLoss
from torchrl.objectives import ValueEstimators

from tm_torchrl.modules.cores.core import Core
from tm_torchrl.modules.layers.noisy import is_noisy
from tm_torchrl.objectives.quantile_loss import quantile_actor
from tm_torchrl.objectives.value_estimators import (
    DoubleEstimator,
    GreedyEstimator,
    MunchausenEstimator,
    SoftEstimator,
)

NAMES = {
    GreedyEstimator: "greedy",
    DoubleEstimator: "double",
    SoftEstimator: "soft",
    MunchausenEstimator: "munchausen",
}


class DQNLoss(_TorchRLDQNLoss):
    """TorchRL's ``DQNLoss`` (Mnih et al. 2015) with the interface of the quantile losses, for comparisons with them.

    Its targets have the same names: ``loss.make_value_estimator("double", gamma=0.99)``. The value of an action is the
    mean over the network's quantiles, of which one is enough (``MLPQRNetwork`` with ``num_fractions=1``). A network
    that masks actions masks those of the targets too.

    Args:
        value_network: A ``QuantileActor``, or any TensorDict module that writes ``action_value`` and ``action``.
        action_space: ``"categorical"``, ``"one_hot"`` or a spec; ``None`` for the network's own.
        loss_function: The loss of a difference: ``"l2"``, ``"l1"`` or ``"smooth_l1"``.
        delay_value: Whether there is a target network apart from the online network.
        double_dqn: TorchRL's name for the target ``"double"``.
        reduction: ``"mean"``, ``"sum"`` or ``"none"``.
        use_prioritized_weights: Whether ``priority_weight`` weighs the samples; ``"auto"`` uses it if present.

    Examples:
        >>> from torchrl.data import Categorical
        >>> from tm_torchrl.modules import MLPQRNetwork, QuantileActor
        >>> actor = QuantileActor(MLPQRNetwork(4, 2, num_fractions=1), spec=Categorical(2))
        >>> DQNLoss(actor).make_value_estimator("double", gamma=0.9).double_dqn
        True
    """

    def __init__(
        self,
        value_network: TensorDictModuleBase,
        *,
        action_space: str | TensorSpec | None = None,
        loss_function: str = "l2",
        delay_value: bool = True,
        double_dqn: bool = False,
        reduction: str | None = "mean",
        use_prioritized_weights: str | bool = "auto",
    ) -> None:
        if is_noisy(value_network):
            raise ValueError(
                "value_network: it has noisy layers, whose noise TorchRL's DQNLoss switches off; use linear ones"
            )
        if any(isinstance(module, Core) for module in value_network.modules()):
            raise ValueError("value_network: it has a core, which TorchRL's DQNLoss cannot unroll; use QRDQNLoss")
        if loss_function not in ("l2", "l1", "smooth_l1"):
            raise ValueError(f"loss_function={loss_function!r}: must be 'l2', 'l1' or 'smooth_l1'")
        if action_space is None:
            action_space = getattr(quantile_actor(value_network), "action_space", None)
        super().__init__(
            value_network,
            loss_function=loss_function,
            delay_value=delay_value,
            double_dqn=double_dqn,
            action_space=action_space,
            reduction=reduction,
            use_prioritized_weights=use_prioritized_weights,
        )

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Groups for an optimiser: parameters, and ``lr_scale``, which multiplies their learning rate."""
        return [{"params": list(self.parameters()), "lr_scale": 1.0}]

    def make_value_estimator(self, value_type: Any = None, **hyperparams: Any) -> DQNLoss:
        """Choose the target: ``"greedy"`` or ``"double"``, or one of TorchRL's own.

        It is made at the first use with TorchRL's defaults if none was chosen, so that ``set_keys`` may come first.
        """
        name = NAMES.get(value_type, value_type)
        if isinstance(name, str) and name.lower() in ("soft", "munchausen"):
            raise ValueError(f"estimator={name!r}: TorchRL's DQNLoss has no such target; use 'greedy' or 'double'")
        if name in ("greedy", "double"):
            if name == "double" and not self.delay_value:
                raise ValueError("delay_value=False: double targets need a target network; use True, or 'greedy'")
            self.double_dqn = name == "double"
            value_type = ValueEstimators.TD0
        super().make_value_estimator(value_type, **hyperparams)
        return self

    def state_dict(self, *arguments: Any, **options: Any) -> Any:
        """The state of any module; it does not depend on whether the loss was used."""
        assert self.value_estimator is not None  # which makes it
        return super().state_dict(*arguments, **options)

    def _load_from_state_dict(self, *arguments: Any) -> None:
        assert self.value_estimator is not None
        super()._load_from_state_dict(*arguments)

    @property
    def in_keys(self) -> list[NestedKey]:
        """The keys of observations, action and outcome."""
        return list(super().in_keys)
