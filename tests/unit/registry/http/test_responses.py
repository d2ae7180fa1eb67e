"""What a registry's answers mean."""

import json
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelrunner.errors import (
    DeniedError,
    ManifestNotFoundError,
    ModelRunnerError,
    RateLimitedError,
    RegistryAnswerError,
    RegistryUnavailableError,
    UnauthorizedError,
)
from modelrunner.registry.credentials import Credential
from modelrunner.registry.http.responses import error_for


def answer(status, body=b"", **headers):
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return error_for(status, named, body, what="ai/m:1", registry="docker.io")


def spec(code, message="said"):
    return json.dumps({"errors": [{"code": code, "message": message}]}).encode()


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (401, b"", UnauthorizedError),
        (403, spec("UNAUTHORIZED"), UnauthorizedError),
        (403, spec("DENIED"), DeniedError),
        (403, b"", DeniedError),
        (404, b"", ManifestNotFoundError),
        (404, spec("NAME_UNKNOWN"), ManifestNotFoundError),
        (408, b"", RegistryUnavailableError),
        (429, b"", RateLimitedError),
        (500, b"", RegistryUnavailableError),
        (502, b"<html>", RegistryUnavailableError),
        (503, b"", RegistryUnavailableError),
        (504, b"", RegistryUnavailableError),
        (599, b"", RegistryUnavailableError),
        (302, b"", RegistryAnswerError),
        (400, spec("MANIFEST_INVALID"), RegistryAnswerError),
        (418, b"", RegistryAnswerError),
    ],
)
def test_status_has_its_error(status, body, kind):
    error = answer(status, body)
    assert type(error) is kind
    assert "ai/m:1" in error.message
    assert "docker.io" in error.message


def test_private_and_absent_are_not_told_apart():
    assert "not found, or login required" in answer(401).message


def test_missing_repository_is_told_from_a_missing_tag():
    assert answer(404, spec("NAME_UNKNOWN")).facts["missing"] == "repository"
    assert answer(404, spec("MANIFEST_UNKNOWN")).facts["missing"] == "manifest"


def test_rate_limit_says_how_long():
    error = answer(429, Retry_After="7")
    assert error.facts["retry_after_s"] == 7
    assert "wait 7 s" in error.message


def test_retry_after_may_be_a_date():
    later = datetime.now(UTC) + timedelta(seconds=90)
    error = answer(503, Retry_After=format_datetime(later, usegmt=True))
    assert 85 <= error.facts["retry_after_s"] <= 91


def test_date_that_has_passed_is_no_wait():
    error = answer(429, Retry_After="Wed, 21 Oct 2015 07:28:00 GMT")
    assert error.facts["retry_after_s"] == 0


@pytest.mark.parametrize(
    "text",
    [
        "",
        "soon",
        "-5",
        "1e3",
        "9" * 400,
        "Wed, 21 Oct 99999999999999999999 07:28:00 GMT",
        "٣",
        "1.5",
    ],
)
def test_retry_after_that_cannot_be_read_is_as_none(text):
    assert "retry_after_s" not in answer(429, Retry_After=text).facts


@given(st.text(max_size=60))
def test_no_retry_after_breaks_anything(text):
    assert isinstance(answer(429, Retry_After=text), RateLimitedError)


@given(st.binary(max_size=200), st.integers(300, 599))
def test_no_body_breaks_anything(body, status):
    assert isinstance(answer(status, body), ModelRunnerError)


@pytest.mark.parametrize(
    "body",
    [
        b'{"errors": null}',
        b'{"errors": [null]}',
        b'{"errors": {"code": 1}}',
        b'{"errors": [{"code": {}, "message": []}]}',
        b"[" * 100_000,
        b"null",
    ],
)
def test_errors_that_are_not_the_specifications_are_passed_over(body):
    assert type(answer(403, body)) is DeniedError


def test_message_of_the_registry_is_one_safe_line():
    error = answer(500, spec("X", "line\nbreak \x1b[31mred\x1b]0;title\x07 " + "long" * 200))
    assert "\x1b" not in error.message
    assert "\n" not in error.message
    assert len(error.message) < 400


def test_name_that_a_registry_does_not_take_has_a_hint():
    error = answer(400, spec("NAME_INVALID", "names under local/ belong to one machine"))
    assert error.message.endswith("HTTP 400 (names under local/ belong to one machine)")
    assert error.hint == "use another name: `modelrunner tag MODEL NAME` gives a model one"


def test_secret_that_a_registry_repeats_is_masked():
    secret = Credential("me", "s3cret-word").password
    body = json.dumps({"errors": [{"code": "DENIED", "message": f"{secret} is wrong"}]}).encode()
    error = error_for(403, {}, body, what="m", registry="r.example")
    assert error.message == "m: r.example denies access (*** is wrong)"


def test_secret_that_contains_another_one_is_masked_whole():
    for secret in ("s3cret", "s3cret-word", "s3cret-word-of-mine", "s3cret-w"):
        Credential("me", secret)
    body = spec("DENIED", "s3cret-word-of-mine is wrong")
    error = error_for(403, {}, body, what="m", registry="r.example")
    assert error.message == "m: r.example denies access (*** is wrong)"


def test_word_that_is_too_short_to_be_a_secret_is_not_masked():
    assert Credential("me", "the").password == "the"
    body = json.dumps({"errors": [{"code": "DENIED", "message": "other people"}]}).encode()
    assert "other people" in error_for(403, {}, body, what="m", registry="r").message
