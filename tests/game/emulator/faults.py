"""An emulator that fails as games do, at random messages, to test how a client handles it."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Sequence
from enum import Enum
from typing import Any

from tm_torchrl.game.emulator.protocol2 import Protocol2Server
from tm_torchrl.game.emulator.server import ClientGone
from tm_torchrl.game.tmi2.messages import INT, TWO_INTS, Message
from tm_torchrl.tracks import Track


class Fault(Enum):
    FREEZE = "no answer until the client is gone"
    SLOW = "an answer shortly before it would be too late"
    DROP = "the connection is closed"
    HALF = "half of a message, then the connection is closed"
    GARBAGE = "bytes that mean nothing"
    WRONG_LENGTH = "a state whose length is announced wrongly"
    SHORT_PICTURE = "a picture of fewer pixels than were asked for"
    CLOCK_JUMP = "a run step far ahead of its time"
    MENUS = "the game shows its menus when the next client comes"
    NO_FINISH = "a finish without its message"
    NO_CHECKPOINT = "a checkpoint without its message"


PATIENCE = 4  # after this many times ``every``, a fault whose message does not come is replaced by another
_AT_MESSAGE = {
    Fault.SHORT_PICTURE: Message.FRAME,
    Fault.CLOCK_JUMP: Message.RUN_STEP,
    Fault.NO_FINISH: Message.CHECKPOINT,
    Fault.NO_CHECKPOINT: Message.CHECKPOINT,
}


class FaultyServer(Protocol2Server):
    """``Protocol2Server`` with faults.

    Args:
        track: Track to race on.
        seed: Seeds the draws.
        every: Average number of messages between two faults.
        kinds: Kinds of faults; all by default.
        freeze_s: How long ``FREEZE`` lasts; ``SLOW`` lasts a tenth of it.
        options: Further arguments of ``Protocol2Server``.
    """

    def __init__(
        self,
        track: Track,
        *,
        seed: int,
        every: float = 50.0,
        kinds: Sequence[Fault] = tuple(Fault),
        freeze_s: float = 0.5,
        **options: Any,
    ) -> None:
        super().__init__(track, **options)
        self.every = every
        self.kinds = tuple(kinds)
        self.freeze_s = freeze_s
        self.num_faults: Counter[Fault] = Counter()
        self._random = random.Random(seed)
        self._next = self._draw()
        self._left = self._wait()

    def _draw(self) -> Fault:
        return self._random.choice(self.kinds)

    def _wait(self) -> int:
        return 1 + int(self._random.expovariate(1.0 / self.every))

    def _is_time_for(self, message: Message, content: bytes) -> bool:
        """Whether the fault that is due fits this message."""
        self._left -= 1
        if self._left < -PATIENCE * self.every:
            self._next = self._draw()
        fault = self._next
        if self._left > 0 or _AT_MESSAGE.get(fault, message) != message:
            return False
        if fault in (Fault.NO_FINISH, Fault.NO_CHECKPOINT):
            count, total = TWO_INTS.unpack(content)
            return (count == total) == (fault is Fault.NO_FINISH)
        return message not in (Message.ON_CONNECT, Message.LAP)

    def _say(self, message: Message, content: bytes = b"") -> None:
        if not self._is_time_for(message, content):
            super()._say(message, content)
            return
        fault, self._next, self._left = self._next, self._draw(), self._wait()
        self.num_faults[fault] += 1
        whole = INT.pack(message) + content
        if fault in (Fault.NO_FINISH, Fault.NO_CHECKPOINT):
            return
        if fault is Fault.SLOW:
            time.sleep(self.freeze_s / 10.0)
        elif fault is Fault.CLOCK_JUMP:
            content = INT.pack(INT.unpack(content)[0] + 5000)
        elif fault is Fault.SHORT_PICTURE:
            content = content[: len(content) // 2]
        elif fault is Fault.WRONG_LENGTH:
            content += INT.pack(self._random.choice([-1, 1, 8000, 1 << 30]))
        elif fault is Fault.GARBAGE:
            self._to_send += self._random.randbytes(self._random.randrange(1, 200))
        else:
            if fault is Fault.FREEZE:
                self._stopping.wait(self.freeze_s)
            elif fault is Fault.HALF:
                self._to_send += whole[: len(whole) // 2]
                self._flush()
            elif fault is Fault.MENUS:
                self.is_in_menus = True
            raise ClientGone(f"fault: {fault.value}")
        super()._say(message, content)
