"""What the suite's page says in words: who learns better than whom, at what cost, and what could not be told apart."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from benchmarks import suite_statistics as statistics
from benchmarks.suite_statistics import Curves, Estimate

ENOUGH_RUNS = 5  # for a sentence about who learns better
FINISHED = 1e-9  # a score above it has a finished lap
BY = {"at the end": statistics.finals, "over the whole run": statistics.areas}


def learning_findings(curves: Curves, pairs: Iterable[tuple[str, str]], said: dict[str, str]) -> list[str]:
    """A paragraph for each pair that is told apart, one for all that are not, one for those with too few runs.

    Args:
        curves: of all finished runs of an environment.
        pairs: algorithms, each with the one that it is judged beside.
        said: what the sentences call the first of a pair and the second, by name.
    """
    lines, unclear, few = [], [], []
    for ours, theirs in pairs:
        num = min(len(statistics.finals(curves, name)) for name in (ours, theirs))
        pair = f"{said[ours]} beside {said[theirs]}"
        if num < ENOUGH_RUNS:
            few.append(f"{pair} ({num})")
            continue
        won = {when: statistics.improvement(curves, ours, theirs, by=by) for when, by in BY.items()}
        told = [f"{verdict(found) or 'not told apart'} {when}" for when, found in won.items()]
        if not any(verdict(found) for found in won.values()):
            unclear.append(f"{pair} ({' and '.join(found.text() for found in won.values())})")
            continue
        scores = [f"final score {_both(statistics.finals(curves, name) for name in (ours, theirs))}"]
        scores += [f"area {_both(statistics.areas(curves, name) for name in (ours, theirs))}"]
        parts = [f"{score}, {found.text()} of pairs won" for score, found in zip(scores, won.values(), strict=True)]
        lines.append(f"- **{_capital(pair)}: {' and '.join(told)}.** {_capital('; '.join(parts))}.")
    if unclear:
        lines.append(f"- Not told apart (pairs won at the end, and over the whole run): {'; '.join(unclear)}.")
    if few:
        lines.append(f"- Too few runs to judge: {'; '.join(few)}.")
    return lines


def cost_findings(
    costs: dict[str, dict[int, float]], pairs: Iterable[tuple[str, str]], said: dict[str, str]
) -> list[str]:
    """One paragraph: ours in shares of what others cost.

    Args:
        costs: CPU seconds of runs, by algorithm and seed.
        pairs: ours, each with another library's.
        said: as for :func:`learning_findings`.
    """
    found = []
    for ours, theirs in pairs:
        ratio = statistics.median_ratio(costs[ours], costs[theirs])
        if ratio is not None and len(costs[ours].keys() & costs[theirs].keys()) >= ENOUGH_RUNS:
            found.append(f"{ratio.text()} for {said[ours]} beside {said[theirs]}")
    return [f"- **CPU seconds of a run, ours divided by theirs:** {'; '.join(found)}."] if found else []


def finish_findings(curves: Curves, names: Sequence[str], said: dict[str, str]) -> list[str]:
    """One paragraph: how many frames the median run of each needs until an evaluation has a finished lap."""
    found = []
    for name in names:
        frames, finished, num = statistics.median_to(curves, name, FINISHED, "frames")
        if num >= ENOUGH_RUNS:
            when = "never" if not finished else "not by most" if frames is None else f"after {frames:,.0f} frames"
            found.append(f"{said[name]} {when} ({finished} of {num})")
    return [f"- **First finished lap of the median run:** {'; '.join(found)}."] if found else []


def verdict(won: Estimate) -> str:
    """What an interval of pairs won says; nothing where it holds a half.

    >>> verdict(Estimate(0.8, 0.6, 0.9)), verdict(Estimate(0.4, 0.2, 0.6))
    ('better', '')
    """
    return "better" if won.low > 0.5 else "worse" if won.high < 0.5 else ""


def _capital(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}"


def _both(values: Iterable[Sequence[float]]) -> str:
    return " against ".join(statistics.estimate(each).text() for each in values)
