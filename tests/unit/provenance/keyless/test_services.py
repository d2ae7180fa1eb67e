"""Which services sign: those that are in use and understood, the newest of each operator."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from modelrunner.errors import ConfigError
from modelrunner.provenance.keyless.roots import Root
from modelrunner.provenance.keyless.services import Log, Services

ROOT = "application/vnd.dev.sigstore.trustedroot+json;version=0.1"
NOW = datetime(2026, 6, 1, tzinfo=UTC)


def entry(url: str, version: int = 1, operator: str = "a", **period: str) -> dict[str, Any]:
    return {
        "url": url,
        "majorApiVersion": version,
        "operator": operator,
        **({"validFor": period} if period else {}),
    }


def services(tmp_path: Path, *, logged: bool = True, **said: object) -> Services:
    root = {"mediaType": ROOT, "tlogs": [{}] if logged else []}
    config = {"caUrls": [entry("https://ca")], "tsaUrls": [entry("https://tsa")], **said}
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"trustedRoot": root, "signingConfig": config}))
    return Services.of(Root.load(path), NOW)


def test_the_newest_of_an_operator_that_is_in_use_counts(tmp_path: Path) -> None:
    found = services(
        tmp_path,
        rekorTlogUrls=[
            entry("https://old", 1),
            entry("https://over", 2, end="2026-01-01T00:00:00Z"),
            entry("https://new/", 2, start="2026-05-01T00:00:00Z"),
            entry("https://unknown", 3),
        ],
        rekorTlogConfig={"selector": "ANY"},
    )

    assert found == Services("https://ca", ("https://tsa",), Log("https://new", 2))


def test_as_many_clocks_as_are_asked_for_are_asked(tmp_path: Path) -> None:
    clocks = [entry(f"https://{name}", operator=name) for name in "abc"]

    assert len(services(tmp_path, tsaUrls=clocks).clocks) == 3
    assert len(services(tmp_path, tsaUrls=clocks, tsaConfig={"selector": "ANY"}).clocks) == 1
    exact = {"selector": "EXACT", "count": 2}
    assert len(services(tmp_path, tsaUrls=clocks, tsaConfig=exact).clocks) == 2
    with pytest.raises(ConfigError, match="`tsaUrls` has 3 of 4 that are asked for"):
        services(tmp_path, tsaUrls=clocks, tsaConfig={"selector": "EXACT", "count": 4})


def test_where_the_root_lists_no_log_none_is_used(tmp_path: Path) -> None:
    logs = [entry("https://log", 2)]

    assert services(tmp_path, logged=False, rekorTlogUrls=logs).log is None


def test_something_has_to_say_when_it_was_signed(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nothing says when a signature was made"):
        services(tmp_path, tsaUrls=[], rekorTlogUrls=[entry("https://log", 2)])

    found = services(tmp_path, tsaUrls=[], rekorTlogUrls=[entry("https://log", 1)])
    assert (found.clocks, found.log) == ((), Log("https://log", 1))


def test_the_public_services_are_in_the_package() -> None:
    """Its signed configuration is of the form that is read for an instance of one's own."""
    import sigstore

    folder = Path(sigstore.__file__).parent / "_store"
    (found,) = folder.glob("*tuf-repo-cdn.sigstore.dev")
    root = json.loads((found / "trusted_root.json").read_text())
    config = json.loads((found / "signing_config.v0.2.json").read_text())
    read = Root(
        found,
        b"",
        is_config=True,
        authorities=(),
        timestamps=(),
        has_log=bool(root["tlogs"]),
        services=config,
    )

    services = Services.of(read, NOW)

    assert services.authority == "https://fulcio.sigstore.dev"
    assert services.clocks == ("https://timestamp.sigstore.dev/api/v1/timestamp",)
    assert services.log is not None
