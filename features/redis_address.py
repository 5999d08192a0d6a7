"""The address of Redis as Feast takes it: `host:port[,option=value]`."""

from __future__ import annotations

import inspect

from model.near_names import did_you_mean


def redis_address(address: str) -> str:
    """`address`, checked, because Feast splits it without looking. Raises ValueError with the cure."""
    node, *options = address.split(",")
    host, _, port = node.rpartition(":")
    if not host or not set(host).isdisjoint(":/@[] \t\n") or not _is_port(port):
        raise ValueError(
            f"{node!r} is no address: give `host:port[,option=value]`, without redis://, the host by name or by IPv4"
        )
    for option in options:
        name, equals, _ = option.partition("=")
        if not equals:
            raise ValueError(f"{option!r} is no option=value: one address is taken, and options after it")
        if name not in (known := _client_options()):
            raise ValueError(f"{name!r} is no option of Redis' client{did_you_mean(name, known)}")
    return address


def _is_port(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= 5 and 0 < int(text) < 65_536


def _client_options() -> list[str]:
    import redis  # only if there are options: it takes a tenth of a second

    return [*inspect.signature(redis.Redis).parameters]
