"""Refuses weights of another architecture and lists the modules that differ."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from tm_torchrl.data.saving.checkpoint import CheckpointError

MOST_LISTED = 20


def differing_modules(ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> list[str]:
    """One line for each module whose tensors differ in name, shape or kind of numbers.

    Args:
        ours: State dict of the existing network ("here").
        theirs: State dict in the checkpoint ("there").

    Examples:
        >>> differing_modules(nn.Linear(4, 2).state_dict(), nn.Linear(4, 3).state_dict())
        ['the module itself: bias [2] here, [3] there; weight [2, 4] here, [3, 4] there']
        >>> ours, theirs = nn.ModuleDict({"a": nn.Linear(1, 1)}), nn.ModuleDict({"b": nn.Linear(1, 1)})
        >>> differing_modules(ours.state_dict(), theirs.state_dict())
        ['a: only here', 'b: only there']
    """
    found: dict[str, list[str]] = {}
    forms = [{key: _form(value) for key, value in state.items()} for state in (ours, theirs)]
    owners = [{key.rpartition(".")[0] for key in state} for state in forms]
    for key in sorted(forms[0].keys() | forms[1].keys()):
        here, there = (state.get(key) for state in forms)
        if here != there:
            owner, _, name = key.rpartition(".")
            sides = [f"{form or 'no'} {side}" for form, side in ((here, "here"), (there, "there"))]
            found.setdefault(owner, []).append(f"{name} {', '.join(sides)}")
    lines = []
    for owner, parts in found.items():
        only = "only there" if owner not in owners[0] else "only here" if owner not in owners[1] else "; ".join(parts)
        lines.append(f"{owner or 'the module itself'}: {only}")
    return lines


def _form(value: Tensor) -> str:
    kind = "" if value.is_floating_point() else f" of {str(value.dtype).removeprefix('torch.')}"
    return f"{list(value.shape)}{kind}"


def refuse_other_architecture(module: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Raise a ``CheckpointError`` unless the state dict ``weights`` fits the module and is finite."""
    lines = differing_modules(module.state_dict(), weights)
    if lines:
        listed = "\n  ".join(lines[:MOST_LISTED])
        more = f"\n  and {len(lines) - MOST_LISTED} more" if len(lines) > MOST_LISTED else ""
        raise CheckpointError(
            f"the checkpoint is of another architecture; {len(lines)} modules differ:\n  {listed}{more}\n"
            "Use the settings (network, objective, env) that it was trained with"
        )
    wrong = [key for key, value in weights.items() if not bool(value.isfinite().all())]
    if wrong:
        raise CheckpointError(
            f"the checkpoint's weights are not finite in {len(wrong)} tensors, such as {wrong[0]}: its training "
            "failed; use an earlier checkpoint"
        )
