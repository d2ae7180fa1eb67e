"""Cards from Docker Hub's API over real HTTP: asked once a day, kept, and never trusted."""

import contextlib
import os
import socket
import threading

import pytest

from modelrunner.cards.catalog import Catalog
from modelrunner.errors import (
    CardNotFoundError,
    ConfigError,
    DeniedError,
    InterruptedTransferError,
    NotInStoreError,
    RateLimitedError,
    RegistryAnswerError,
    RegistryUnavailableError,
    TransferError,
)
from modelrunner.oci.reference import Reference
from modelrunner.operations.catalog.card_source import FRESH_S, CardSource
from modelrunner.registry.docker_hub import DESCRIPTION_LIMIT, DockerHubApi, docker_hub_endpoint
from modelrunner.registry.http.retry import NO_RETRY, Backoff
from tests.support.clock import Clock
from tests.support.docker_hub import Hub

MODEL = Reference.parse("ai/newcomer:1B")
PAGE = """# Newcomer

## Available model variants
| Model variant | Parameters | Quantization | Context window | VRAM | Size |
|---|---|---|---|---|---|
| `ai/newcomer:1B` | 1B | Q8_0 | 131K tokens | 2 GiB | 1 GB |
"""


@pytest.fixture
def hub():
    with Hub() as running:
        running.add("ai/newcomer", PAGE)
        yield running


@pytest.fixture
def clock():
    return Clock(1_800_000_000.0)


@pytest.fixture
def source(hub, tmp_path, clock):
    return cards(tmp_path, hub.url, clock)


def cards(tmp_path, address, clock):
    api = DockerHubApi(docker_hub_endpoint(address), backoff=NO_RETRY, read_timeout_s=2)
    return CardSource(Catalog.load(), tmp_path / "cards", api.description, clock)


def offline(source):
    return CardSource(source.catalog, source.cache, None, source.now)


def kept_since(source, clock, seconds):
    """Let the copies be so old."""
    for path in source.cache.rglob("*.md"):
        os.utime(path, (clock() - seconds, clock() - seconds))


def test_a_card_that_is_not_in_the_catalogue_comes_from_hub(hub, source):
    found = source.find(MODEL)
    assert (found.source, found.name, found.problem) == ("hub", "ai/newcomer", None)
    assert found.card.title == "Newcomer"
    assert found.card.variants[0].references == ("ai/newcomer:1B",)
    assert [request.path for request in hub.requests] == [
        "/v2/namespaces/ai/repositories/newcomer/"
    ]
    assert hub.requests[0].authorization is None


def test_a_card_of_the_catalogue_asks_nobody(hub, source):
    found = source.find(Reference.parse("docker.io/ai/granite-4.0-micro:3B"))
    assert (found.source, found.fetched) == ("catalogue", None)
    assert hub.requests == []


def test_a_copy_is_used_for_a_day(hub, source, clock):
    source.find(MODEL)
    kept_since(source, clock, FRESH_S - 1)
    assert source.find(MODEL).fetched == clock() - FRESH_S + 1
    assert hub.count() == 1
    kept_since(source, clock, FRESH_S)
    assert source.find(MODEL).problem is None
    assert hub.count() == 2


def test_a_copy_from_the_future_is_not_trusted_to_be_fresh(hub, source, clock):
    source.find(MODEL)
    kept_since(source, clock, -3600)
    source.find(MODEL)
    assert hub.count() == 2


@pytest.mark.parametrize("status", [429, 500, 503])
def test_an_old_copy_is_served_where_hub_fails_and_says_why(hub, source, clock, status):
    source.find(MODEL)
    kept_since(source, clock, 2 * FRESH_S)
    hub.answer(status, times=None)
    found = source.find(MODEL)
    assert found.card.title == "Newcomer"
    assert found.fetched == clock() - 2 * FRESH_S
    assert hub.url in found.problem


def test_an_old_copy_is_served_where_nobody_listens(hub, source, clock):
    source.find(MODEL)
    kept_since(source, clock, 2 * FRESH_S)
    hub.close()
    assert "cannot reach" in source.find(MODEL).problem


def test_offline_a_copy_of_any_age_will_do(hub, source, clock):
    with pytest.raises(NotInStoreError, match="ai/newcomer: no card on this machine"):
        offline(source).find(MODEL)
    source.find(MODEL)
    kept_since(source, clock, 100 * FRESH_S)
    assert offline(source).find(MODEL).problem == "--offline is set"
    assert hub.count() == 1


def test_a_damaged_copy_is_a_card_like_any_text(source, clock):
    source.find(MODEL)
    path = source.cache / "ai" / "newcomer.md"
    path.write_bytes(b"\xff\x00\x1b[2J" * 1000)
    kept_since(source, clock, 1)
    assert "the card is not valid UTF-8" in source.find(MODEL).card.warnings


