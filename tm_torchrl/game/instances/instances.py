"""Several game instances: where each listens, what starts it, and a reconnecting client for each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tm_torchrl.game.client import Client
from tm_torchrl.game.instances.protocol import Launcher
from tm_torchrl.game.instances.reconnecting_client import ReconnectingClient

_MAX_INSTANCES = 256  # limits of the system on open files come soon after
_ONE_GAME_HINT = (
    "This is the additional instance for evaluations; to train and evaluate in a single game, use game.num=1 "
    "game.has_evaluation_instance=false collector=single"
)


@dataclass(frozen=True)
class Instances:
    """Game instances to train in, with a worker process for each, and one more for evaluations.

    Args:
        client: Client whose settings all clients get.
        num: Number of instances to train in.
        first_address: Port of the first instance; the others use the ports after it. With TMInterface 1.x it is the
            first channel's name, such as ``TMInterface0``. With 0 a launcher lets the system choose.
        launcher: Starts the instances; ``None`` if they are already running.
        has_evaluation_instance: Whether there is an additional, last instance for evaluations. Without it evaluations
            use the only instance, between two batches, which needs ``num=1`` and ``collector=single``.
        pauses_s: Pauses before further attempts when a call fails.
        relaunch_after: Number of failures in a row after which an instance is restarted.

    Examples:
        >>> from tm_torchrl.game import TMInterface2Client
        >>> instances = Instances(TMInterface2Client(), num=3, first_address=8500)
        >>> instances.client_of(2).address, instances.evaluation_instance
        (8502, 3)
    """

    client: Client
    num: int = 1
    first_address: int | str = 8478
    launcher: Launcher | None = None
    has_evaluation_instance: bool = True
    pauses_s: Sequence[float] = (0.1, 1.0, 2.0, 4.0, 8.0)
    relaunch_after: int = 2

    def __post_init__(self) -> None:
        if not 1 <= self.num <= _MAX_INSTANCES:
            raise ValueError(f"num={self.num}: must be 1 to {_MAX_INSTANCES} instances, each with a worker process")
        if self.first_address == 0 and self.launcher is None:
            raise ValueError("first_address=0: must be the first game's port where launcher is None")
        if isinstance(self.first_address, str) and not self.first_address[-1:].isdigit():
            raise ValueError(f"first_address={self.first_address!r}: must be a port, or a name that ends in a number")
        if not self.has_evaluation_instance and self.num > 1:
            raise ValueError(
                f"num={self.num}, has_evaluation_instance=false: num must be 1 without an instance for evaluations"
            )
        if any(not pause_s >= 0 for pause_s in self.pauses_s):
            raise ValueError(f"pauses_s={list(self.pauses_s)}: must be seconds of at least 0")
        for instance in (0, self.evaluation_instance):
            try:
                self.client_of(instance)
            except ValueError as error:
                raise ValueError(f"first_address={self.first_address!r}: instance {instance}: {error}") from None

    @property
    def evaluation_instance(self) -> int:
        """Number of the instance that evaluations use."""
        return self.num if self.has_evaluation_instance else 0

    @property
    def longest_recovery_s(self) -> float:
        """The longest time that a call can take, with failed attempts."""
        return self.client_of(0).longest_recovery_s

    def client_of(self, instance: int) -> ReconnectingClient:
        """A client of one instance, not connected."""
        address = self._address_of(instance)
        return ReconnectingClient(
            self.client.at(address),
            address=address,
            instance=instance,
            launcher=self.launcher,
            pauses_s=self.pauses_s,
            relaunch_after=self.relaunch_after,
            hint=_ONE_GAME_HINT if self.has_evaluation_instance and instance == self.num else "",
        )

    def _address_of(self, instance: int) -> int | str:
        if isinstance(self.first_address, str):
            stem = self.first_address.rstrip("0123456789")
            return f"{stem}{int(self.first_address[len(stem) :]) + instance}"
        return self.first_address and self.first_address + instance
