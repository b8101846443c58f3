"""Trained agents: act, evaluate, explain, export."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tm_torchrl import lazy

if TYPE_CHECKING:
    from tm_torchrl.agents.agent import Agent, load_agent, make_agent

__getattr__, __dir__, __all__ = lazy.attach(__name__, __file__)
