"""Which addresses a registry may send us to."""

import pytest

from modelrunner.errors import RegistryAnswerError, RegistryUnavailableError
from modelrunner.net import ip_of
from modelrunner.registry.http.destinations import Reached, check_realm, check_redirect, origin

HUB = "registry-1.docker.io"


@pytest.mark.parametrize(
    ("realm", "registry"),
    [
        ("https://auth.docker.io/token", HUB),
        ("https://ghcr.io/token", "ghcr.io"),
        ("https://ghcr.io:8443/token", "ghcr.io"),
        ("https://GHCR.io/token", "ghcr.io"),
        ("https://auth.registry.example.com/token", "registry.example.com"),
        ("https://example.com/token", "registry.example.com"),
        ("https://gitlab.com/jwt/auth", "registry.gitlab.com"),
        ("https://example.co.uk/token", "registry.eu.example.co.uk"),
        ("https://10.0.0.7/token", "10.0.0.7"),
    ],
)
def test_realm_of_the_registry_itself_is_asked(realm, registry):
    check_realm(realm, registry, plain=False, allowed=())


@pytest.mark.parametrize(
    ("realm", "registry"),
    [
        ("https://evil.example/token", HUB),
        ("https://auth.docker.io.evil.example/token", HUB),
        ("https://auth.docker.io./token", HUB),
        ("https://evil-ghcr.io/token", "ghcr.io"),
        ("https://io/token", "ghcr.io"),
        ("https://b.azurecr.io/token", "a.azurecr.io"),
        ("https://azurecr.io/token", "a.azurecr.io"),
        ("https://127.0.0.1/token", "ghcr.io"),
        ("https://169.254.169.254/token", "ghcr.io"),
        ("https://1.10.0.0.7/token", "10.0.0.7"),
        ("https://0.0.7/token", "10.0.0.7"),
        ("http://ghcr.io/token", "ghcr.io"),
        ("ftp://ghcr.io/token", "ghcr.io"),
        ("file:///etc/passwd", "ghcr.io"),
        ("/token", "ghcr.io"),
        ("", "ghcr.io"),
        ("https://", "ghcr.io"),
        ("https://[::1/token", "ghcr.io"),
        ("https://ghcr.io:port/token", "ghcr.io"),
    ],
)
def test_realm_of_anybody_else_is_refused(realm, registry):
    with pytest.raises(RegistryAnswerError):
        check_realm(realm, registry, plain=False, allowed=())


@pytest.mark.parametrize(
    "address",
    [
        r"https://evil.example\@ghcr.io/token",
        r"https://ghcr.io\.evil.example/token",
        "https://ghcr.io@evil.example/token",
        "https://user:password@ghcr.io/token",
        "https://ghcr.io\t.evil.example/token",
        "https://ghcr.io\n/token",
        " https://ghcr.io/token",
        "https://ghcr.io/to ken",
        "https://ghcr.io/\x00",
    ],
)
def test_address_that_two_readers_take_for_two_hosts_is_refused(address):
    with pytest.raises(RegistryAnswerError):
        check_realm(address, "ghcr.io", plain=False, allowed=())
    with pytest.raises(RegistryAnswerError):
        origin(address)
    with pytest.raises(RegistryAnswerError):
        check_redirect("https://ghcr.io/v2/", address, "ghcr.io", resolve=False)


def test_realm_that_the_configuration_allows_is_asked():
    check_realm("https://login.example/t", "ghcr.io", plain=False, allowed=("login.example",))


def test_realm_may_be_plain_where_the_registry_is():
    check_realm("http://127.0.0.1:5001/token", "127.0.0.1", plain=True, allowed=())
    with pytest.raises(RegistryAnswerError):
        check_realm("http://localhost:5001/token", "127.0.0.1", plain=True, allowed=())


def test_refused_realm_says_how_to_allow_it():
    with pytest.raises(RegistryAnswerError) as caught:
        check_realm("https://login.example/t", "ghcr.io", plain=False, allowed=())
    assert 'registries."ghcr.io"] realms = ["login.example"]' in (caught.value.hint or "")
    assert caught.value.facts["realm"] == "login.example"


@pytest.mark.parametrize(
    ("target", "registry"),
    [
        ("https://93.184.216.34/blob", "ghcr.io"),
        ("https://ghcr.io:444/blob", "ghcr.io"),
        ("https://127.0.0.1:9/blob", "127.0.0.1"),
        ("https://localhost:9/blob", "127.0.0.1"),
        ("https://10.1.2.3/blob", "127.0.0.1"),
        ("https://10.1.2.3/blob", "192.168.0.1"),
        ("https://[2606:4700::1]/blob", "ghcr.io"),
    ],
)
def test_redirect_outwards_or_sidewards_is_followed(target, registry):
    check_redirect(f"https://{registry}/v2/", target, registry, resolve=False)


