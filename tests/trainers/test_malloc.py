"""Memory of the process."""

from __future__ import annotations

import ctypes
import platform
from types import SimpleNamespace

import pytest

from tm_torchrl.trainers.malloc import keep_freed_memory, resident_mb


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc")
def test_glibc_keeps_freed_memory() -> None:
    assert keep_freed_memory()


@pytest.mark.parametrize("library", [SimpleNamespace(), SimpleNamespace(mallopt=lambda what, value: 0)])
def test_other_libraries_are_left_alone(library: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda name: library)
    assert not keep_freed_memory()


def test_an_older_glibc_gets_the_largest_size_that_it_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def mallopt(what: int, value: int) -> int:
        asked.append((what, value))
        return int(what != -3 or value <= 32 * 2**20)

    monkeypatch.setattr(ctypes, "CDLL", lambda name: SimpleNamespace(mallopt=mallopt))
    assert keep_freed_memory(64)
    assert asked == [(-3, 64 * 2**20), (-3, 32 * 2**20), (-1, 128 * 2**20)]


def test_a_process_holds_some_memory() -> None:
    assert 20 < resident_mb() < 100_000
