"""Addresses that a process listens on: IPv4 and IPv6, the error that names the keys, and the address for clients."""

from __future__ import annotations

import errno
import os
import socket

_EVERYWHERE = ("0.0.0.0", "::", "")


class CannotListenError(Exception):
    """A process cannot listen on its address; the message names the address, the keys and the cure."""

    def __init__(self, host: str, port: int, keys: tuple[str, str], error: OSError | ValueError) -> None:
        super().__init__(f"cannot listen on {joined(host, port)}: {_reason(error)}; {_cure(error, *keys)}")


def bare(host: str) -> str:
    """The host without the brackets in which URLs have an IPv6 address."""
    return host[1:-1] if host.startswith("[") and host.endswith("]") else host


def family_of(host: str) -> socket.AddressFamily:
    """IPv6 for an IPv6 address, else IPv4; a name is looked up as IPv4."""
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def joined(host: str, port: int) -> str:
    """`host:port`, an IPv6 address in brackets."""
    return f"[{bare(host)}]:{port}" if ":" in host else f"{host}:{port}"


def client_url(host: str, port: int) -> str:
    """The URL by which a client on this machine reaches a server that listens on `host`."""
    return f"http://{joined('127.0.0.1' if bare(host) in _EVERYWHERE else host, port)}"


def listen(host: str, port: int, keys: tuple[str, str], *, backlog: int) -> socket.socket:
    """A listening socket; port 0 takes a free port, and `::` also takes IPv4 where the system can.

    `keys` are the configuration's keys of host and port. Raises CannotListenError.
    """
    address = bare(host)
    family = family_of(address)
    both = address == "::" and socket.has_dualstack_ipv6()
    try:
        return socket.create_server((address, port), family=family, backlog=backlog, dualstack_ipv6=both)
    except (OSError, ValueError) as error:  # ValueError: a name that no host can have
        raise CannotListenError(host, port, keys, error) from error


def _reason(error: OSError | ValueError) -> str:
    if isinstance(error, OSError) and not isinstance(error, socket.gaierror) and error.errno:
        return os.strerror(error.errno)  # without the address, which Python's own text repeats
    return str(getattr(error, "strerror", None) or error)


def _cure(error: OSError | ValueError, host: str, port: str) -> str:
    if getattr(error, "errno", None) == errno.EADDRINUSE:
        return f"end the process that holds the port, or set {port} (0 takes a free one)"
    if getattr(error, "errno", None) in (errno.EACCES, errno.EPERM):
        return f"ports below 1024 need privileges, so set {port} to 1024 or more (0 takes a free one)"
    return f"set {host} to an address of this machine (127.0.0.1 for callers on it, 0.0.0.0 or :: for all)"
