"""Checks of this machine: Python, torch, the accelerator, TorchRL, Warp, the extras, a display."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from tm_torchrl.game.doctor.check import Check, CheckResult, Level
from tm_torchrl.lazy import EXTRAS

OLDEST_PYTHON, FIRST_TOO_NEW = (3, 10), (3, 14)
OLDEST_TORCH = (2, 11)
_PYTORCH_INDEX = "pip install torch --index-url URL, with the URL for your CUDA from pytorch.org/get-started/locally"
_FOLDER = Path(__file__).resolve().parents[3]  # of a checkout
EXTRA_USES = {
    "sim": "the simulator",
    "train": "training and most commands",
    "report": "figures and videos",
    "sb3": "stable-baselines3",
    "ray": "workers on many machines",
    "hub": "sharing agents on the Hugging Face hub",
}


def install_all(folder: Path = _FOLDER) -> str:
    """The command that installs the package with all that most users need, in a checkout or elsewhere."""
    if (folder / "pyproject.toml").is_file():
        return f'run pip install -e ".[all]" -c constraints.txt in {folder}'
    return 'pip install "tm_torchrl[all]"'


def check_python(
    found: tuple[int, int] = (sys.version_info[0], sys.version_info[1]), *, is_64_bit: bool = sys.maxsize > 2**32
) -> CheckResult:
    """Check that this project supports the Python version, and that it has 64 bits."""
    text = f"{found[0]}.{found[1]} on {platform.system()} {platform.machine()}"
    if not OLDEST_PYTHON <= found < FIRST_TOO_NEW:
        return CheckResult(
            "python", Level.FAIL, f"{text}: must be 3.10 to 3.13", "create the environment with python3.12"
        )
    if not is_64_bit:
        return CheckResult("python", Level.FAIL, f"{text}, 32-bit", "install 64-bit Python, which torch needs")
    return CheckResult("python", Level.OK, text)


def check_torch(found: str | None = None) -> CheckResult:
    """Check that torch is installed and not too old.

    Args:
        found: Its version; ``None`` for that of this environment.
    """
    name = found or _version("torch")
    if name is None:
        return CheckResult("torch", Level.FAIL, "not installed", install_all())
    numbers = tuple(int(part) for part in name.split("+")[0].split(".")[:2])
    if numbers < OLDEST_TORCH:
        return CheckResult("torch", Level.FAIL, f"{name}: must be 2.11 or later", "pip install -U torch")
    return CheckResult("torch", Level.OK, name)


def check_accelerator(
    *, cuda_of_torch: str | None, num_devices: int, has_card: bool | None = None, device: str = ""
) -> CheckResult:
    """Check that torch can use this machine's NVIDIA card, if it has one.

    Args:
        cuda_of_torch: CUDA version that torch was built for; ``None`` for a CPU build.
        num_devices: Number of CUDA devices that torch sees.
        has_card: Whether the machine has a card; ``None`` to find out.
        device: Name of the first device.
    """
    card = has_nvidia_card() if has_card is None else has_card
    if num_devices:
        return CheckResult(
            "accelerator", Level.OK, f"{device or 'CUDA'} ({num_devices}), torch for CUDA {cuda_of_torch}"
        )
    if card and cuda_of_torch is None:
        return CheckResult(
            "accelerator", Level.WARN, "there is an NVIDIA card, but this torch is for CPUs only", _PYTORCH_INDEX
        )
    if card:
        text = f"there is an NVIDIA card, but torch for CUDA {cuda_of_torch} does not see it"
        return CheckResult(
            "accelerator", Level.WARN, text, "update the card's driver; nvidia-smi shows its CUDA version"
        )
    return CheckResult("accelerator", Level.OK, "none; the CPU is enough for training on floats")


def has_nvidia_card() -> bool:
    """Whether the system has a driver for an NVIDIA card."""
    return shutil.which("nvidia-smi") is not None or Path("/proc/driver/nvidia/gpus").is_dir()


def check_torchrl() -> CheckResult:
    """Check that TorchRL is installed; its compiled sum trees are optional."""
    name = _version("torchrl")
    if name is None:
        return CheckResult("torchrl", Level.FAIL, "not installed", install_all())
    try:
        import_module("torchrl._torchrl")
    except (ImportError, OSError):
        return CheckResult("torchrl", Level.OK, f"{name}; its compiled trees do not load, so this project uses its own")
    return CheckResult("torchrl", Level.OK, f"{name}, its compiled trees load")


def check_warp() -> CheckResult:
    """Check that Warp is installed, and can compile for the CPU."""
    try:
        warp = import_module("warp")
    except (ImportError, OSError) as error:
        return CheckResult("warp", Level.FAIL, f"cannot be imported ({error}); the simulator needs it", install_all())
    from tm_torchrl.world.warp_arrays import start_warp

    try:
        start_warp()
    except OSError as error:
        message = f"its folder for compiled kernels cannot be made ({error})"
        return CheckResult("warp", Level.FAIL, message, "set WARP_CACHE_PATH to a folder that can be written")
    devices = [str(device) for device in warp.get_devices()]
    if "cpu" not in devices:
        return CheckResult("warp", Level.FAIL, f"has no CPU device ({', '.join(devices) or 'none'})", install_all())
    return CheckResult("warp", Level.OK, f"{warp.__version__} on {', '.join(devices)}")


def check_extra(extra: str) -> CheckResult:
    """Check that the packages of an extra are installed.

    Args:
        extra: One of the extras of ``tm_torchrl.lazy.EXTRAS``.
    """
    modules = [module for module, its_extra in EXTRAS.items() if its_extra == extra]
    missing = [module for module in modules if find_spec(module) is None]
    if missing:
        text = f"{', '.join(missing)} not installed, for {EXTRA_USES[extra]}"
        return CheckResult(extra, Level.NOTE, text, f'pip install "tm_torchrl[{extra}]"')
    return CheckResult(extra, Level.OK, EXTRA_USES[extra])


def check_display(
    environment: Mapping[str, str] = os.environ, *, system: str = sys.platform, is_for_game: bool = False
) -> CheckResult:
    """Check that windows can be shown, which only the real game needs.

    Args:
        environment: Environment variables.
        system: The system's name, as in ``sys.platform``.
        is_for_game: Whether the game should run on this machine.
    """
    if system in ("win32", "darwin") or environment.get("DISPLAY") or environment.get("WAYLAND_DISPLAY"):
        return CheckResult("display", Level.OK, "windows can be shown")
    if not is_for_game:
        return CheckResult("display", Level.OK, "none; training, videos and reports do not need one")
    return CheckResult("display", Level.WARN, "none, and the game needs one", "log in to a desktop, or start Xvfb :1")


def machine_checks(*, is_for_game: bool = False) -> Sequence[tuple[str, Check]]:
    """All checks of this machine.

    Args:
        is_for_game: Whether the game should run on this machine.
    """

    def accelerator() -> CheckResult:
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
        *((extra, partial(check_extra, extra)) for extra in EXTRA_USES),
        ("display", lambda: check_display(is_for_game=is_for_game)),
    )


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
