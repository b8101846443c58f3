"""A server of the page in this process, with runs below a temporary folder."""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.live.run_folders import make_run
from tm_torchrl.live.api import Api
from tm_torchrl.live.runs import Runs
from tm_torchrl.live.server import PageServer


@dataclass
class Site:
    """A server and its folder."""

    server: PageServer
    folder: Path

    def ask(
        self,
        path: str,
        *,
        method: str = "GET",
        body: Any = None,
        headers: dict[str, str] | None = None,
        token: str | None = None,
    ) -> tuple[int, Any, dict[str, str]]:
        """Status, JSON (or bytes) and headers of an answer; headers of ``None`` are left out."""
        connection = http.client.HTTPConnection("127.0.0.1", self.server.server_port, timeout=20)
        sent = {"Host": self.server.hosts[0]}
        data = None
        if method == "POST":
            data = body if isinstance(body, bytes) else json.dumps(body).encode()
            sent |= {"Origin": f"http://{self.server.hosts[0]}", "Content-Type": "application/json"}
        sent |= headers or {}
        target = f"/{self.server.token if token is None else token}/{path}"
        try:
            connection.putrequest(method, target, skip_host=True, skip_accept_encoding=True)
            for name, value in sent.items():
                if value:
                    connection.putheader(name, value)
            if data is not None:
                connection.putheader("Content-Length", str(len(data)))
            connection.endheaders(data)
            answer = connection.getresponse()
            content = answer.read()
        finally:
            connection.close()
        found = dict(answer.getheaders())
        is_json = found.get("Content-Type") == "application/json" and content
        return answer.status, json.loads(content) if is_json else content, found


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("live")
    make_run(folder / "runs" / "oval" / "first")
    server = PageServer(Api(Runs([folder / "runs"]), drives=folder / "drives").routes())
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    yield Site(server, folder)
    server.shutdown()
    server.server_close()
    thread.join()
