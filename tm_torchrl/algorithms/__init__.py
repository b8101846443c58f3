"""Learning algorithms: what explores, remembers and learns."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tm_torchrl import lazy

if TYPE_CHECKING:
    from tm_torchrl.algorithms.learner import Learner, NonFiniteLossError

__getattr__, __dir__, __all__ = lazy.attach(__name__, __file__)
