"""Ports of this machine: whether a program listens at one, and which one is free."""

from __future__ import annotations

import socket
import sys


def is_port_taken(port: int) -> bool:
    """Whether a program listens at a port; found without connecting, so the program does not notice.

    Examples:
        >>> with socket.create_server(("127.0.0.1", 0)) as server:
        ...     is_port_taken(server.getsockname()[1])
        True
    """
    if not 1 <= port <= 65535:
        raise ValueError(f"port={port}: must be 1 to 65535")
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        if sys.platform == "win32":
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE, 1)
        else:
            # Connections that have just ended do not count.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except PermissionError:
            return sys.platform == "win32"  # on Windows it means taken, elsewhere a port below 1024
        except OSError:
            return True
    return False


def free_port() -> int:
    """A port at which no program listens now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
