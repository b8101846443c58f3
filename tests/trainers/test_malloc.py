"""Memory of the process."""

from __future__ import annotations

import ctypes
import gc
import platform
import weakref
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from tm_torchrl.trainers.malloc import keep_freed_memory, quick_collections, resident_mb


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


class Cycle:
    def __init__(self) -> None:
        self.myself = self


@pytest.fixture
def only_asked_collections() -> Iterator[None]:
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("only_asked_collections")
def test_a_quick_collection_takes_what_became_garbage_since_and_passes_over_what_was_in_use() -> None:
    garbage, used = weakref.ref(Cycle()), Cycle()
    before = weakref.ref(used)
    with quick_collections():
        assert garbage() is None
        inside = weakref.ref(Cycle())
        del used
        gc.collect()
        assert inside() is None
        assert before() is not None
    gc.collect()
    assert before() is None


def test_objects_that_the_program_has_frozen_stay_so() -> None:
    gc.freeze()
    try:
        with quick_collections():
            pass
        assert gc.get_freeze_count()
    finally:
        gc.unfreeze()


def test_nothing_stays_frozen_after_an_error() -> None:
    with pytest.raises(KeyboardInterrupt), quick_collections():
        raise KeyboardInterrupt
    assert not gc.get_freeze_count()
