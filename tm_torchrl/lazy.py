"""Public names that are imported when they are first used, so that importing a package costs nothing."""

from __future__ import annotations

import ast
import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any


def attach(package: str, file: str) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """``__getattr__``, ``__dir__`` and ``__all__`` of a package, from its own ``if TYPE_CHECKING:`` imports.

    A name is written once: type checkers read the block, and this function reads it for Python.

    Args:
        package: ``__name__`` of the package.
        file: ``__file__`` of the package.

    Examples:
        >>> import tm_torchrl.data
        >>> "NStep" in tm_torchrl.data.__all__
        True
        >>> tm_torchrl.data.NSteps
        Traceback (most recent call last):
        AttributeError: module 'tm_torchrl.data' has no attribute 'NSteps'; its public names are ...
    """
    homes = {
        alias.asname or alias.name: node.module
        for block in ast.parse(Path(file).read_text("utf-8")).body
        if isinstance(block, ast.If) and isinstance(block.test, ast.Name) and block.test.id == "TYPE_CHECKING"
        for node in block.body
        if isinstance(node, ast.ImportFrom) and node.module
        for alias in node.names
    }
    names = sorted(homes)

    def get(name: str) -> Any:
        if name not in homes:
            raise AttributeError(
                f"module {package!r} has no attribute {name!r}; its public names are {', '.join(names)}"
            )
        return getattr(importlib.import_module(homes[name]), name)

    return get, lambda: names, names
