"""Collectors: batches of steps from one process or from supervised workers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tm_torchrl import lazy

if TYPE_CHECKING:
    from tm_torchrl.collectors.clock import Clock
    from tm_torchrl.collectors.make import make_collector
    from tm_torchrl.collectors.on_ray.collector import RayCollector, make_ray_collector
    from tm_torchrl.collectors.supervised import SupervisedCollector, WorkerError

__getattr__, __dir__, __all__ = lazy.attach(__name__, __file__)
