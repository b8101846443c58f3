"""Worker processes start without the main module, and a program's own choice of how to start them is kept."""

from __future__ import annotations

import multiprocessing
import sys

import pytest
from torch import nn

from tm_torchrl.collectors.processes import main_module_left_out, start_server


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
