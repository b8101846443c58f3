"""Checks and their results: fine, or a note, a warning or a failure with one way to fix it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum


class Level(str, Enum):
    """How serious a result is."""

    OK = "ok"
    NOTE = "note"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True)
class CheckResult:
    """The result of a check, one line of the report.

    Args:
        name: The check's name.
        level: How serious the result is.
        text: What was found.
        fix: One way to fix it; empty if the level is ``OK``.

    Examples:
        >>> print(CheckResult("port", Level.FAIL, "8478 is taken", "end the other game"))
        fail  port: 8478 is taken
              -> end the other game
    """

    name: str
    level: Level
    text: str
    fix: str = ""

    def __post_init__(self) -> None:
        if self.level is not Level.OK and not self.fix:
            raise ValueError(f"fix='': must say how to fix the problem that check {self.name!r} found")

    def __str__(self) -> str:
        line = f"{self.level.value:<5} {self.name}: {self.text}"
        return f"{line}\n      -> {self.fix}" if self.fix else line

    def as_dict(self) -> dict[str, str]:
        """The result as JSON has it, where the fix is called ``cure``."""
        return {"name": self.name, "level": self.level.value, "text": self.text, "cure": self.fix}


Check = Callable[[], CheckResult]


def run_checks(checks: Iterable[tuple[str, Check]]) -> list[CheckResult]:
    """The results of all checks; a check that raises has failed, and the others still run.

    Args:
        checks: Names and functions of the checks.

    Examples:
        >>> [result.level.value for result in run_checks([("a", lambda: 1 / 0)])]
        ['fail']
    """
    results = []
    for name, check in checks:
        try:
            results.append(check())
        except Exception as error:  # whatever the check's author did not expect is a result, too
            text = f"the check itself failed: {type(error).__name__}: {error}"
            results.append(CheckResult(name, Level.FAIL, text, "fix the cause of this error, or report it"))
    return results


def verdict(results: Sequence[CheckResult]) -> str:
    """What all results together mean, in one line.

    Examples:
        >>> verdict([CheckResult("python", Level.OK, "3.12"), CheckResult("sb3", Level.NOTE, "missing", "install it")])
        'Ready, apart from: sb3.'
    """
    names = {level: [result.name for result in results if result.level is level] for level in Level}
    if names[Level.FAIL]:
        return f"Not ready: {', '.join(names[Level.FAIL])}."
    apart = names[Level.WARN] + names[Level.NOTE]
    return f"Ready, apart from: {', '.join(apart)}." if apart else "Ready."


def exit_code(results: Iterable[CheckResult]) -> int:
    """1 if any check failed, otherwise 0; warnings and notes do not count."""
    return int(any(result.level is Level.FAIL for result in results))
