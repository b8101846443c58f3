"""Checks of this machine: Python, torch, the accelerator, TorchRL, Warp, a display."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from tm_torchrl.game.doctor.finding import Check, Finding, Level

OLDEST_PYTHON, FIRST_TOO_NEW = (3, 10), (3, 14)
OLDEST_TORCH = (2, 11)
_INDEX = "pip install torch --index-url URL, with the URL for your CUDA from pytorch.org/get-started/locally"
_ANEW = "pip install -e . -c constraints.txt in the project's folder"


def check_python(
    found: tuple[int, int] = (sys.version_info[0], sys.version_info[1]), *, is_64_bit: bool = sys.maxsize > 2**32
) -> Finding:
    """A version that this project runs on, of 64 bits.

    Args:
        found: its version.
        is_64_bit: whether it is.
    """
    text = f"{found[0]}.{found[1]} on {platform.system()} {platform.machine()}"
    if not OLDEST_PYTHON <= found < FIRST_TOO_NEW:
        return Finding("python", Level.FAIL, f"{text}; 3.10 to 3.13 are wanted", "make the environment with python3.12")
    if not is_64_bit:
        return Finding("python", Level.FAIL, f"{text}, of 32 bits", "install the Python of 64 bits; torch needs it")
    return Finding("python", Level.OK, text)


def check_torch(found: str | None = None) -> Finding:
    """Installed, and not too old.

    Args:
        found: its version; ``None`` for that of this environment.
    """
    name = found or _version("torch")
    if name is None:
        return Finding("torch", Level.FAIL, "not installed", _ANEW)
    numbers = tuple(int(part) for part in name.split("+")[0].split(".")[:2])
    if numbers < OLDEST_TORCH:
        return Finding("torch", Level.FAIL, f"{name}; 2.11 or later is wanted", "pip install -U torch")
    return Finding("torch", Level.OK, name)


def check_accelerator(
    *, cuda_of_torch: str | None, num_devices: int, has_card: bool | None = None, device: str = ""
) -> Finding:
    """Whether torch can use the NVIDIA card that is there.

    Args:
        cuda_of_torch: the CUDA that torch was built for; ``None`` for a CPU build.
        num_devices: that torch sees.
        has_card: whether the system has a card; ``None`` to look.
        device: what the first one is called.
    """
    card = has_nvidia_card() if has_card is None else has_card
    if num_devices:
        return Finding("accelerator", Level.OK, f"{device or 'CUDA'} ({num_devices}), torch for CUDA {cuda_of_torch}")
    if card and cuda_of_torch is None:
        return Finding("accelerator", Level.WARN, "there is an NVIDIA card, but this torch is for CPUs only", _INDEX)
    if card:
        text = f"there is an NVIDIA card, but torch for CUDA {cuda_of_torch} does not see it"
        return Finding("accelerator", Level.WARN, text, "update the card's driver; nvidia-smi tells its CUDA version")
    return Finding("accelerator", Level.OK, "none; the CPU is enough for training on floats")


def has_nvidia_card() -> bool:
    """Whether the system's driver knows one."""
    return shutil.which("nvidia-smi") is not None or Path("/proc/driver/nvidia/gpus").is_dir()


def check_torchrl() -> Finding:
    """Installed; and whether its compiled trees load, which nobody needs here."""
    name = _version("torchrl")
    if name is None:
        return Finding("torchrl", Level.FAIL, "not installed", _ANEW)
    try:
        import_module("torchrl._torchrl")
    except (ImportError, OSError):
        return Finding("torchrl", Level.OK, f"{name}; its compiled trees do not load, this project's are used")
    return Finding("torchrl", Level.OK, f"{name}, its compiled trees load")


def check_warp() -> Finding:
    """Installed, and able to build for the CPU."""
    try:
        warp = import_module("warp")
    except (ImportError, OSError) as error:
        return Finding("warp", Level.FAIL, f"cannot be imported ({error}); the simulator needs it", _ANEW)
    warp.config.log_level = warp.LOG_WARNING
    warp.init()
    devices = [str(device) for device in warp.get_devices()]
    if "cpu" not in devices:
        return Finding("warp", Level.FAIL, f"has no CPU device ({', '.join(devices) or 'none'})", _ANEW)
    return Finding("warp", Level.OK, f"{warp.__version__} on {', '.join(devices)}")


def check_display(
    environment: Mapping[str, str] = os.environ, *, system: str = sys.platform, is_for_game: bool = False
) -> Finding:
    """Whether windows can be shown; only the real game needs them.

    Args:
        environment: variables.
        system: as ``sys.platform`` says it.
        is_for_game: whether the game shall run here.
    """
    if system in ("win32", "darwin") or environment.get("DISPLAY") or environment.get("WAYLAND_DISPLAY"):
        return Finding("display", Level.OK, "windows can be shown")
    if not is_for_game:
        return Finding("display", Level.OK, "none; training, videos and reports need none")
    return Finding("display", Level.WARN, "none, and the game needs one", "log in to a desktop, or start Xvfb :1")


def machine_checks(*, is_for_game: bool = False) -> Sequence[tuple[str, Check]]:
    """All of them.

    Args:
        is_for_game: whether the game shall run here.
    """

    def accelerator() -> Finding:
        import torch

        num = torch.cuda.device_count() if torch.cuda.is_available() else 0
        device = torch.cuda.get_device_name(0) if num else ""
        return check_accelerator(cuda_of_torch=torch.version.cuda, num_devices=num, device=device)

    return (
        ("python", check_python),
        ("torch", check_torch),
        ("accelerator", accelerator),
        ("torchrl", check_torchrl),
        ("warp", check_warp),
        ("display", lambda: check_display(is_for_game=is_for_game)),
    )


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
