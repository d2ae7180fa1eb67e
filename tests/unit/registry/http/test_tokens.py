"""Challenges read, and tokens kept as long as they are good."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelrunner.errors import RegistryAnswerError, UnauthorizedError
from modelrunner.registry.credentials import Credential
from modelrunner.registry.http.endpoint import Endpoint
from modelrunner.registry.http.tokens import Challenge, Tokens, parse_challenges
from tests.support.clock import Clock

REALM = 'Bearer realm="https://ghcr.io/token",service="ghcr.io",scope="repository:o/m:pull"'
SCOPE = "repository:o/m:pull"
SECRET = Credential("user", "s3cret")


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("", ()),
        ("Basic", (Challenge("basic", {}),)),
        ('Basic realm="a, b"', (Challenge("basic", {"realm": "a, b"}),)),
        ("BEARER REALM=x", (Challenge("bearer", {"realm": "x"}),)),
        (
            'Bearer realm="r",scope="repository:a/b:pull,push"',
            (Challenge("bearer", {"realm": "r", "scope": "repository:a/b:pull,push"}),),
        ),
        (r'Bearer realm="a \"b\" \\ c"', (Challenge("bearer", {"realm": r'a "b" \ c'}),)),
        (
            'Negotiate, Basic realm="b", Bearer realm="r" , service=s',
            (
                Challenge("negotiate", {}),
                Challenge("basic", {"realm": "b"}),
                Challenge("bearer", {"realm": "r", "service": "s"}),
            ),
        ),
        ("=nonsense", ()),
    ],
)
def test_challenge_is_read(header, expected):
    assert parse_challenges(header) == expected


@given(st.text(alphabet='aB1 ,="\\-\t;:é', max_size=200))
def test_no_challenge_breaks_anything(header):
    parse_challenges(header)


@pytest.mark.parametrize("unit", ['a="', "Bearer ", "a=b,", "\\", '"', ",", "a "])
def test_no_challenge_takes_long(unit):
    parse_challenges("Bearer " + unit * 50_000)


class Service:
    """A token service: remembers what it was asked, answers what it was told to."""

    def __init__(self, body=None, status=200):
        self.asked = []
        self.status = status
        self.body = {"token": "t0ken", "expires_in": 300} if body is None else body

    def __call__(self, method, url, parameters, headers):
        self.asked.append((method, url, dict(parameters), dict(headers)))
        return self.status, {}, self.body


def tokens(service, credential=None, clock=None, host="ghcr.io"):
    endpoint = Endpoint.of_registry(host)
    return Tokens(endpoint, lambda: credential, service, clock=clock or Clock())


def test_anonymous_token_is_asked_for_without_a_login():
    service = Service()
    assert tokens(service).answer(REALM, SCOPE) == "Bearer t0ken"
    query = {"scope": [SCOPE], "service": "ghcr.io"}
    assert service.asked == [("GET", "https://ghcr.io/token", query, {})]


@pytest.mark.parametrize(
    ("named", "asked"),
    [
        ("aws", "aws"),
        ("registry:catalog:* other", ["registry:catalog:*", "other"]),
        (SCOPE, [SCOPE]),
        ("repository:o/m:pull,push", [SCOPE, "repository:o/m:pull,push"]),
        ("repository:o/base:pull", [SCOPE, "repository:o/base:pull"]),
        ("", [SCOPE]),
    ],
)
def test_scopes_that_the_challenge_names_are_asked_for(named, asked):
    service = Service()
    tokens(service).answer(f'Bearer realm="https://ghcr.io/token",scope="{named}"', SCOPE)
    assert service.asked[0][2]["scope"] == asked


def test_password_goes_to_the_realm_as_basic():
    service = Service()
    tokens(service, SECRET).answer(REALM, SCOPE)
    assert service.asked[0][3] == {"Authorization": "Basic dXNlcjpzM2NyZXQ="}


def test_identity_token_goes_in_a_form_and_its_scopes_in_one_field():
    service = Service({"access_token": "t0ken"})
    found = tokens(service, Credential(identity_token="refresh"))
    assert found.answer(REALM, f"{SCOPE} repository:o/n:pull") == "Bearer t0ken"
    method, _url, form, headers = service.asked[0]
    assert method == "POST"
    assert form["grant_type"] == "refresh_token"
    assert form["refresh_token"] == "refresh"
    assert form["scope"] == "repository:o/m:pull repository:o/n:pull"
    assert headers == {}


def test_token_is_used_again_until_shortly_before_it_expires():
    clock = Clock()
    found = tokens(Service(), clock=clock)
    found.answer(REALM, SCOPE)
    clock.now += 289
    assert found.header(SCOPE) == "Bearer t0ken"
    clock.now += 2
    assert found.header(SCOPE) is None


@pytest.mark.parametrize("lifetime", [None, 0, -1, "300", 1.5, True, [], math.inf, 10**400])
def test_lifetime_that_is_none_is_a_minute_or_less(lifetime):
    clock = Clock()
    found = tokens(Service({"token": "t", "expires_in": lifetime}), clock=clock)
    found.answer(REALM, SCOPE)
    assert found.header(SCOPE) == "Bearer t"
    clock.now += 61
    assert found.header(SCOPE) is None


def test_token_is_for_its_scope_only():
    found = tokens(Service())
    found.answer(REALM, SCOPE)
    assert found.header("repository:o/other:pull") is None


@pytest.mark.parametrize(
    "body",
    [
        b"<html>",
        {},
        [],
        {"token": ""},
        {"token": 5},
        {"token": None},
        {"token": "two\nlines"},
        {"token": "two\rlines"},
        {"token": " leading"},
        {"token": "sm\u00f8rrebr\u00f8d"},
    ],
)
def test_answer_without_a_usable_token_is_refused_and_not_repeated(body):
    with pytest.raises(RegistryAnswerError) as caught:
        tokens(Service(body)).answer(REALM, SCOPE)
    assert "lines" not in str(caught.value)


@pytest.mark.parametrize("status", [401, 403])
def test_refused_login_is_told_from_a_private_model(status):
    with pytest.raises(UnauthorizedError, match="rejected the stored login"):
        tokens(Service(status=status), SECRET).answer(REALM, SCOPE)
    with pytest.raises(Exception, match="the token") as caught:
        tokens(Service(status=status)).answer(REALM, SCOPE)
    assert "stored login" not in str(caught.value)


def test_token_service_that_is_not_there_does_not_make_the_model_missing():
    with pytest.raises(RegistryAnswerError):
        tokens(Service(status=404)).answer(REALM, SCOPE)


def test_realm_of_a_stranger_is_asked_nothing():
    service = Service()
    for realm in ("https://evil.example/t", "http://ghcr.io/t", r"https://evil.example\@ghcr.io/t"):
        with pytest.raises(RegistryAnswerError):
            tokens(service, SECRET).answer(f'Bearer realm="{realm}"', SCOPE)
    assert service.asked == []


def test_basic_is_answered_with_the_password_and_only_with_one():
    assert tokens(Service(), SECRET).answer('Basic realm="x"', SCOPE) == "Basic dXNlcjpzM2NyZXQ="
    assert tokens(Service()).answer('Basic realm="x"', SCOPE) is None
    only_token = Credential(identity_token="refresh")
    assert tokens(Service(), only_token).answer('Basic realm="x"', SCOPE) is None


def test_secrets_are_in_no_repr():
    found = tokens(Service(), SECRET)
    found.answer(REALM, SCOPE)
    shown = repr((SECRET, Credential(identity_token="refresh"), vars(found)["_known"]))
    assert "s3cret" not in shown
    assert "refresh" not in shown
    assert "t0ken" not in shown
