"""Servers for services of Docker Compose: where containers find them."""

import pytest

from modelrunner.operations.serve import provider


@pytest.mark.parametrize(
    ("url", "bridge", "expected"),
    [
        ("http://172.17.0.1:12434", "172.17.0.1", "http://172.17.0.1:12434"),
        ("http://127.0.0.1:12434", "172.17.0.1", "http://host.docker.internal:12434"),
        ("https://[::1]:12434", None, "https://host.docker.internal:12434"),
        # no address to go to: the server is on all of this machine
        ("http://0.0.0.0:12434", "172.17.0.1", "http://172.17.0.1:12434"),
        ("http://0.0.0.0:12434", None, "http://host.docker.internal:12434"),
        ("http://[::]:12434", None, "http://host.docker.internal:12434"),
        ("http://[fd00::1]:12434", None, "http://[fd00::1]:12434"),
    ],
)
def test_containers_get_an_address_that_they_reach(
    url: str, bridge: str | None, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(provider, "interface_address", lambda _name: bridge)
    assert provider.url_for_containers(url) == expected