def test_a_cache_that_cannot_be_written_is_done_without(source, tmp_path):
    (tmp_path / "cards").write_text("a file in the place of the folder")
    assert source.find(MODEL).card.title == "Newcomer"


def test_half_a_copy_is_never_left(source):
    source.find(MODEL)
    assert [path.name for path in source.cache.rglob("*") if path.is_file()] == ["newcomer.md"]


def test_a_repository_that_hub_does_not_have_is_not_found(hub, source):
    with pytest.raises(CardNotFoundError) as raised:
        source.find(Reference.parse("ai/granite-4.0-mcro"))
    assert (
        raised.value.message
        == "ai/granite-4.0-mcro: card not found in the catalog or on Docker Hub"
    )
    assert "ai/granite-4.0-micro" in raised.value.facts["near_misses"]
    assert "ai/granite-4.0-micro" in raised.value.hint
    assert hub.count() == 1


def test_a_repository_that_is_gone_takes_its_copy_along(hub, source, clock):
    source.find(MODEL)
    kept_since(source, clock, FRESH_S)
    hub.remove("ai/newcomer")
    with pytest.raises(CardNotFoundError):
        source.find(MODEL)
    with pytest.raises(NotInStoreError):
        offline(source).find(MODEL)


@pytest.mark.parametrize("text", [None, "", " \n"])
def test_a_repository_without_a_description_has_no_card(hub, source, text):
    hub.add("ai/newcomer", text)
    with pytest.raises(CardNotFoundError, match="Docker Hub has no description of it"):
        source.find(MODEL)
    assert not source.cache.exists()


@pytest.mark.parametrize(
    "name", ["ghcr.io/ai/newcomer", "hf.co/ai/newcomer", "localhost:5000/ai/newcomer", "a/b/c"]
)
def test_only_docker_hubs_repositories_are_looked_up_there(hub, source, name):
    with pytest.raises(CardNotFoundError, match="card not found in the catalog"):
        source.find(Reference.parse(name))
    with pytest.raises(CardNotFoundError):
        DockerHubApi(docker_hub_endpoint(hub.url)).description(Reference.parse(name))
    assert hub.requests == []


def test_another_namespace_has_cards_too(hub, source):
    hub.add("team/tool", "# Tool\n")
    found = source.find(Reference.parse("team/tool"))
    assert (found.name, found.card.title) == ("team/tool", "Tool")
    # references of other namespaces are not held against Docker's own
    assert found.card.warnings == ()


def test_what_hub_says_is_cleaned(hub, source):
    hub.add("ai/newcomer", "# New\x1b[2Jcomer \u202eevil\ud800\n")
    card = source.find(MODEL).card
    assert card.title == "Newcomer evil?"
    assert "control characters were removed" in card.warnings


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (401, DeniedError),
        (403, DeniedError),
        (429, RateLimitedError),
        (500, RegistryUnavailableError),
        (503, RegistryUnavailableError),
        (418, RegistryAnswerError),
        (204, RegistryAnswerError),
    ],
)
def test_a_refusal_is_an_error_of_ours(hub, source, status, error):
    hub.answer(status, times=None)
    with pytest.raises(error) as raised:
        source.find(MODEL)
    assert raised.value.message.startswith("ai/newcomer:1B: ")
    assert not source.cache.exists()


def test_a_rate_limit_says_for_how_long_and_speaks_of_no_login(hub, source):
    hub.answer(429, headers={"Retry-After": "90"})
    with pytest.raises(RateLimitedError) as raised:
        source.find(MODEL)
    assert raised.value.facts["retry_after_s"] == 90
    assert "try again later" in raised.value.hint
    assert "login" not in raised.value.hint


def test_a_refused_connection_names_what_is_alike(tmp_path, clock):
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        source = cards(tmp_path, f"http://127.0.0.1:{bound.getsockname()[1]}", clock)
        with pytest.raises(RegistryUnavailableError) as raised:
            source.find(Reference.parse("ai/granite-4.0-mcro"))
    assert "cannot reach" in raised.value.message
    assert "did you mean `ai/granite-4.0-micro`" in raised.value.hint


@pytest.mark.parametrize("document", [[], "text", 1, None, {"message": "x"}])
def test_an_answer_without_a_description_is_none(hub, source, document):
    hub.say(document)
    with pytest.raises(RegistryAnswerError, match="no description in the answer"):
        source.find(MODEL)


