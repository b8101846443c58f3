"""What a group does at the end of its collector."""

from __future__ import annotations

from tm_torchrl.collectors import worker_group as group


class Sender:
    is_shut_down = False

    def shutdown(self) -> None:
        self.is_shut_down = True


class FailedCollector:
    """As TorchRL's after its workers ended while they started: its shutdown forgets the weight senders."""

    def __init__(self) -> None:
        self._weight_sync_schemes = {"policy": Sender()}

    def shutdown(self) -> None:
        raise RuntimeError("workers are gone")


def test_weight_senders_are_ended_with_their_collector() -> None:
    """Left to the end of the interpreter they wait there for ever, for a thread that cannot start any more."""
    collector = FailedCollector()
    group._shut_down(collector, num_threads=1)
    assert collector._weight_sync_schemes["policy"].is_shut_down


def test_a_collector_without_weight_senders_is_shut_down_too() -> None:
    for senders in (None, {}):
        collector = FailedCollector()
        collector._weight_sync_schemes = senders  # type: ignore[assignment]
        group._shut_down(collector, num_threads=1)
