"""The server answers those who know the address, on this machine, and nobody else."""

from __future__ import annotations

import socket

import pytest

from tests.live.conftest import Site


def test_the_page_and_its_parts(site: Site) -> None:
    status, page, headers = site.ask("")
    assert status == 200
    assert headers["Content-Type"] == "text/html; charset=utf-8"
    assert b'src="main.js"' in page
    for name in ("main.js", "style.css", "icon.svg"):
        assert site.ask(name)[0] == 200


def test_the_page_may_load_nothing_from_elsewhere(site: Site) -> None:
    policy = site.ask("")[2]["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'")
    assert "unsafe" not in policy and "*" not in policy
    for name, content in site.server.files.items():
        text = content.decode().replace("http://www.w3.org/2000/svg", "")  # the name of a language, not loaded
        assert "http:" not in text and "https:" not in text, name
    assert {site.ask("api/runs")[2][name] for name in ("Referrer-Policy", "Cache-Control")} == {
        "no-referrer",
        "no-store",
    }


def test_it_listens_on_this_machine_only(site: Site) -> None:
    assert site.server.server_address[0] == "127.0.0.1"


@pytest.mark.parametrize("token", ["", "x", "x" * 32, "..", "api"])
@pytest.mark.parametrize("path", ["", "api/runs", "main.js"])
def test_without_the_token_there_is_nothing(site: Site, token: str, path: str) -> None:
    status, answer, _ = site.ask(path, token=token)
    assert status == 404
    assert list(answer) == ["error"]


@pytest.mark.parametrize(
    "host", ["", "evil.example", "127.0.0.1", "evil.example:{port}", "127.0.0.1:1", "[::1]:{port}"]
)
def test_another_host_is_refused(site: Site, host: str) -> None:
    """A page of evil.example whose name was made to mean 127.0.0.1 sends its own name as host."""
    status, answer, _ = site.ask("api/runs", headers={"Host": host.format(port=site.server.server_port)})
    assert status == 403
    assert site.server.token not in str(answer)


def test_localhost_is_this_machine(site: Site) -> None:
    assert site.ask("api/runs", headers={"Host": f"localhost:{site.server.server_port}"})[0] == 200


@pytest.mark.parametrize(
    "origin", ["", "null", "http://evil.example", "https://127.0.0.1:{port}", "http://127.0.0.1:1"]
)
def test_other_pages_change_nothing(site: Site, origin: str) -> None:
    headers = {"Origin": origin.format(port=site.server.server_port)}
    status, _, _ = site.ask("api/ask", method="POST", body={"run": "1", "what": "stop"}, headers=headers)
    assert status == 403
    assert not list(site.folder.rglob("please_*"))


def test_other_pages_read_nothing(site: Site) -> None:
    assert site.ask("api/runs", headers={"Origin": "http://evil.example"})[0] == 403


@pytest.mark.parametrize(
    "path",
    [
        "../server.py",
        "page/main.js",
        "%2e%2e/server.py",
        "..%2fserver.py",
        "/etc/passwd",
        "api/../main.js",
        "__init__.py",
        "style.css/",
    ],
)
def test_paths_lead_nowhere(site: Site, path: str) -> None:
    assert site.ask(path)[0] == 404


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"[]", ""),
        (b"{", ""),
        (b"[" * 9000, ""),
        (b'{"a": "' + b"b" * 10_001 + b'"}', ""),
        (b"{}", "text/plain"),
        (b"{}", "application/x-www-form-urlencoded"),
    ],
)
def test_bodies_are_small_json_objects(site: Site, body: bytes, kind: str) -> None:
    headers = {"Content-Type": kind} if kind else {}
    status, answer, _ = site.ask("api/ask", method="POST", body=body, headers=headers)
    assert status == 400 and "a body must be" in answer["error"]


def test_changes_are_not_made_by_reading(site: Site) -> None:
    assert site.ask("api/ask?run=1&what=stop")[0] == 405
    assert not list(site.folder.rglob("please_*"))


@pytest.mark.parametrize("method", ["PUT", "DELETE", "OPTIONS", "HEAD"])
def test_there_are_no_other_methods(site: Site, method: str) -> None:
    assert site.ask("api/runs", method=method)[0] == 501


def test_many_requests_on_one_connection(site: Site) -> None:
    head = f"GET /{site.server.token}/icon.svg HTTP/1.1\r\nHost: {site.server.hosts[0]}\r\n\r\n".encode()
    with socket.create_connection(("127.0.0.1", site.server.server_port), timeout=10) as connection:
        for _ in range(3):
            connection.sendall(head)
            found = b""
            while not found.endswith(b"</svg>\n"):
                found += connection.recv(4096)
            assert found.startswith(b"HTTP/1.1 200")
