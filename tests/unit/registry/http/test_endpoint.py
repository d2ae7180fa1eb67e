"""Where registries and their mirrors are, and whose login each may see."""

import pytest

from modelrunner.errors import ConfigError
from modelrunner.registry.http.endpoint import Endpoint
from modelrunner.registry.settings import RegistrySettings


@pytest.mark.parametrize(
    ("registry", "base"),
    [
        ("docker.io", "https://registry-1.docker.io"),
        ("ghcr.io", "https://ghcr.io"),
        ("localhost:5000", "http://localhost:5000"),
        ("127.0.0.1", "http://127.0.0.1"),
        ("[::1]:5000", "http://[::1]:5000"),
        ("10.0.0.1:5000", "https://10.0.0.1:5000"),
    ],
)
def test_only_this_machine_is_spoken_to_in_plain_http(registry, base):
    assert Endpoint.of_registry(registry).base == base


@pytest.mark.parametrize(
    ("insecure", "base", "is_open"),
    [
        (None, "http://localhost:5000", True),
        (True, "http://localhost:5000", False),
        (False, "https://localhost:5000", False),
    ],
)
def test_configuration_says_what_this_machine_speaks_or_it_is_found_out(insecure, base, is_open):
    endpoint = Endpoint.of_registry("localhost:5000", insecure=insecure)
    assert (endpoint.base, endpoint.guess is not None) == (base, is_open)


def test_plain_http_elsewhere_is_for_the_configuration_to_say():
    assert Endpoint.of_registry("r.example", insecure=True).base == "http://r.example"


@pytest.mark.parametrize(
    ("address", "base"),
    [
        ("http://127.0.0.1:5001", "http://127.0.0.1:5001"),
        ("http://127.0.0.1:5001/", "http://127.0.0.1:5001"),
        ("http://127.0.0.1:5001/v2/", "http://127.0.0.1:5001"),
        ("https://m.example/proxy/hub", "https://m.example/proxy/hub"),
        ("https://m.example/proxy/v2", "https://m.example/proxy"),
        ("https://m.example/proxyv2", "https://m.example/proxyv2"),
        ("m.example", "https://m.example"),
        ("m.example:8443/hub", "https://m.example:8443/hub"),
    ],
)
def test_mirror_is_an_address_maybe_below_a_path(address, base):
    assert Endpoint.of_mirror("docker.io", address).base == base


@pytest.mark.parametrize(
    "address",
    ["", "ftp://m.example", "https://", "https://user:pw@m.example", "https://[::1", "https://a:b"],
)
def test_mirror_that_is_no_address_is_a_mistake_in_the_configuration(address):
    with pytest.raises(ConfigError):
        Endpoint.of_mirror("docker.io", address)


def test_mirror_on_another_machine_in_plain_http_needs_a_word_in_the_configuration():
    with pytest.raises(ConfigError, match="plain http") as caught:
        Endpoint.of_mirror("docker.io", "http://10.0.0.5:5001")
    assert '[registries."10.0.0.5:5001"] insecure = true' in (caught.value.hint or "")
    allowed = {"10.0.0.5:5001": RegistrySettings(insecure=True)}
    mirror = Endpoint.of_mirror("docker.io", "http://10.0.0.5:5001", registries=allowed)
    assert mirror.base == "http://10.0.0.5:5001"


def test_mirror_has_the_realms_and_certificates_of_its_own_host():
    said = {"m.example": RegistrySettings(realms=("login.example",), ca_file="/own.pem")}
    mirror = Endpoint.of_mirror("docker.io", "m.example", registries=said, ca_file="/all.pem")
    assert (mirror.realms, mirror.ca_file) == (("login.example",), "/own.pem")


def test_mirror_never_sees_the_login_of_the_registry():
    assert Endpoint.of_mirror("docker.io", "https://m.example").account == "m.example"
    assert Endpoint.of_registry("docker.io").account == "docker.io"
    assert Endpoint.of_registry("ghcr.io").account == "ghcr.io"


def test_place_is_called_by_the_name_that_people_know():
    assert Endpoint.of_registry("docker.io").label == "docker.io"
    assert Endpoint.of_mirror("docker.io", "https://m.example/x").label == "https://m.example/x"


def test_address_follows_what_is_spoken_by_now_where_it_is_of_this_registry():
    endpoint = Endpoint.of_registry("localhost:5000")
    assert endpoint.current("http://localhost:5000/v2/") == "http://localhost:5000/v2/"
    assert endpoint.guess is not None
    endpoint.guess.scheme = "https"
    assert endpoint.current("http://localhost:5000/v2/a?b=c") == "https://localhost:5000/v2/a?b=c"
    assert endpoint.current("https://localhost:5000/v2/") == "https://localhost:5000/v2/"
    assert endpoint.current("http://localhost:5000.example/") == "http://localhost:5000.example/"
    assert Endpoint.of_registry("ghcr.io").current("http://a/b") == "http://a/b"
