"""What services say that do not sign, and tokens that are of no use."""

import base64
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.conftest import CommandLine
from tests.support.artifacts import Artifact
from tests.support.registry import Registry
from tests.support.signing import Signer

CONFIG = "application/vnd.dev.sigstore.clienttrustconfig.v0.1+json"
ROOT = "application/vnd.dev.sigstore.trustedroot+json;version=0.1"
SERVICES = "application/vnd.dev.sigstore.signingconfig.v0.2+json"
FAR_AWAY = 4_000_000_000


@dataclass
class Service:
    """A server that answers everything alike.

    Attributes:
        status: Of its answer.
        body: Of its answer.
        asked: The path and the headers of each request.
    """

    status: int = 200
    body: bytes = b"{}"
    headers: dict[str, str] = field(default_factory=dict)
    asked: list[tuple[str, str]] = field(default_factory=list)
    url: str = ""


@pytest.fixture
def service() -> Iterator[Service]:
    found = Service()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", "0")))
            found.asked.append((self.path, self.headers.get("Authorization", "")))
            self.send_response(found.status)
            for name, value in found.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(found.body)))
            self.end_headers()
            self.wfile.write(found.body)

        def do_GET(self) -> None:
            self.do_POST()

        def log_message(self, *_: object) -> None:
            """Nothing is logged."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        found.url = f"http://127.0.0.1:{server.server_port}"
        yield found
        server.shutdown()
        thread.join()


def token(**claims: object) -> str:
    """A token that nobody has signed: that is for the authority to find."""
    said = {
        "iss": "https://accounts.example.com",
        "aud": "sigstore",
        "exp": FAR_AWAY,
        **claims,
    }
    parts = ({"alg": "RS256"}, said)
    texts = [base64.urlsafe_b64encode(json.dumps(part).encode()) for part in parts]
    return ".".join(text.decode().rstrip("=") for text in [*texts, b"c2lnbmF0dXJl"])


def config(url: str, *, clock: str | None = None) -> dict[str, object]:
    entry = {"majorApiVersion": 1, "operator": "tests"}
    return {
        "mediaType": CONFIG,
        "trustedRoot": {
            "mediaType": ROOT,
            "tlogs": [],
            "ctlogs": [],
            "certificateAuthorities": [],
            "timestampAuthorities": [],
        },
        "signingConfig": {
            "mediaType": SERVICES,
            "caUrls": [{**entry, "url": url}],
            "tsaUrls": [{**entry, "url": clock or url}],
        },
    }


Sign = Callable[..., "tuple[int, str]"]


@pytest.fixture
def sign(
    cli: CommandLine, registry: Registry, tiny: Artifact, service: Service, tmp_path: Path
) -> Sign:
    """Signs a model with a token; the exit code and what is said."""
    registry.add(tiny, "team/m", ["1"])
    name = registry.reference("team/m:1")
    assert cli("pull", name).returncode == 0
    path = tmp_path / "config.json"

    def run(
        text: str | None = None,
        *words: str,
        document: object = None,
        way: str = "env:TOKEN",
        environ: dict[str, str] | None = None,
    ) -> tuple[int, str]:
        path.write_text(json.dumps(config(service.url) if document is None else document))
        given = {"TOKEN": token() if text is None else text, **(environ or {})}
        tail = ("--identity-token", way, "--trust-config", str(path), *words)
        found = cli("sign", name, *tail, **given)
        assert found.stdout == ""
        return found.returncode, found.stderr

    return run


@pytest.mark.parametrize(
    ("status", "body", "code", "said"),
    [
        (
            403,
            b'{"message": "not you"}',
            4,
            "does not accept the identity token of {iss} (not you)",
        ),
        (401, b"<html>", 4, "does not accept the identity token of {iss}"),
        (404, b"", 5, "returned HTTP 404 instead of a certificate"),
        (200, b"<html>", 5, "expected a certificate, got no JSON object"),
        (201, b"[]", 5, "expected a certificate, got no JSON object"),
        (201, b"{}", 5, "expected a certificate, got no certificate"),
        (
            201,
            b'{"signedCertificateEmbeddedSct": {"chain": {"certificates": ["x"]}}}',
            5,
            "expected a certificate, got a malformed certificate",
        ),
        (201, b"[" * 100_000, 5, "expected a certificate, got no JSON object"),
        (200, b" " * (2 * 1024 * 1024), 5, "the answer is too large"),
    ],
)
def test_an_authority_that_makes_no_certificate_is_told(
    sign: Sign, service: Service, status: int, body: bytes, code: int, said: str
) -> None:
    service.status, service.body = status, body

    found, text = sign()

    assert found == code
    assert said.format(iss="https://accounts.example.com") in text
    assert "\nhint: " in text


def test_an_authority_that_is_asked_too_often_is_waited_for(sign: Sign, service: Service) -> None:
    service.status, service.headers = 429, {"Retry-After": "86400"}

    code, text = sign()

    assert code == 5
    assert "rate limit reached, wait 86400 s" in text
    assert len(service.asked) == 1


def test_an_authority_that_repeats_the_token_does_not_show_it(sign: Sign, service: Service) -> None:
    mine = token()
    service.status = 403
    service.body = json.dumps({"message": f"cannot believe {mine}\x1b[31m"}).encode()

    code, text = sign(mine, "--debug")

    assert code == 4
    assert "(cannot believe ***)" in text
    assert mine not in text
    assert "\x1b" not in text
    assert service.asked == [("/api/v2/signingCert", f"Bearer {mine}")]


def test_a_redirect_takes_the_token_nowhere(sign: Sign, service: Service) -> None:
    service.status = 307
    service.headers = {"Location": "http://127.0.0.1:9/elsewhere"}

    code, text = sign()

    assert code == 5
    assert "redirects a POST request: not followed" in text
    assert len(service.asked) == 1


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (token(exp=1_700_000_000), "the identity token has expired at 2023-11-14T22:13:20Z"),
        (token(nbf=3_900_000_000), "the identity token is not valid yet before 2093-08-"),
        (token(exp="soon"), "malformed identity token: it has no issuer, or no time"),
        ("no-token", "malformed identity token: expected three parts with dots between"),
        ("e30.W10.x", "malformed identity token: its claims are not JSON"),
    ],
)
def test_a_token_that_is_of_no_use_is_not_sent(
    sign: Sign, service: Service, text: str, said: str
) -> None:
    code, found = sign(text)

    assert code == 4
    assert said in found
    assert service.asked == []


def test_a_token_comes_from_stdin_too(cli: CommandLine) -> None:
    found = cli("sign", "team/m:1", "--identity-token", "-", stdin=f"{token(aud='x')}\n".encode())

    assert "the identity token is for x, expected sigstore" in found.stderr


def test_the_public_authority_is_only_sent_what_is_meant_for_it(
    cli: CommandLine, tmp_path: Path
) -> None:
    path = tmp_path / "token"
    path.write_text(token(aud=["models", "others"]) + "\n")

    found = cli("sign", "team/m:1", "--identity-token", str(path))

    assert found.returncode == 4
    assert found.stderr == (
        "error: the identity token is for models, others, expected sigstore\n"
        "hint: ask the identity provider for a token with the audience sigstore\n"
    )


@pytest.mark.parametrize(
    ("way", "code", "said"),
    [
        ("env:NONE", 2, "--identity-token env:NONE: the variable is not set"),
        ("nowhere", 2, "cannot read the identity token nowhere: no such file or directory"),
        (token(), 2, "--identity-token needs a file or a variable, got a token"),
        ("auto", 2, "--identity-token auto: no identity token in this environment"),
    ],
)
def test_where_there_is_no_token_is_told(sign: Sign, way: str, code: int, said: str) -> None:
    found, text = sign(way=way)

    assert found == code
    assert said in text


@pytest.mark.parametrize(
    ("before", "after"), [("Bearer ", ""), (" ", "\n"), ("env:", ""), ("", ".more"), ("'", "'")]
)
def test_a_token_in_the_command_line_is_not_repeated(sign: Sign, before: str, after: str) -> None:
    mine = token()

    for words in ((), ("--json",), ("--debug",)):
        code, text = sign(None, *words, way=f"{before}{mine}{after}")

        assert code == 2
        assert "--identity-token needs a file or a variable, got a token" in text
        assert mine.split(".")[1] not in text


def test_a_file_may_be_called_like_a_token(sign: Sign) -> None:
    assert "cannot read the identity token eyes.tar.gz: no such file" in sign(way="eyes.tar.gz")[1]


def test_an_address_with_a_password_does_not_show_it(sign: Sign) -> None:
    code, text = sign(document=config("https://me:hunter2@fulcio.example.com/x"))

    assert code == 2
    assert "invalid URL of a service 'https://fulcio.example.com/x'" in text


def test_a_job_of_github_gets_its_token_there(sign: Sign, service: Service) -> None:
    service.body = json.dumps({"value": "not.a.token"}).encode()
    job = {
        "ACTIONS_ID_TOKEN_REQUEST_URL": f"{service.url}/job?api-version=2.0",
        "ACTIONS_ID_TOKEN_REQUEST_TOKEN": "secret-of-the-job",
    }

    code, text = sign(way="auto", environ=job)

    assert code == 4
    assert "malformed identity token" in text
    assert service.asked == [("/job?api-version=2.0&audience=sigstore", "bearer secret-of-the-job")]
    service.status, service.body = 403, b"secret-of-the-job"
    code, text = sign(None, "--debug", way="auto", environ=job)
    assert code == 4
    assert "hint: check the job's permissions: it needs `id-token: write`" in text
    assert "secret-of-the-job" not in text


def test_without_a_network_nobody_is_asked(sign: Sign, service: Service) -> None:
    code, text = sign(None, "--offline")

    assert code == 9
    assert "--identity-token needs the network, but --offline is set" in text
    assert service.asked == []


def test_services_elsewhere_are_not_spoken_to_in_the_clear(sign: Sign) -> None:
    code, text = sign(document=config("http://fulcio.example.com"))

    assert code == 2
    assert "the service http://fulcio.example.com uses plain http" in text


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ({}, "is not a trusted root of Sigstore"),
        ([1], "is not a trusted root of Sigstore"),
        ({"mediaType": ROOT}, "has no signing configuration"),
        (
            {**config("https://x.example"), "signingConfig": {"caUrls": [{"url": 1}]}},
            "an entry of `caUrls` lacks its URL, version or operator",
        ),
        (
            {
                **config("https://x.example"),
                "signingConfig": {
                    "caUrls": [
                        {
                            "url": "https://x.example",
                            "majorApiVersion": 1,
                            "operator": "tests",
                            "validFor": {"start": "soon"},
                        }
                    ]
                },
            },
            "malformed signing configuration: invalid time in `validFor`",
        ),
        (
            {**config("https://x.example"), "signingConfig": {}},
            "no certificate authority is in use",
        ),
    ],
)
def test_a_configuration_that_is_none_is_told(sign: Sign, document: object, said: str) -> None:
    code, text = sign(document=document)

    assert code == 2
    assert said in text


def test_one_signs_and_not_two(cli: CommandLine, tmp_path: Path) -> None:
    key = Signer.make().publish(tmp_path / "key")

    neither = cli("sign", "team/m:1")
    both = cli("sign", "team/m:1", "--key", str(key), "--identity-token", "auto")
    alone = cli("sign", "team/m:1", "--key", str(key), "--trust-config", "x.json")

    assert neither.returncode == both.returncode == alone.returncode == 2
    assert "sign needs --key or --identity-token, got neither" in neither.stderr
    assert "sign needs --key or --identity-token, got both" in both.stderr
    assert "--trust-config needs --identity-token" in alone.stderr
