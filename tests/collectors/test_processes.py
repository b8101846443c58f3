"""Worker processes start without the main module, and a program's own choice of how to start them is kept."""

from __future__ import annotations

import multiprocessing
import sys

import pytest
from torch import nn

from tm_torchrl.collectors.processes import main_module_left_out, require_open_files, start_server


def test_the_main_module_is_left_out_while_any_group_starts() -> None:
    main = sys.modules["__main__"]
    before = dict(main.__dict__)
    with main_module_left_out(nn.Identity()):
        with main_module_left_out(nn.Identity()):
            assert (main.__spec__, hasattr(main, "__file__")) == (None, False)
        assert (main.__spec__, hasattr(main, "__file__")) == (None, False)
    assert {name: main.__dict__[name] for name in before} == before


def test_a_policy_of_the_main_module_needs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    own = type("Own", (nn.Identity,), {"__module__": "__main__"})
    main = sys.modules["__main__"]
    before = dict(main.__dict__)
    with main_module_left_out(nn.Sequential(own())):
        assert main.__dict__ == before


def test_a_chosen_start_method_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(multiprocessing, "get_start_method", lambda allow_none: "spawn")
    monkeypatch.setattr(multiprocessing, "set_start_method", lambda *_, **__: pytest.fail("changed"))
    start_server()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such limit")
def test_a_low_limit_of_open_files_is_raised_or_told(monkeypatch: pytest.MonkeyPatch) -> None:
    import resource

    limits: list[tuple[int, int]] = [(64, 4096)]

    def set_limits(kind: int, wanted: tuple[int, int]) -> None:
        if wanted[1] > limits[0][1]:
            raise ValueError("not allowed to raise maximum limit")
        limits[0] = wanted

    monkeypatch.setattr(resource, "getrlimit", lambda kind: limits[0])
    monkeypatch.setattr(resource, "setrlimit", set_limits)
    require_open_files(256)
    assert limits == [(256, 4096)]
    limits[0] = (64, 64)
    with pytest.raises(ValueError, match=r"^kind: .*need 256 open files, but only 64 .*`ulimit -n 256`"):
        require_open_files(256)
    limits[0] = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
    require_open_files(256)
    assert limits[0] == (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
