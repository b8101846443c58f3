"""What a check has found: fine, worth a look, or broken; and one way to mend it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from enum import Enum
from typing import Any


class Level(str, Enum):
    """How bad it is."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True)
class Finding:
    """One line of the doctor's.

    Args:
        name: of the check.
        level: how bad it is.
        text: what was found.
        cure: one way to mend it; empty where all is well.

    Examples:
        >>> print(Finding("port", Level.FAIL, "8478 is taken", "end the other game"))
        fail  port: 8478 is taken
              -> end the other game
    """

    name: str
    level: Level
    text: str
    cure: str = ""

    def __post_init__(self) -> None:
        if self.level is not Level.OK and not self.cure:
            raise ValueError(f"cure='': the finding {self.name!r} is no good news; say one way to mend it")

    def __str__(self) -> str:
        line = f"{self.level.value:<5} {self.name}: {self.text}"
        return f"{line}\n      -> {self.cure}" if self.cure else line

    def as_dict(self) -> dict[str, Any]:
        """For programs."""
        return {**asdict(self), "level": self.level.value}


Check = Callable[[], Finding]


def run_checks(checks: Iterable[tuple[str, Check]]) -> list[Finding]:
    """The findings of all checks; one that raises has failed, and the others go on.

    Args:
        checks: names and functions.

    Examples:
        >>> [found.level.value for found in run_checks([("a", lambda: 1 / 0)])]
        ['fail']
    """
    found = []
    for name, check in checks:
        try:
            found.append(check())
        except Exception as error:  # a check meets what its author did not expect; that is what it is for
            text = f"the check itself failed: {type(error).__name__}: {error}"
            found.append(Finding(name, Level.FAIL, text, "mend what this says; if it makes no sense, report it"))
    return found


def exit_code(findings: Iterable[Finding]) -> int:
    """0 where nothing failed, 1 elsewhere; a warning is no failure."""
    return int(any(found.level is Level.FAIL for found in findings))
