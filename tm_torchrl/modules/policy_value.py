"""Networks with a policy and a value: over the same encoders as the quantile networks, and as TensorDict modules.

Shapes: B batch, T steps, D features, S slots of an action block, A actions; of the state of a core M numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from tensordict import NestedKey, TensorDictBase, unravel_key
from tensordict.nn import TensorDictModuleBase
from torch import Tensor, nn
from torch.distributions import Categorical, Independent
from torchrl.envs import ExplorationType
from torchrl.envs.utils import exploration_type

from tm_torchrl.modules.carried import memory_before
from tm_torchrl.modules.cores.core import Core
from tm_torchrl.modules.encoders.floats import Normalize
from tm_torchrl.modules.freezing import NetworkOfParts
from tm_torchrl.modules.layers.activations import Activation, leaky_relu
from tm_torchrl.modules.layers.style import Initialization, LayerStyle, LinearLayer
from tm_torchrl.modules.network_options import FusionMaker, ModuleMaker, Observations
from tm_torchrl.modules.quantiles.decoder import Decoder, Mixer, Stream, value_layers

POLICY_SCALE = 0.01  # of the first weights of the policy's output: all actions begin equally likely (CleanRL, SB3)


class PolicyValueNetwork(NetworkOfParts):
    """Logits of a policy and the value of a state, from features of floats, images or both.

    ``encoder``, ``trunk`` and ``core`` are those of the quantile networks, under the same names, so that their weights
    can be moved between the two. Policy and value have a hidden layer each of their own. With a core the last
    observation is its state ``[*B, M]`` before the step, zeros at the start of an episode.

    Args:
        num_inputs: F, the number of floats; ``None`` for images alone.
        num_actions: A.
        hidden_sizes: The layers of the encoder of floats; without images the last one is D, the number of features.
        head_size: The size of the hidden layers of policy and value; ``None`` for single layers.
        num_slots: S, the length of an action block; ``None`` for single actions.
        mixer: Mixes the slots of the policy: ``SlotMixer``, or one of its kinds by name; ``None`` for none.
        image: Makes the encoder of images, which are the first observation; ``None`` for floats alone.
        image_shape: ``(channels, height, width)``.
        trunk: Makes the module between encoder and heads from D, such as ``ResidualTrunk``; ``None`` for none.
        fusion: ``"post_concat"``, ``"unified"``, or a function that makes one: images and floats in one body; ``None``
            for encoders side by side.
        normalize: The first layer over the floats; ``None`` for none.
        layer_norm: Whether hidden layers are normalised before their activation.
        linear: Must be ``"linear"``: a policy explores by its samples and needs no noisy layers.
        core: Makes the memory between trunk and heads from D: ``"gru"``, ``"lstm"``, ``"mamba"``, or a function that
            makes a ``Core``; ``None`` for none.
        noisy_value: Must be ``False``; an option of networks with noisy layers.
        value_per_slot: Must be ``False``; an option of quantile networks.
        advantage_stream: What is in front of the policy's output layer: ``"mlp"``, ``"transformer"``, or a function
            that makes a ``TokenStream``.
        value_stream: The same for the value.
        frozen: Names of parts that keep their weights: ``"vision"``, ``"floats"``, ``"fusion"``, ...; see ``freeze``.
        activation: ``"leaky_relu"``, ``"relu"``, ``"gelu"``, ``"crelu"``, or a function that makes an activation.
        initialization: ``"orthogonal"``, or a function of a layer and its gain; ``None`` keeps torch's first weights.

    Examples:
        >>> logits, value = PolicyValueNetwork(4, 2)(torch.zeros(5, 4))
        >>> logits.shape, value.shape
        (torch.Size([5, 2]), torch.Size([5, 1]))
    """

    def __init__(
        self,
        num_inputs: int | None,
        num_actions: int,
        *,
        hidden_sizes: Sequence[int] = (256, 256),
        head_size: int | None = 256,
        num_slots: int | None = None,
        mixer: Mixer | None = None,
        image: ModuleMaker | None = None,
        image_shape: Sequence[int] | None = None,
        trunk: ModuleMaker | None = None,
        core: Callable[..., Core] | str | None = None,
        fusion: FusionMaker | str | None = None,
        normalize: Normalize | None = None,
        layer_norm: bool = False,
        linear: LinearLayer = nn.Linear,
        noisy_value: bool = False,
        value_per_slot: bool = False,
        advantage_stream: Stream = "mlp",
        value_stream: Stream = "mlp",
        frozen: Sequence[str] = (),
        activation: Activation = leaky_relu,
        initialization: Initialization | None = "orthogonal",
    ) -> None:
        super().__init__()
        style = LayerStyle(activation, layer_norm, linear, initialization)
        if style.linear_class is not nn.Linear:
            raise ValueError(f"linear={linear!r}: a policy explores by its samples; use linear='linear'")
        for name, is_set in (("noisy_value", noisy_value), ("value_per_slot", value_per_slot)):
            if is_set:
                raise ValueError(f"{name}=True: is for quantile networks; a policy has one value, so leave it at False")
        observations = Observations(num_inputs, hidden_sizes, normalize, image, image_shape, trunk, core, fusion)
        pixels = observations.make_image_encoder(style)
        fused = observations.make_fusion(pixels, style)
        num_features = observations.count_features(pixels) if fused is None else fused.num_features
        self.encoder = observations.make_encoder(pixels, style) if fused is None else fused
        self.trunk = observations.make_trunk(num_features, style)
        self.core = observations.make_core(num_features)
        num_features = num_features if self.core is None else self.core.num_features
        num_dims = getattr(self.encoder, "num_dims", 1)
        self._num_dims: int = num_dims[0] if isinstance(num_dims, list) else num_dims  # of the first observation
        self.num_slots = num_slots
        self.policy = Decoder(
            num_features,
            num_actions,
            num_slots=num_slots,
            hidden_size=head_size,
            style=style,
            mixer=mixer,
            advantage_stream=advantage_stream,
        )
        if initialization is not None:
            output: Any = self.policy.advantage[-1]
            with torch.no_grad():
                output.weight.mul_(POLICY_SCALE)
        self.value = value_layers(num_features, 1, hidden_size=head_size, style=style, stream=value_stream)
        self.freeze(frozen)

    def features(self, *observations: Tensor) -> Tensor:
        """The output of encoder and trunk, ``[*B, D]``, from observations ``[*B, ...]`` in their order."""
        shape = self.batch_shape(observations[0])
        if len(shape) != 1:
            observations = tuple(each.reshape(-1, *each.shape[len(shape) :]) for each in observations)
        features_BD: Tensor = self.encoder(*observations)
        if self.trunk is not None:
            features_BD = self.trunk(features_BD)
        return features_BD if len(shape) == 1 else features_BD.reshape(*shape, -1)

    def step(self, *observations: Tensor) -> tuple[Tensor, Tensor | None]:
        """What the heads read, ``[*B, D]``, and the state ``[*B, M]`` after the step of a network with memory."""
        if self.core is None:
            return self.features(*observations), None
        *seen, state = observations
        features = self.features(*seen)
        found, state = self.core.step(features.reshape(-1, features.shape[-1]), state.reshape(-1, state.shape[-1]))
        shape = features.shape[:-1]
        return found.reshape(*shape, -1), state.reshape(*shape, -1)

    def scan(self, *observations: Tensor, is_init_BT: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Logits ``[B, T, A]`` and values ``[B, T, 1]`` of sequences, by a network with memory.

        Args:
            observations: ``[B, T, ...]``, and the state ``[B, M]`` before the first step.
            is_init_BT: Where episodes begin.
        """
        assert self.core is not None
        *seen, state = observations
        features, _ = self.core.scan(self.features(*seen), state, is_init_BT)
        return self.policy(features), self.value.precise(features)

    def logits(self, *observations: Tensor) -> Tensor:
        """``[*B, A]``, ``[*B, S, A]`` for blocks."""
        return self.policy(self.step(*observations)[0])

    def values(self, *observations: Tensor) -> Tensor:
        """``[*B, 1]``."""
        return self.value.precise(self.step(*observations)[0])

    def forward(self, *observations: Tensor) -> tuple[Tensor, Tensor]:
        """Logits ``[*B, A]`` (``[*B, S, A]`` for blocks) and values ``[*B, 1]``."""
        features, _ = self.step(*observations)
        return self.policy(features), self.value.precise(features)

    def batch_shape(self, observation: Tensor) -> torch.Size:
        """B of the first observation ``[*B, ...]``."""
        return observation.shape[: observation.ndim - self._num_dims]


