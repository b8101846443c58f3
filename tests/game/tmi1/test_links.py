"""Another user's links in the shared folders do not choose which file is opened."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tm_torchrl.game.errors import GameError
from tm_torchrl.game.tmi1.channel import Channel
from tm_torchrl.game.tmi1.client_lock import ClientLock

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="channels are no files there")


@pytest.mark.parametrize("is_server", [True, False])
def test_a_channel_that_is_a_link_is_refused(is_server: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"x" * 100_000)
    (tmp_path / "TMInterface77").symlink_to(victim)
    monkeypatch.setattr("tm_torchrl.game.tmi1.channel._folder", lambda: tmp_path)
    with pytest.raises(GameError, match=r"TMInterface77 is a link"):
        Channel("TMInterface77", is_server=is_server)
    assert victim.read_bytes() == b"x" * 100_000


def test_a_server_does_not_use_another_user_s_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tm_torchrl.game.tmi1.channel._folder", lambda: tmp_path)
    (tmp_path / "TMInterface77").write_bytes(b"x")
    monkeypatch.setattr("os.geteuid", lambda: 12345)
    with pytest.raises(GameError, match="TMInterface77 belongs to another user"):
        Channel("TMInterface77", is_server=True)
    assert (tmp_path / "TMInterface77").read_bytes() == b"x"


def test_a_lock_that_is_a_link_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    (tmp_path / "tm_torchrl_client_of_TMInterface77.lock").symlink_to(tmp_path / "victim")
    with pytest.raises(GameError, match="is a link"):
        ClientLock("TMInterface77")
    assert not (tmp_path / "victim").exists()
