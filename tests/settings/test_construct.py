"""Objects from settings: what is checked before anything is built, and what messages name."""

from __future__ import annotations

import functools
from typing import Any

import pytest

from tm_torchrl.settings.construct import (
    ConfigError,
    construct,
    construct_as,
    construct_later,
    refuse_given,
    sections_for,
)

HERE = "tests.settings.test_construct"


def test_construct_checks_before_it_builds() -> None:
    built: list[int] = []
    settings = {
        "_target_": "tests.settings.test_construct.Outer",
        "inner": {"_target_": "tests.settings.test_construct.Inner", "sise": 3},
    }
    Inner.built = built
    with pytest.raises(ConfigError, match=r"^env\.inner\.sise: .*did you mean size"):
        construct(settings, name="env")
    assert built == []
    settings["inner"] = {"_target_": "tests.settings.test_construct.Inner", "size": -1}
    with pytest.raises(ConfigError, match=r"^env\.inner\.size=-1: must be positive$"):
        construct(settings, name="env")
    settings["inner"] = {"_target_": "tests.settings.test_construct.Inner", "size": 2}
    assert construct(settings, name="env").inner.size == 2


def test_unknown_targets_are_named() -> None:
    with pytest.raises(ConfigError, match=r"tm_torchrl\.data has no ReuseBudge; did you mean ReuseBudget"):
        construct({"_target_": "tm_torchrl.data.ReuseBudge"}, name="x")
    with pytest.raises(ConfigError, match=r"^x: .*_target_"):
        construct({}, name="x")


def test_whole_numbers_may_be_written_as_floats() -> None:
    assert construct({"_target_": f"{HERE}.Inner", "size": 1e3}, name="x").size == 1_000
    with pytest.raises(ConfigError, match=r"^x\.size=1\.5: must be a whole number$"):
        construct({"_target_": f"{HERE}.Inner", "size": 1.5}, name="x")


def test_a_mapping_without_a_target_becomes_the_class_of_the_parameter() -> None:
    """Where that is a class of the package."""
    task = {"_target_": "tm_torchrl.tasks.TrackManiaTask", "track": "oval", "limits": {"race_s": 5}}
    assert construct(task, name="env").limits.race_s == 5
    with pytest.raises(ConfigError, match=r"^env\.limits\.race: .*did you mean race_s"):
        construct({**task, "limits": {"race": 5}}, name="env")


def test_lists_are_searched_for_objects_too() -> None:
    """An index is part of the name."""
    found = sections_for(two_parts, {"parts": [5, {"_target_": f"{HERE}.Inner", "size": 2}], "more": 1, "absent": 2})
    assert (found["parts"][0], found["parts"][1].size, found["more"]) == (5, 2, 1) and len(found) == 2
    assert list(sections_for(two_parts, {"parts": [], "more": 1}, given=["more"])) == ["parts"]
    with pytest.raises(ConfigError, match=r"^parts\[1\]\.size=true: must be a whole number$"):
        sections_for(two_parts, {"parts": [5, {"_target_": f"{HERE}.Inner", "size": True}]})


def test_missing_settings_are_named() -> None:
    with pytest.raises(ConfigError, match=r"^x: size must be given; add _partial_: true"):
        construct({"_target_": f"{HERE}.Inner"}, name="x")
    with pytest.raises(ConfigError, match=r"^x\.size: this setting is missing"):
        construct_as(Inner, {}, name="x")
    with pytest.raises(ConfigError, match=r"^x: .*add _partial_: true"):
        construct_later({"_target_": f"{HERE}.Inner", "size": 1}, name="x")


def test_a_partial_setting_waits_and_its_own_arguments_win() -> None:
    later = construct_later({"_target_": f"{HERE}.two_parts", "_partial_": True, "more": 1}, name="x")
    assert later(parts=[2]) == ([2], 1) == later([2], more=5)
    for part in (later, functools.partial(two_parts, more=1)):
        refuse_given(part, ["parts"], name="x")
        with pytest.raises(ConfigError, match=r"^x\.more: is not a setting here"):
            refuse_given(part, ["more"], name="x")
    with pytest.raises(ConfigError, match=r"^x\.parts=3: must be a list$"):
        later(parts=3)


def no_memory(size: int) -> None:
    """A function that fails as torch does."""
    raise RuntimeError(f"size {size}: out of memory")


@pytest.mark.parametrize(("name", "start"), [("", "size 3"), ("env", "env: size 3")])
def test_errors_of_torch_are_named_where_there_is_a_name(name: str, start: str) -> None:
    with pytest.raises(ConfigError, match=f"^{start}: out of memory$"):
        construct_as(no_memory, {"size": 3}, name=name)


def two_parts(parts: Any, more: int) -> tuple[Any, int]:
    """A function that checks an argument."""
    if not isinstance(parts, list):
        raise ValueError(f"parts={parts}: must be a list")
    return parts, more


class Inner:
    """A part with a checked number."""

    built: list[int] = []  # noqa: RUF012

    def __init__(self, size: int) -> None:
        if size < 0:
            raise ValueError(f"size={size}: must be positive")
        self.size = size
        self.built.append(size)


class Outer:
    """Holds a part."""

    def __init__(self, inner: Inner) -> None:
        self.inner = inner
