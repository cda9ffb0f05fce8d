"""Whether W&B's server is there."""

import socket
import urllib.parse
import urllib.request


def check_reachable(url: str) -> None:
    """Fail fast if the server does not answer; W&B itself waits for it much longer.

    Raises:
        OSError: it does not.
    """
    if {"http", "https", "all"} & urllib.request.getproxies().keys():  # then it is not us who is to reach it
        return
    parts = urllib.parse.urlsplit(url)
    port = parts.port or (80 if parts.scheme == "http" else 443)
    socket.create_connection((parts.hostname or "", port), timeout=5).close()
