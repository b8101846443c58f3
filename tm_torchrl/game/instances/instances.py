"""Several game instances: where each listens, who starts it, and a steady client of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tm_torchrl.game.client import Client
from tm_torchrl.game.instances.protocol import Launcher
from tm_torchrl.game.instances.reconnecting_client import SteadyClient

_MOST = 256  # more processes than one machine plays with; a system's limits on files come soon after
_ALONE = (
    "This is the instance that evaluations drive in, one more than those to train in; a single game does both with "
    "game.num=1 game.has_evaluation_instance=false collector=single"
)


@dataclass(frozen=True)
class Instances:
    """Game instances that are trained in, one worker process for each, and one more to be evaluated in.

    Args:
        client: the pattern that clients are made after.
        num: instances to train in.
        first_address: port of the first, the others' follow; or with TMInterface 1.x the first channel's name, such as
            ``TMInterface0``. 0 leaves the choice to the system, where a launcher starts them.
        launcher: starts them; ``None`` where they run already.
        has_evaluation_instance: whether there is one more, the last, for evaluations. Without it they are driven in the
            only instance, between two batches, which needs ``num=1`` and ``collector=single``.
        pauses_s: before further attempts, when a connection fails.
        relaunch_after: failures in a row after which an instance is started anew.

    Examples:
        >>> from tm_torchrl.game import TMInterface2Client
        >>> instances = Instances(TMInterface2Client(), num=3, first_address=8500)
        >>> instances.client_of(2).address, instances.home
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
        if not 1 <= self.num <= _MOST:
            raise ValueError(f"num={self.num}: 1 to {_MOST} instances to train in wanted, each with its worker process")
        if self.first_address == 0 and self.launcher is None:
            raise ValueError("first_address=0: where nobody starts the games, the port of the first is needed")
        if isinstance(self.first_address, str) and not self.first_address[-1:].isdigit():
            raise ValueError(f"first_address={self.first_address!r}: a port, or a name that ends in a number, wanted")
        if not self.has_evaluation_instance and self.num > 1:
            raise ValueError(
                f"num={self.num}, has_evaluation_instance=false: which of them would be evaluated in? Give one more"
            )
        if any(not pause_s >= 0 for pause_s in self.pauses_s):
            raise ValueError(f"pauses_s={list(self.pauses_s)}: seconds, at least 0, wanted")
        for instance in (0, self.home):
            try:
                self.client_of(instance)
            except ValueError as error:
                raise ValueError(f"first_address={self.first_address!r}: of instance {instance}: {error}") from None

    @property
    def home(self) -> int:
        """Number of the instance that evaluations drive in."""
        return self.num if self.has_evaluation_instance else 0

    @property
    def longest_recovery_s(self) -> float:
        """How long a call may take when every attempt but the last fails as late as it can."""
        return self.client_of(0).longest_recovery_s

    def client_of(self, instance: int) -> SteadyClient:
        """A client of one of them, not connected."""
        address = self._address_of(instance)
        return SteadyClient(
            self.client.at(address),
            address=address,
            instance=instance,
            launcher=self.launcher,
            pauses_s=self.pauses_s,
            relaunch_after=self.relaunch_after,
            advice=_ALONE if self.has_evaluation_instance and instance == self.num else "",
        )

    def _address_of(self, instance: int) -> int | str:
        if isinstance(self.first_address, str):
            stem = self.first_address.rstrip("0123456789")
            return f"{stem}{int(self.first_address[len(stem) :]) + instance}"
        return self.first_address and self.first_address + instance