def action_distribution(logits: Tensor, *, num_slots: int | None = None) -> Categorical | Independent:
    """The distribution of an action; for a block log-probabilities and entropies are summed over its slots.

    Args:
        logits: ``[*B, A]``, ``[*B, S, A]`` for blocks.
        num_slots: S; ``None`` for single actions.

    Examples:
        >>> block = action_distribution(torch.zeros(3, 5, 4), num_slots=5)  # each of 5 slots is one of 4 actions
        >>> bool(block.entropy().allclose(5 * torch.tensor(4.0).log()))
        True
    """
    categorical = Categorical(logits=logits, validate_args=False)
    return categorical if num_slots is None else Independent(categorical, 1, validate_args=False)


class PolicyValueModule(TensorDictModuleBase):
    """Reads observations, writes ``logits`` and ``state_value``: actor and critic of TorchRL's PPO losses.

    Args:
        network: The network to evaluate.
        in_keys: The keys of the observations, in the order of the encoder's arguments.

    Examples:
        >>> from tensordict import TensorDict
        >>> module = PolicyValueModule(PolicyValueNetwork(4, 2))
        >>> module(TensorDict({"observation": torch.zeros(5, 4)}, [5]))["state_value"].shape
        torch.Size([5, 1])
    """

    def __init__(self, network: PolicyValueNetwork, *, in_keys: Sequence[NestedKey] = ("observation",)) -> None:
        super().__init__()
        if network.core is not None:
            raise ValueError(
                "network: has memory, which TorchRL's PPO losses would not unroll; use this package's PPOLoss"
            )
        self.network = network
        self.in_keys = list(in_keys)
        self.out_keys = ["logits", "state_value"]

    def forward(self, tensordict: TensorDictBase) -> TensorDictBase:
        """Write logits and values of a tensordict of any batch size."""
        logits, value = self.network(*self._seen(tensordict))
        return tensordict.set("logits", logits).set("state_value", value)

    def get_dist(self, tensordict: TensorDictBase) -> Categorical | Independent:
        """The distribution of the action, which losses ask an actor for."""
        return action_distribution(self.network.logits(*self._seen(tensordict)), num_slots=self.network.num_slots)

    def _seen(self, tensordict: TensorDictBase) -> list[Tensor]:
        return [tensordict.get(key) for key in self.in_keys]


