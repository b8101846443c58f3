"""Public names that are imported when they are first used, so that importing a package costs nothing."""

from __future__ import annotations

import ast
import importlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

EXTRAS = {  # modules outside the core, and the extra of pyproject.toml that installs them
    "warp": "sim",
    "gymnasium": "sim",
    "stable_baselines3": "sb3",
    "huggingface_hub": "hub",
    "safetensors": "hub",
    "timm": "vision",
    "transformers": "vision",
    "filelock": "train",
    "hydra": "train",
    "omegaconf": "train",
    "rich": "train",
    "tensorboard": "train",
    "yaml": "train",
    "imageio_ffmpeg": "report",
    "matplotlib": "report",
    "PIL": "report",
    "ray": "ray",
    "minari": "minari",
    "pyarrow": "parquet",
    "onnx": "onnx",
    "onnxscript": "onnx",
    "onnxruntime": "onnx",
}


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
        with extras_named():
            return getattr(importlib.import_module(homes[name]), name)

    return get, lambda: names, names


def import_extra(module: str) -> Any:
    """A module of a package that an extra installs; if it is missing, the error says how to install it.

    Args:
        module: Such as ``safetensors.torch``.
    """
    with extras_named():
        return importlib.import_module(module)


@contextmanager
def extras_named() -> Iterator[None]:
    """Let a ``ModuleNotFoundError`` for a package of an extra say how to install it.

    Examples:
        >>> with extras_named():
        ...     raise ModuleNotFoundError("No module named 'warp'", name="warp")
        Traceback (most recent call last):
        ModuleNotFoundError: warp is not installed: pip install "tm_torchrl[sim]"
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name not in EXTRAS:
            raise
        extra = EXTRAS[error.name]
        raise ModuleNotFoundError(
            f'{error.name} is not installed: pip install "tm_torchrl[{extra}]"', name=error.name
        ) from None