@pytest.mark.parametrize(
    ("target", "registry"),
    [
        ("http://93.184.216.34/blob", "ghcr.io"),
        ("https://127.0.0.1/blob", "93.184.216.34"),
        ("https://localhost/blob", "93.184.216.34"),
        ("https://x.localhost/blob", "93.184.216.34"),
        ("https://[::1]/blob", "93.184.216.34"),
        ("https://[::ffff:127.0.0.1]/blob", "93.184.216.34"),
        ("https://[::ffff:169.254.169.254]/blob", "93.184.216.34"),
        ("https://0.0.0.0/blob", "93.184.216.34"),
        ("https://10.0.0.1/blob", "93.184.216.34"),
        ("https://100.64.0.1/blob", "93.184.216.34"),
        ("https://[fd00::1]/blob", "93.184.216.34"),
        ("https://[fe80::1]/blob", "93.184.216.34"),
        ("https://169.254.169.254/latest/meta-data", "93.184.216.34"),
        ("https://169.254.169.254/latest/meta-data", "127.0.0.1"),
        ("https://169.254.169.254/latest/meta-data", "10.0.0.1"),
        ("https://127.0.0.1/blob", "10.0.0.1"),
    ],
)
def test_redirect_inwards_is_refused(target, registry):
    with pytest.raises(RegistryAnswerError):
        check_redirect(f"https://{registry}/v2/", target, registry, resolve=True)


@pytest.mark.parametrize("resolve", [True, False], ids=["directly", "through a proxy"])
@pytest.mark.parametrize(
    "host",
    [
        *("2130706433", "127.1", "0177.0.0.1", "0x7f000001", "0x7f.1", "127.0.0.1.", "0"),
        *("169.254.169.254", "0xa9fea9fe", "10.0.0.1"),
        *("[fe80::1]", "[::ffff:10.0.0.1]", "[64:ff9b::a00:1]"),
        *("localhost", "a.localhost", "localhost."),
    ],
)
def test_an_address_is_refused_however_it_is_written(host, resolve):
    with pytest.raises(RegistryAnswerError, match="not followed"):
        check_redirect(
            "https://93.184.216.34/", f"https://{host}/b", "93.184.216.34", resolve=resolve
        )


def test_a_name_is_for_the_proxy_to_judge():
    check_redirect("https://ghcr.io/", "https://cdn.internal/b", "ghcr.io", resolve=False)


def test_name_that_nobody_knows_is_an_error_of_the_network():
    with pytest.raises(RegistryUnavailableError):
        check_redirect("https://a.example/", "https://b.invalid/", "93.184.216.34", resolve=True)


def reached(first, *exempt):
    """What is judged after the registry has been connected to at its first address."""
    found = Reached("r.example", exempt)
    found.judge("r.example", [ip_of(first)])
    return found


@pytest.mark.parametrize(
    ("own", "address"),
    [
        ("93.184.216.34", "93.184.216.35"),
        ("93.184.216.34", "2606:4700::1"),
        ("10.0.0.1", "10.0.0.2"),
        ("127.0.0.1", "127.0.0.2"),
        ("127.0.0.1", "10.0.0.2"),
        ("169.254.1.1", "169.254.1.2"),
    ],
)
def test_connection_outwards_or_sidewards_is_made(own, address):
    reached(own).judge("cdn.example", [ip_of(address)])
    reached(own).judge("r.example", [ip_of(address if own != "127.0.0.1" else own)])


@pytest.mark.parametrize(
    ("own", "address"),
    [
        ("93.184.216.34", "127.0.0.1"),
        ("93.184.216.34", "10.0.0.1"),
        ("93.184.216.34", "169.254.169.254"),
        ("93.184.216.34", "::ffff:169.254.169.254"),
        ("93.184.216.34", "64:ff9b::a9fe:a9fe"),
        ("93.184.216.34", "2002:a9fe:a9fe::1"),
        ("10.0.0.1", "127.0.0.1"),
        ("127.0.0.1", "169.254.169.254"),
    ],
)
def test_connection_inwards_is_refused_whatever_name_leads_there(own, address):
    for host in ("cdn.example", "r.example", "R.example."):
        with pytest.raises(RegistryAnswerError, match=r"address: not followed"):
            reached(own).judge(host, [ip_of("93.184.216.36"), ip_of(address)])


def test_host_that_the_configuration_names_may_be_anywhere():
    reached("93.184.216.34", "login.example").judge("login.example", [ip_of("10.0.0.1")])
