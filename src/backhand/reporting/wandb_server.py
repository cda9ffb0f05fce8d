"""A check that W&B's server can be reached."""

import socket
import urllib.parse
import urllib.request


def check_reachable(url: str) -> None:
    """Fail fast if the server does not answer; W&B itself waits much longer.

    Raises:
        OSError: the server does not answer within 5 s.
    """
    if {"http", "https", "all"} & urllib.request.getproxies().keys():  # a proxy connects to the server
        return
    parts = urllib.parse.urlsplit(url)
    port = parts.port or (80 if parts.scheme == "http" else 443)
    socket.create_connection((parts.hostname or "", port), timeout=5).close()
