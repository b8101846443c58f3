"""The web server of the page: for this machine only, and only for those who know the address.

Every request must name this server as its host, carry the token of the address, and, if a page sent it, come from this
server's own page. Other web pages, which a browser lets send requests to this machine, can therefore read and ask
nothing. Files are those of the package, held in memory; no request names a file of the disk.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from typing import Any
from urllib.parse import parse_qsl, urlsplit

KINDS = {".html": "text/html; charset=utf-8", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
MAX_BODY = 10_000
IDLE_S = 60.0
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class RequestError(Exception):
    """A request that cannot be answered.

    Args:
        status: The status of the answer.
        message: What is wrong, for the reader of the page.
    """

    def __init__(self, status: HTTPStatus, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass
class Request:
    """A request for data.

    Args:
        words: Query and body by name.
        is_change: Whether it may change something (POST).
        known: The state that the asker has.
    """

    words: Mapping[str, Any]
    is_change: bool
    known: str | None


@dataclass
class Answer:
    """Data for the page.

    Args:
        data: JSON values; ``None`` if the asker has them already.
        state: Names the data, so that the asker need not get them twice.
    """

    data: Any
    state: str | None = None


Route = Callable[[Request], "Answer | Iterable[bytes]"]


class PageServer(ThreadingHTTPServer):
    """Serves the page and its data on ``127.0.0.1``.

    Args:
        routes: What answers each path below ``api/``: JSON values, or events that are sent as they come.
        port: The port; 0 for a free one.
    """

    daemon_threads = True
    allow_reuse_address = os.name != "nt"  # where another program could take the port over

    def __init__(self, routes: Mapping[str, Route], *, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.routes = dict(routes)
        self.token = secrets.token_urlsafe(24)
        self.hosts = [f"127.0.0.1:{self.server_port}", f"localhost:{self.server_port}"]
        folder = files("tm_torchrl.live") / "page"
        self.files = {
            entry.name: entry.read_bytes() for entry in folder.iterdir() if entry.name[entry.name.rfind(".") :] in KINDS
        }

    @property
    def address(self) -> str:
        """The address of the page, with the token."""
        return f"http://{self.hosts[0]}/{self.token}/"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Stay silent about connections that break off."""


class _Handler(BaseHTTPRequestHandler):
    server: PageServer
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # it would hold back small answers for some 40 ms
    wbufsize = -1  # header and body in one packet
    timeout = IDLE_S

    def do_GET(self) -> None:
        self._answer(is_change=False)

    def do_POST(self) -> None:
        self._answer(is_change=True)

    def _answer(self, *, is_change: bool) -> None:
        try:
            path, words = self._checked(is_change)
            name = path.removeprefix("api/")
            if name == path:
                self._send_file(path or "index.html")
                return
            if name not in self.server.routes:
                raise RequestError(HTTPStatus.NOT_FOUND, f"{name}: no such data")
            request = Request(words, is_change, self.headers.get("If-None-Match"))
            found = self.server.routes[name](request)
            if isinstance(found, Answer):
                body = b"" if found.data is None else _json(found.data)
                self._send_json(found, body)
            else:
                self._send_events(found)
        except RequestError as error:
            self.close_connection = True  # its body may be unread
            self._send(error.status, json.dumps({"error": str(error)}).encode(), "application/json")

    def _checked(self, is_change: bool) -> tuple[str, dict[str, Any]]:
        """The path behind the token, and the words of query and body."""
        server, origin = self.server, self.headers.get("Origin")
        if self.headers.get("Host") not in server.hosts:
            raise RequestError(HTTPStatus.FORBIDDEN, f"this server is http://{server.hosts[0]} only")
        if (origin is None and is_change) or origin not in (None, *(f"http://{host}" for host in server.hosts)):
            raise RequestError(HTTPStatus.FORBIDDEN, "requests of other pages are refused")
        address = urlsplit(self.path)
        token, _, path = address.path.removeprefix("/").partition("/")
        if not secrets.compare_digest(token.encode(), server.token.encode()):
            raise RequestError(HTTPStatus.NOT_FOUND, "the address is incomplete: copy it whole from the terminal")
        words: dict[str, Any] = dict(parse_qsl(address.query))
        if is_change:
            words |= self._body()
        return path, words

    def _body(self) -> dict[str, Any]:
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal() or int(length) > MAX_BODY or self.headers.get("Content-Type") != "application/json":
            raise RequestError(HTTPStatus.BAD_REQUEST, f"a body must be JSON of at most {MAX_BODY:,} bytes")
        try:
            found = json.loads(self.rfile.read(int(length)))
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, dict):
            raise RequestError(HTTPStatus.BAD_REQUEST, "a body must be a JSON object")
        return found

    def _send_file(self, name: str) -> None:
        if name not in self.server.files:
            raise RequestError(HTTPStatus.NOT_FOUND, f"{name}: no such file")
        self._send(HTTPStatus.OK, self.server.files[name], KINDS[name[name.rfind(".") :]])

    def _send_json(self, answer: Answer, body: bytes) -> None:
        state = {} if answer.state is None else {"ETag": answer.state}
        status = HTTPStatus.NOT_MODIFIED if answer.data is None else HTTPStatus.OK
        self._send(status, body, "application/json", state)

    def _send(self, status: HTTPStatus, body: bytes, kind: str, more: Mapping[str, str] | None = None) -> None:
        self._head(status, kind, {"Content-Length": str(len(body)), **(more or {})})
        self.wfile.write(body)
        self.wfile.flush()

    def _send_events(self, events: Iterable[bytes]) -> None:
        """Server-sent events, until the source ends or the reader is gone."""
        self.close_connection = True
        self._head(HTTPStatus.OK, "text/event-stream", {"Connection": "close"})
        for event in events:
            self.wfile.write(event)
            self.wfile.flush()

    def _head(self, status: HTTPStatus, kind: str, more: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": kind, "Cache-Control": "no-store", **HEADERS, **more}.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, format: str, *arguments: Any) -> None:
        """Log nothing: addresses hold the token."""


def _json(data: Any) -> bytes:
    try:
        return json.dumps(data, allow_nan=False, separators=(",", ":")).encode()
    except (ValueError, TypeError, RecursionError) as error:  # of values in files of a run
        raise RequestError(HTTPStatus.UNPROCESSABLE_ENTITY, f"this run's files hold {error}") from None
