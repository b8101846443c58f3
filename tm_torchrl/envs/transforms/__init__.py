"""Transforms for TorchRL environments and replay buffers."""

from tm_torchrl.envs.transforms.action_block import ActionBlock
from tm_torchrl.envs.transforms.float_normalizer import FloatNormalizer
from tm_torchrl.envs.transforms.previous_actions import PreviousActions
from tm_torchrl.envs.transforms.random_shift import RandomShift

__all__ = ["ActionBlock", "FloatNormalizer", "PreviousActions", "RandomShift"]
