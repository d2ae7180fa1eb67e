"""Who may ask: hosts, web pages and keys, over real HTTP."""

import pytest

from tests.support.serving import Scripted, gateway, model

ONE = model("ai/one")


@pytest.mark.parametrize(
    "host", ["localhost", "127.0.0.1:12434", "127.1.2.3", "[::1]:80", "model.localhost:1"]
)
def test_this_machine_may_ask_by_any_of_its_names(host: str) -> None:
    with gateway(Scripted(), ONE) as running:
        assert running.get("/v1/models", Host=host).status == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "localhost@evil.example", "10.0.0.1", ""]
)
def test_a_name_that_somebody_points_here_is_refused(host: str) -> None:
    runtime = Scripted()
    with gateway(runtime, ONE) as running:
        assert running.get("/v1/models", Host=host).status == 403
        assert running.chat("one", Host=host).status == 403
    assert runtime.started == []


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "null", "http://localhost.evil.example", "file://", "x"]
)
def test_a_web_page_from_elsewhere_is_refused(origin: str) -> None:
    runtime = Scripted()
    with gateway(runtime, ONE) as running:
        answer = running.chat("one", Origin=origin)
        assert answer.status == 403
        assert "access-control-allow-origin" not in answer.headers
        assert running.ask("OPTIONS", "/v1/chat/completions", Origin=origin).status == 403
    assert runtime.started == []


@pytest.mark.parametrize("origin", ["http://localhost:3000", "https://web.example"])
def test_web_pages_of_this_machine_and_those_that_are_let_in_may_ask(origin: str) -> None:
    with gateway(Scripted(), ONE, origins=frozenset({"https://web.example"})) as running:
        before = running.ask("OPTIONS", "/v1/chat/completions", Origin=origin)
        answer = running.chat("one", Origin=origin)
    assert (before.status, answer.status) == (204, 200)
    for each in (before, answer):
        assert each.headers["access-control-allow-origin"] == origin
        assert "access-control-allow-credentials" not in each.headers


def test_with_a_key_nothing_is_open_but_the_health() -> None:
    with gateway(Scripted(), ONE, api_key="secret") as running:
        for path in ("/v1/models", "/models", "/metrics", "/engines/ps", "/", "/nowhere"):
            assert running.get(path).status == 401
            assert running.get(path, Authorization="Bearer wrong").status == 401
            assert running.get(path, Authorization="Basic secret").status == 401
            assert running.get(path, Authorization="Bearer secret").status in {200, 404}
        assert running.chat("one").json["error"]["code"] == "invalid_api_key"
        assert running.get("/health").json == {"status": "ok"}


def test_a_key_that_is_no_ascii_is_wrong_like_any_other() -> None:
    with gateway(Scripted(), ONE, api_key="secret") as running:
        assert running.get("/v1/models", Authorization="Bearer s\xe9cret").status == 401


def test_the_key_of_clients_does_not_open_the_controls() -> None:
    with gateway(Scripted(), ONE, api_key="secret") as running:
        for given in ({}, {"Authorization": "Bearer secret"}):
            assert running.get("/_modelrunner/models", **given).status == 404
            assert running.post("/_modelrunner/stop", {"model": "one"}, **given).status == 404
        assert running.control("GET", "models").status == 200


def test_beyond_loopback_every_name_is_good_and_the_key_decides() -> None:
    with gateway(Scripted(), ONE, api_key="secret", host="0.0.0.0") as running:
        asked = {"Host": "box.example", "Authorization": "Bearer secret"}
        assert running.get("/v1/models", **asked).status == 200
        assert running.get("/v1/models", Host="box.example").status == 401