@pytest.mark.parametrize("text", [1, True, ["# A"], {"text": "# A"}])
def test_a_description_that_is_no_text_is_refused(hub, source, text):
    hub.add("ai/newcomer", text)
    with pytest.raises(RegistryAnswerError, match="invalid description"):
        source.find(MODEL)


@pytest.mark.parametrize("body", [b"", b"{", b"\xff\xfe", b"[" * 100_000])
def test_an_answer_that_is_no_json_is_refused(hub, source, body):
    hub.say(body)
    with pytest.raises(RegistryAnswerError, match="expected JSON from"):
        source.find(MODEL)


def test_a_web_page_is_told_as_such(hub, source):
    hub.html()
    with pytest.raises(RegistryAnswerError, match="returned a web page"):
        source.find(MODEL)


def test_a_web_page_that_claims_to_be_json_is_told_as_such(hub, source):
    hub.say(b"  <!DOCTYPE html><html></html>")
    with pytest.raises(RegistryAnswerError, match="returned a web page"):
        source.find(MODEL)


def test_an_answer_is_not_read_beyond_its_limit(hub, source):
    hub.add("ai/newcomer", "x" * 3 * DESCRIPTION_LIMIT)
    with pytest.raises(RegistryAnswerError, match="exceeds 2097152 bytes"):
        source.find(MODEL)
    hub.add("ai/newcomer", "# Long\n" + "x" * (DESCRIPTION_LIMIT - 2000))
    assert source.find(MODEL).card.title == "Long"


def test_silence_ends(hub, tmp_path, clock):
    hub.latency(30)
    api = DockerHubApi(docker_hub_endpoint(hub.url), backoff=NO_RETRY, read_timeout_s=0.2)
    with pytest.raises(InterruptedTransferError, match="no data received"):
        api.description(MODEL)


def test_what_may_pass_is_tried_once_more(hub, clock):
    patience = Backoff(attempts=2, sleep=clock.sleep)
    api = DockerHubApi(docker_hub_endpoint(hub.url), backoff=patience)
    hub.answer(503, times=1)
    assert api.description(MODEL) == PAGE
    hub.reset(times=1)
    assert api.description(MODEL) == PAGE
    assert (hub.count(), len(clock.slept)) == (4, 2)


def test_a_redirect_on_the_same_host_is_followed(hub, source):
    hub.redirect_to("/v2/namespaces/ai/repositories/newcomer", 1, 301, on="repository")
    assert source.find(MODEL).card.title == "Newcomer"


def test_a_redirect_to_another_host_is_not_followed(hub, source):
    with Hub() as other:
        hub.redirect_to(f"{other.url}/v2/namespaces/ai/repositories/newcomer/", on="repository")
        with pytest.raises(RegistryAnswerError, match="not followed"):
            source.find(MODEL)
        assert other.requests == []


@pytest.mark.parametrize("target", ["//[", "ftp://127.0.0.1/x", "http://a@127.0.0.1/", "http://"])
def test_a_redirect_to_nonsense_is_an_error_of_ours(hub, source, target):
    hub.redirect_to(target, on="repository")
    with pytest.raises(RegistryAnswerError):
        source.find(MODEL)


def test_redirects_in_circles_end(hub, source):
    hub.redirect_loop(on="repository")
    with pytest.raises(RegistryAnswerError, match="more than 8 redirects"):
        source.find(MODEL)


def test_a_proxy_is_used(tmp_path, clock, monkeypatch):
    asked = []

    def refuse(listener):
        with contextlib.suppress(OSError):
            while True:
                connection, _peer = listener.accept()
                with connection:
                    asked.append(connection.recv(4096).split(b"\r\n")[0])
                    connection.sendall(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=refuse, args=[listener])
        thread.start()
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{listener.getsockname()[1]}")
        with pytest.raises(TransferError, match="proxy"):
            cards(tmp_path, "https://hub.test", clock).find(MODEL)
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()
    assert {line.rpartition(b" ")[0] for line in asked} == {b"CONNECT hub.test:443"}


@pytest.mark.parametrize(
    "address",
    [
        *("hub.docker.com", "", "ftp://hub.docker.com", "https://", "https://a:b@hub.docker.com"),
        *(
            "http://hub.docker.com",
            "http://192.0.2.1:80",
            "https://h:99999",
            "https://[",
            "http:/x",
        ),
    ],
)
def test_the_address_is_https_or_of_this_machine(address):
    with pytest.raises(ConfigError, match="hub_api"):
        docker_hub_endpoint(address)


def test_the_address_may_have_a_path():
    assert (
        docker_hub_endpoint("https://proxy.example.com/hub/").base
        == "https://proxy.example.com/hub"
    )
    assert docker_hub_endpoint("http://[::1]:8000").base == "http://[::1]:8000"
