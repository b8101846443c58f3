"""A cache of compiled kernels that is damaged, or cannot be written."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from tm_torchrl.world.kernel_cache import remove_damaged_kernels


def elf(num_bytes: int) -> bytes:
    """The first bytes of an ELF file of 64 + 2 * 64 = 192: its table of two sections follows its head."""
    head = bytearray(64)
    head[:5] = b"\x7fELF\x02"
    struct.pack_into("<Q", head, 0x28, 64)
    struct.pack_into("<HH", head, 0x3A, 64, 2)
    return bytes(head + bytes(128))[:num_bytes]


@pytest.mark.parametrize(
    ("files", "is_kept"),
    [
        ({"a.o": elf(192), "a.meta": b"{}"}, True),
        ({"a.o": elf(192)}, True),
        ({"a.o": b"\xcf\xfa\xed\xfe" + bytes(100)}, True),
        ({"a.o": elf(191), "a.meta": b"{}"}, False),
        ({"a.o": elf(63)}, False),
        ({"a.o": b""}, False),
        ({"a.o": elf(192), "b.o": elf(100)}, False),
        ({"a.o": elf(192), "a.meta": b'{"a": '}, False),
        ({"a.o": elf(192), "a.meta": b"\xff"}, False),
    ],
)
def test_a_damaged_module_is_removed(files: dict[str, bytes], is_kept: bool, tmp_path: Path) -> None:
    ours, other = tmp_path / "wp_tm_torchrl.sim.car_1", tmp_path / "wp_other_1"
    for folder in (ours, other):
        folder.mkdir()
        for name, data in files.items():
            (folder / name).write_bytes(data)
    remove_damaged_kernels(tmp_path)
    assert ours.exists() == is_kept
    assert other.exists(), "other programs' kernels are theirs"


def test_a_damaged_module_that_cannot_be_deleted_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "wp_tm_torchrl.sim.car_1").mkdir()
    (tmp_path / "wp_tm_torchrl.sim.car_1" / "a.o").touch()
    monkeypatch.setattr("shutil.rmtree", lambda folder, ignore_errors: None)
    with pytest.raises(OSError, match=r"wp_tm_torchrl.sim.car_1 is damaged .* delete it"):
        remove_damaged_kernels(tmp_path)


@pytest.mark.parametrize("is_below_a_file", [False, True])
def test_a_cache_that_cannot_be_written_is_one_line(is_below_a_file: bool, tmp_path: Path) -> None:
    """Root can write anywhere, so that ``os.access`` answers for it."""
    (tmp_path / "file").touch()
    cache = tmp_path / ("file/cache" if is_below_a_file else "cache")
    program = (
        "import os; os.access = lambda path, mode: False\n"
        "from tm_torchrl.world.warp_arrays import start_warp\n"
        "try: start_warp()\n"
        "except OSError as error: print(error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "WARP_CACHE_PATH": str(cache)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.stdout.count("\n") == 1, done.stderr
    assert str(cache) in done.stdout
    assert "WARP_CACHE_PATH" in done.stdout
