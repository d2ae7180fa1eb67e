"""The services that sign without a key: an authority, clocks, and a transparency log.

A client's configuration lists them, each with the version of its interface, its operator and when
it is in use; of each operator the newest one that is understood counts (source: sigstore
`protobuf-specs`, `SigningConfig`).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from modelrunner.errors import ConfigError
from modelrunner.provenance.keyless.roots import Period, Root
from modelrunner.system import installation

_MOST_SERVICES = 100
_AUTHORITY_VERSIONS, _CLOCK_VERSIONS, LOG_VERSIONS = (1,), (1,), (1, 2)


def require_sigstore() -> None:
    """Make sure that an identity can sign.

    Raises:
        ConfigError: The extra `sigstore` is not installed.
    """
    # found, and not loaded: what is wrong with a token is told sooner
    from importlib.util import find_spec

    if find_spec("sigstore") is None or find_spec("cryptography") is None:
        raise ConfigError(
            "cannot sign for an identity: sigstore is not installed",
            hint=f"`{installation.add('sigstore')}`",
        )


@dataclass(frozen=True, slots=True)
class Log:
    """A transparency log.

    Attributes:
        url: Where it is.
        version: Of its interface: 1 or 2.
    """

    url: str
    version: int


@dataclass(frozen=True, slots=True)
class Services:
    """What signs for an identity.

    Attributes:
        authority: Where the authority is that makes certificates.
        clocks: Where timestamps are made; each signature gets one of each.
        log: The log that signatures are entered in; None for none.
    """

    authority: str
    clocks: tuple[str, ...]
    log: Log | None

    @classmethod
    def public(cls) -> "Services":
        """Return those of the public Sigstore, as its signed metadata lists them today.

        Raises:
            ConfigError: They cannot be had.
        """
        from sigstore.errors import Error as SigstoreError
        from sigstore.models import ClientTrustConfig

        try:
            config = ClientTrustConfig.production().signing_config
            authority = config.get_fulcio().url
            clocks = tuple(each.url for each in config.get_tsas())
            # the address of each client ends with the version of its interface
            address = str(getattr(config.get_tlogs()[0], "url", ""))
            log, _, version = address.rpartition("/api/v")
            return cls(authority, clocks, Log(log, 2 if version == "2" else 1))
        except (SigstoreError, OSError, ValueError) as exc:
            raise ConfigError(
                "cannot get the services of the public Sigstore",
                hint="check the network, or name an instance of your own with --trust-config",
            ) from exc

    @classmethod
    def of(cls, root: Root, now: datetime | None = None) -> "Services":
        """Return those of one's own instance.

        Args:
            root: Its configuration.
            now: The time; None for the clock's.

        Raises:
            ConfigError: It lists none, or none that is in use and understood.
        """
        said, moment = root.services, now or datetime.now(UTC)
        if said is None:
            raise ConfigError(
                f"{root.path} has no signing configuration",
                hint="give a client's trust configuration, with `trustedRoot` and `signingConfig`",
                path=str(root.path),
            )
        try:
            authorities = list(_usable(said, "caUrls", None, _AUTHORITY_VERSIONS, moment))
            clocks = list(_usable(said, "tsaUrls", "tsaConfig", _CLOCK_VERSIONS, moment))
            logs = list(_usable(said, "rekorTlogUrls", "rekorTlogConfig", LOG_VERSIONS, moment))
        except ValueError as exc:
            raise ConfigError(
                f"{root.path}: malformed signing configuration: {exc}",
                hint="correct `signingConfig`",
                path=str(root.path),
            ) from exc
        if not authorities:
            raise ConfigError(
                f"{root.path}: no certificate authority is in use",
                hint="check `caUrls` of `signingConfig`, and their `validFor`",
                path=str(root.path),
            )
        if not clocks and not any(log.version == 1 for log in logs):
            raise ConfigError(
                f"{root.path}: nothing says when a signature was made",
                hint="add a timestamp authority to `tsaUrls` of `signingConfig`",
                path=str(root.path),
            )
        log = logs[0] if logs and root.has_log else None
        return cls(authorities[0].url, tuple(clock.url for clock in clocks), log)


def _usable(
    said: Mapping[str, Any], key: str, choice: str | None, versions: tuple[int, ...], now: datetime
) -> Iterator[Log]:
    """Those of a list that are in use and understood, the newest of each operator."""
    found: dict[str, Log] = {}
    listed = said.get(key, [])
    if not isinstance(listed, list):
        raise ValueError(f"`{key}` is not a list")  # noqa: TRY004 - callers catch one type
    for entry in listed[:_MOST_SERVICES]:
        match entry:
            case {"url": str(url), "majorApiVersion": int(version), "operator": str(operator)}:
                if version not in versions or not Period.of(entry.get("validFor")).holds(now):
                    continue
                known = found.get(operator)
                if known is None or known.version < version:
                    found[operator] = Log(url.rstrip("/"), version)
            case _:
                raise ValueError(f"an entry of `{key}` lacks its URL, version or operator")
    rules = said.get(choice) if choice is not None else None
    selector = rules.get("selector", "ANY") if isinstance(rules, dict) else "ALL"
    count = rules.get("count") if isinstance(rules, dict) else None
    if selector == "ALL":
        yield from found.values()
        return
    wanted = count if selector == "EXACT" and isinstance(count, int) and count > 0 else 1
    if selector == "EXACT" and len(found) < wanted:
        raise ValueError(f"`{key}` has {len(found)} of {wanted} that are asked for")
    yield from list(found.values())[:wanted]
