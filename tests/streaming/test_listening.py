"""Listening on an address, and what an error of it says."""

from __future__ import annotations

import socket

import pytest

from streaming.listening import CannotListenError, client_url, joined, listen
from streaming.monitoring.health import HealthServer

_KEYS = ("scorer.host", "scorer.port")


def _listen(host: str, port: int = 0) -> socket.socket:
    return listen(host, port, _KEYS, backlog=1)


def test_a_port_in_use_is_refused_with_port_key_and_cure() -> None:
    with _listen("127.0.0.1") as taken:
        port = taken.getsockname()[1]
        with pytest.raises(CannotListenError) as caught:
            _listen("127.0.0.1", port)
    assert str(caught.value) == (
        f"cannot listen on 127.0.0.1:{port}: Address already in use; "
        "end the process that holds the port, or set scorer.port (0 takes a free one)"
    )


@pytest.mark.parametrize("host", ["192.0.2.1", "no.such.host.invalid", "a" * 70, "2001:db8::1"])
def test_an_address_of_another_machine_or_of_none_is_refused_with_the_key_of_the_host(host: str) -> None:
    with pytest.raises(CannotListenError, match=r"set scorer\.host to an address of this machine") as caught:
        _listen(host)
    assert "holds the port" not in str(caught.value)


@pytest.mark.parametrize("section", ["ingest", "processor", "scorer"])
def test_a_metrics_port_in_use_is_refused_with_the_keys_of_its_process(section: str) -> None:
    with _listen("127.0.0.1") as taken, pytest.raises(CannotListenError, match=rf"set {section}\.metrics_port \("):
        HealthServer("127.0.0.1", taken.getsockname()[1], {}, section=section)
    with pytest.raises(CannotListenError, match=rf"set {section}\.metrics_host to"):
        HealthServer("192.0.2.1", 0, {}, section=section)


@pytest.mark.parametrize("host", ["::1", "[::1]"])
def test_an_ipv6_address_with_and_without_brackets_is_listened_on(host: str) -> None:
    with _listen(host) as listener:
        socket.create_connection(("::1", listener.getsockname()[1]), timeout=5).close()
    with HealthServer(host, 0, {}) as server:
        socket.create_connection(("::1", server.port), timeout=5).close()


def test_the_ipv6_address_of_all_interfaces_also_takes_ipv4() -> None:
    with _listen("::") as listener:
        socket.create_connection(("127.0.0.1", listener.getsockname()[1]), timeout=5).close()


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:80"),
        ("0.0.0.0", "http://127.0.0.1:80"),
        ("::", "http://127.0.0.1:80"),
        ("", "http://127.0.0.1:80"),
        ("::1", "http://[::1]:80"),
        ("[::1]", "http://[::1]:80"),
        ("shop.example", "http://shop.example:80"),
    ],
)
def test_clients_on_the_machine_get_an_address_that_they_can_reach(host: str, url: str) -> None:
    assert client_url(host, 80) == url
    assert joined("fe80::1", 1) == "[fe80::1]:1"
