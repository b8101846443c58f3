"""Dotted names: what they lead to, what they were called before, and which of them a saved run may name."""

from __future__ import annotations

import pytest
import torch

from tm_torchrl.settings.targets import RENAMED, find_target, refuse_foreign_targets, renamed


def test_a_dotted_name_leads_to_its_class() -> None:
    assert find_target("torch.optim.Adam") is torch.optim.Adam


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("Adam", "must be a dotted name"),
        ("torch..Adam", "must be a dotted name"),
        (5, "must be a dotted name"),
        ("tm_torchrl.data.ReuseBudge", "tm_torchrl.data has no ReuseBudge; did you mean ReuseBudget"),
        ("tm_torchrl.settings.targets.PARTS", "must be a class or a function; it is a tuple"),
    ],
)
def test_what_is_no_class_is_named(path: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        find_target(path)


def test_a_module_that_is_not_installed_is_an_import_error() -> None:
    with pytest.raises(ImportError, match="absent"):
        find_target("absent.Adam")


def test_names_of_earlier_versions_are_replaced_at_any_depth() -> None:
    old, new = next(iter(RENAMED.items()))
    settings = {"env": {"_target_": old, "parts": [{"_target_": old}, 5]}, "note": old}
    assert renamed(settings) == {"env": {"_target_": new, "parts": [{"_target_": new}, 5]}, "note": old}


@pytest.mark.parametrize("target", sorted(set(RENAMED.values())))
def test_renamed_targets_exist(target: str) -> None:
    assert callable(find_target(target))


def test_a_trusted_package_may_be_named() -> None:
    refuse_foreign_targets({"part": {"_target_": "collections.Counter"}}, trust=["collections"])
    with pytest.raises(ValueError, match=r"part\._target_=collections\.Counter"):
        refuse_foreign_targets({"part": {"_target_": "collections.Counter"}})


@pytest.mark.parametrize("settings", [[{"_target_": "os.system"}], {"a": {"b": [1, {"_target_": "os.system"}]}}])
def test_foreign_code_is_found_at_any_depth(settings: object) -> None:
    with pytest.raises(ValueError, match=r"_target_=os\.system: a saved run may only name classes of "):
        refuse_foreign_targets(settings)


def test_a_program_of_the_game_needs_trust() -> None:
    settings = {"launcher": {"_target_": "tm_torchrl.game.instances.GameLauncher", "command": "tmloader"}}
    with pytest.raises(ValueError, match=r"launcher\._target_=.*trust=\[tm_torchrl\.game\]"):
        refuse_foreign_targets(settings)
    refuse_foreign_targets(settings, trust=["tm_torchrl.game"])
