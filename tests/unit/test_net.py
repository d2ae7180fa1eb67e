"""What is this machine, by its name or address alone."""

import sys

import pytest

from modelrunner.net import (
    host_in,
    http_url,
    interface_address,
    is_loopback,
    local_host,
    outward_address,
)


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "LocalHost",
        "localhost.",
        "registry.localhost",
        "Registry.LOCALHOST",
        "127.0.0.1",
        "127.0.0.2",
        "127.255.255.254",
        "::1",
        "[::1]",
        "::1%lo",
        "0:0:0:0:0:0:0:1",
        "::ffff:127.0.0.1",
        "[::ffff:127.0.0.2]",
        "::ffff:7f00:1",
    ],
)
def test_this_machine(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize(
    "host",
    [
        "",
        ".",
        "localhost.example",
        "notlocalhost",
        "xlocalhost",
        "127.0.0.1.example",
        "127.0.0.1:80",
        "127.1",
        "0.0.0.0",
        "::",
        "10.0.0.1",
        "128.0.0.1",
        "::ffff:10.0.0.1",
        "::2",
        "::127.0.0.1",
        "[127.0.0.1",
        "registry.example.com",
    ],
)
def test_another_machine(host: str) -> None:
    assert not is_loopback(host)


@pytest.mark.parametrize(
    ("authority", "host"),
    [
        ("LOCALHOST:80", "localhost"),
        ("127.0.0.1", "127.0.0.1"),
        ("[::1]:80", "::1"),
        ("", None),
        (":80", None),
        ("localhost@evil.example", None),
        ("evil.example@localhost:80", None),
        ("[::1", None),
    ],
)
def test_host_in_a_header(authority: str, host: str | None) -> None:
    assert host_in(authority) == host


def test_ipv6_stands_in_brackets() -> None:
    assert http_url("::1", 80) == "http://[::1]:80"
    assert http_url("127.0.0.1", 80) == "http://127.0.0.1:80"


@pytest.mark.parametrize(
    ("listens", "asked"),
    [
        ("0.0.0.0", "127.0.0.1"),
        ("::", "::1"),
        ("127.0.0.1", "127.0.0.1"),
        ("10.0.0.1", "10.0.0.1"),
        ("box.example", "box.example"),
    ],
)
def test_a_server_on_every_address_is_asked_on_loopback(listens: str, asked: str) -> None:
    assert local_host(listens) == asked


@pytest.mark.parametrize("version", [4, 6])
def test_the_address_for_other_machines_is_not_this_machines_own_name_for_itself(
    version: int,
) -> None:
    found = outward_address(version)
    assert found is None or not is_loopback(found)


@pytest.mark.skipif(sys.platform != "linux", reason="interfaces have other names elsewhere")
def test_the_address_of_an_interface() -> None:
    assert interface_address("lo") == "127.0.0.1"
    assert interface_address("no-such-one") is None