class PolicyActor(TensorDictModuleBase):
    """Acts greedily: the most probable action of a ``PolicyValueNetwork``.

    Args:
        network: The network.
        in_keys: The keys of the observations, in the order of the encoder's arguments.
        memory_key: The key of the state ``[*B, M]`` of a network with memory, which is read, zeros if absent or where
            ``is_init`` is True; ``("next", memory_key)`` is written. Both are carried from step to step.

    Examples:
        >>> from tensordict import TensorDict
        >>> PolicyActor(PolicyValueNetwork(4, 2))(TensorDict({"observation": torch.zeros(5, 4)}, [5]))["action"].shape
        torch.Size([5])
    """

    def __init__(
        self,
        network: PolicyValueNetwork,
        *,
        in_keys: Sequence[NestedKey] = ("observation",),
        memory_key: NestedKey = "memory",
    ) -> None:
        super().__init__()
        self.network = network
        self.in_keys = list(in_keys)
        self.out_keys: list[NestedKey] = ["action"]
        self.memory_key = memory_key
        self.carried_keys: list[NestedKey] = []
        if network.core is not None:
            self.carried_keys = [memory_key]
            self.in_keys.append(memory_key)
            self.out_keys += [memory_key, unravel_key(("next", memory_key))]

    def forward(self, tensordict: TensorDictBase) -> TensorDictBase:
        """Write the action."""
        return tensordict.set("action", self.logits(tensordict).argmax(-1))

    def logits(self, tensordict: TensorDictBase) -> Tensor:
        """The logits ``[*B, A]`` (``[*B, S, A]`` for blocks); the states of a network with memory are written."""
        network: Any = self.network
        seen = [tensordict.get(key) for key in self.in_keys if key not in self.carried_keys]
        if network.core is None:
            found: Tensor = network.logits(*seen)
            return found
        shape, key = network.batch_shape(seen[0]), self.memory_key
        before = memory_before(network.core, tensordict, shape, key=key, device=seen[0].device).reshape(*shape, -1)
        features, after = network.step(*seen, before)
        tensordict.set(key, before).set(unravel_key(("next", key)), after)
        logits: Tensor = network.policy(features)
        return logits

    @torch.no_grad()
    def with_memory(self, tensordict: TensorDictBase) -> TensorDictBase:
        """An episode ``[T]`` with the state before each of its steps, if the network has memory."""
        network: Any = self.network
        core = network.core
        if core is None:
            return tensordict
        seen = tensordict.to(next(core.parameters()).device)
        features = network.features(*(seen.get(key) for key in self.in_keys if key not in self.carried_keys))
        return tensordict.copy().set(self.memory_key, core.states_before(features))

    def greedy(self, *observations: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """The greedy actions for observations ``[*B, ...]`` in the order of ``in_keys``: plain tensors, for export.

        With memory: the actions and the next states.
        """
        features, state = self.network.step(*observations)
        action: Tensor = self.network.policy(features).argmax(-1)
        return action if state is None else (action, state)


class SamplingPolicy(TensorDictModuleBase):
    """Acts by sampling from the policy; writes ``action`` and its log-probability ``action_log_prob``.

    It acts greedily where exploration is deterministic.

    Args:
        actor: Acts greedily; its network is used.

    Examples:
        >>> from tensordict import TensorDict
        >>> policy = SamplingPolicy(PolicyActor(PolicyValueNetwork(4, 2)))
        >>> policy(TensorDict({"observation": torch.zeros(5, 4)}, [5]))["action_log_prob"].shape
        torch.Size([5])
    """

    def __init__(self, actor: PolicyActor) -> None:
        super().__init__()
        self.actor = actor
        self.in_keys = actor.in_keys
        self.out_keys = [*actor.out_keys, "action_log_prob"]

    @torch.no_grad()
    def forward(self, tensordict: TensorDictBase) -> TensorDictBase:
        """Write an action and its log-probability, summed over the slots of a block."""
        actor: Any = self.actor
        log_probs = actor.logits(tensordict).log_softmax(-1)
        if exploration_type() is ExplorationType.RANDOM:
            # The first of exponential waiting times with rates p is an action with probability p (the Gumbel trick).
            action = (log_probs - torch.empty_like(log_probs).exponential_().log()).argmax(-1)
        else:
            action = log_probs.argmax(-1)
        chosen = log_probs.gather(-1, action.unsqueeze(-1)).squeeze(-1)
        if actor.network.num_slots is not None:
            chosen = chosen.sum(-1)
        return tensordict.set("action", action).set("action_log_prob", chosen)
