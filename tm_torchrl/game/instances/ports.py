"""Ports of this machine: whether somebody listens, without connecting, and which one is free."""

from __future__ import annotations

import socket
import sys


def is_port_taken(port: int, *, host: str = "127.0.0.1") -> bool:
    """Whether a program listens there; it does not notice that it was asked.

    Args:
        port: 1 to 65535.
        host: an address of this machine.

    Examples:
        >>> with socket.create_server(("127.0.0.1", 0)) as server:
        ...     is_port_taken(server.getsockname()[1])
        True
    """
    if not 1 <= port <= 65535:
        raise ValueError(f"port={port}: 1 to 65535 wanted")
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        if sys.platform == "win32":
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE, 1)
        else:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # what has just ended does not count
        try:
            probe.bind((host, port))
        except PermissionError:
            return sys.platform == "win32"  # there it means taken, elsewhere a port below 1024
        except OSError:
            return True
    return False


def free_port(*, host: str = "127.0.0.1") -> int:
    """A port where nobody listens now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])
