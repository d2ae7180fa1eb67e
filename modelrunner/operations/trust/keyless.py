"""Sign without a key: a certificate for an identity, a timestamp, an entry in a log.

A key is made for one signature, and forgotten. The authority says in its certificate whose it was,
by the word of an identity provider; timestamp and log say that it signed while the certificate was
valid. What has come together is verified as everybody else will, before anything is kept.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Any, TypeVar

from modelrunner.errors import (
    IdentityTokenError,
    IntegrityError,
    RegistryAnswerError,
    RegistryUnavailableError,
)
from modelrunner.provenance.certificates import Named, named_in
from modelrunner.provenance.keyless import requests
from modelrunner.provenance.keyless.requests import AnswerError, EphemeralKey, TimestampQuery
from modelrunner.provenance.keyless.roots import Root
from modelrunner.provenance.keyless.services import Log, Services, require_sigstore
from modelrunner.provenance.keyless.tokens import (
    AMBIENT,
    IdentityToken,
    TokenRequest,
    ambient,
    read_token,
    token_text,
)
from modelrunner.provenance.keyless.verifying import NotVerifiedError, verify_bundle
from modelrunner.provenance.signing import SignedBundle, Unsigned
from modelrunner.registry.http.responses import rate_limited
from modelrunner.registry.services import Answer, ServiceClient
from modelrunner.text import sanitize_line
from modelrunner.wire import parse_object

Read = TypeVar("Read")

_AUDIENCE = "sigstore"
_JSON = {"Content-Type": "application/json", "Accept": "application/json"}
_TIMESTAMP = {
    "Content-Type": "application/timestamp-query",
    "Accept": "application/timestamp-reply",
}
_REFUSED = (HTTPStatus.BAD_REQUEST, HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN)


@dataclass(frozen=True, slots=True)
class IdentitySigner:
    """Signs for the identity of a token.

    Attributes:
        token: The identity, by the word of its provider.
        services: Who makes certificates, timestamps and entries.
        trust_config: The instance that they are of; None for the public one.
        client: Sends the requests.
    """

    token: IdentityToken
    services: Services
    trust_config: Path | None
    client: ServiceClient = field(repr=False)

    def sign(self, statement: Unsigned) -> SignedBundle:
        """Sign a statement.

        Raises:
            IdentityTokenError: The authority does not believe the token.
            TransferError: A service does not answer, or answers nonsense.
            IntegrityError: What they have answered does not verify.
        """
        key = EphemeralKey.make()
        certificate = self._certificate(key)
        named = named_in(certificate)
        signature = key.sign(statement.signed)
        material: dict[str, Any] = {
            "certificate": {"rawBytes": requests.encoded(certificate)},
            "tlogEntries": [],
            "timestampVerificationData": {
                "rfc3161Timestamps": [
                    {"signedTimestamp": requests.encoded(self._timestamp(clock, signature))}
                    for clock in self.services.clocks
                ]
            },
        }
        if self.services.log is not None:
            entry = self._entry(self.services.log, statement, signature, certificate)
            material["tlogEntries"] = [entry]
        raw = statement.bundle(signature, material)
        self._verify(raw, named)
        return SignedBundle(raw, statement.predicate_type, named.key, named.name, named.issuer)

    def _certificate(self, key: EphemeralKey) -> bytes:
        headers = {**_JSON, "Authorization": f"Bearer {self.token.raw}"}
        answer = self._ask(
            self.services.authority, requests.CERTIFICATE_PATH, headers, key.certificate_request()
        )
        if answer.status in _REFUSED:
            raise IdentityTokenError(
                f"{answer.label} does not accept the identity token of {self.token.issuer}"
                f"{_said(answer)}",
                hint="check the token's issuer and audience, and whether it has expired",
            )
        # without the authorities: they are those of the trusted root
        return _understood(answer, "a certificate", requests.certificates_in)[0]

    def _timestamp(self, clock: str, signature: bytes) -> bytes:
        query = TimestampQuery.over(signature)
        answer = self._ask(clock, "", _TIMESTAMP, query.raw)
        return _understood(answer, "a timestamp", query.answered)

    def _entry(
        self, log: Log, statement: Unsigned, signature: bytes, certificate: bytes
    ) -> Mapping[str, Any]:
        envelope = statement.envelope(signature)
        content = requests.log_request(log.version, envelope, statement.signed, certificate)
        answer = self._ask(log.url, requests.log_path(log.version), _JSON, content)
        return _understood(
            answer, "a log entry", lambda raw: requests.log_entry_in(log.version, raw)
        )

    def _ask(self, url: str, path: str, headers: Mapping[str, str], content: bytes) -> Answer:
        def once() -> Answer:
            answer = self.client.ask(url, path=path, headers=headers, content=content)
            if answer.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
                raise RegistryUnavailableError(
                    f"{answer.label} returned HTTP {answer.status}{_said(answer)}",
                    hint="try again later: the error is on the service's side",
                )
            if answer.status == HTTPStatus.TOO_MANY_REQUESTS:
                said = {"registry": answer.label}
                raise rate_limited(
                    answer.headers, "sign", answer.label, said, hint="try again later"
                )
            return answer

        return self.client.backoff.run(once)

    def _verify(self, bundle: bytes, named: Named) -> None:
        try:
            verify_bundle(
                bundle,
                b"",
                identity=named.name,
                issuer=named.issuer,
                trusted_root=self.trust_config,
            )
        except NotVerifiedError as exc:
            raise IntegrityError(
                f"the new signature does not verify: {sanitize_line(str(exc), 300)}",
                hint="check that the trusted root in --trust-config is that of its services",
            ) from exc


def identity_signer(
    text: str,
    trust_config: Path | None,
    environ: Mapping[str, str],
    stdin: Callable[[int], bytes],
    client: ServiceClient,
) -> IdentitySigner:
    """Return what signs for the identity that a text names.

    Args:
        text: `FILE`, `env:NAME`, `-` or `auto`.
        trust_config: A client's configuration of one's own instance; None for the public one.
        environ: The environment.
        stdin: Reads up to a number of bytes of the standard input.
        client: Sends the requests.

    Raises:
        ConfigError: There is no token or no such configuration, or nothing is installed that signs.
        IdentityTokenError: The token cannot be used.
        TransferError: The pipeline does not give out its token.
    """
    require_sigstore()
    # what is wrong with the token is told before anything is asked for
    given = None if text == AMBIENT else token_text(text, environ, stdin)
    audience = _AUDIENCE if trust_config is None else None
    token = None if given is None else read_token(given, audience=audience)
    services = Services.public() if trust_config is None else Services.of(Root.load(trust_config))
    if token is None:
        token = read_token(_ambient(environ, client), audience=audience)
    return IdentitySigner(token, services, trust_config, client)


def _ambient(environ: Mapping[str, str], client: ServiceClient) -> str:
    found = ambient(environ, _AUDIENCE)
    if isinstance(found, str):
        return found
    answer = client.backoff.run(lambda: _give_out(found, client))
    if answer.status != HTTPStatus.OK:
        raise IdentityTokenError(
            f"the pipeline gives out no identity token: {answer.label} returned"
            f" HTTP {answer.status}",
            hint="check the job's permissions: it needs `id-token: write`",
        )
    return found.token_in(answer.body)


def _give_out(request: TokenRequest, client: ServiceClient) -> Answer:
    headers = {"Authorization": f"bearer {request.bearer}", "Accept": "application/json"}
    return client.ask(request.url, headers=headers)


def _understood(answer: Answer, what: str, read: Callable[[bytes], Read]) -> Read:
    if answer.status not in (HTTPStatus.OK, HTTPStatus.CREATED):
        raise RegistryAnswerError(
            f"{answer.label} returned HTTP {answer.status} instead of {what}{_said(answer)}"
        )
    try:
        return read(answer.body)
    except AnswerError as exc:
        raise RegistryAnswerError(
            f"{answer.label}: expected {what}, got {exc}",
            hint="check the address of the service; `--debug` logs every request",
        ) from exc


def _said(answer: Answer) -> str:
    """What a service says of an error, where it does."""
    try:
        found = parse_object(answer.body).get("message")
    except ValueError:
        return ""
    return f" ({sanitize_line(found, 200)})" if isinstance(found, str) and found else ""
