"""Who may ask: hosts, web pages and keys, over real HTTP."""

import logging
from typing import Any

import pytest

from modelrunner.serve.client.access import AccessPolicy
from modelrunner.serve.client.errors import RefusalError
from modelrunner.serve.client.keys import ApiKey, ApiKeys
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


SDK_HEADERS = {
    "openai": "authorization, content-type, openai-beta, openai-organization, openai-project,"
    " x-stainless-arch, x-stainless-lang, x-stainless-os, x-stainless-retry-count,"
    " x-stainless-runtime, x-stainless-timeout",
    "anthropic": "anthropic-beta, anthropic-dangerous-direct-browser-access, anthropic-version,"
    " content-type, x-api-key",
    "axios": "content-type,x-requested-with",
    "of tomorrow": "x-something-new",
}


@pytest.mark.parametrize("asked", SDK_HEADERS.values(), ids=SDK_HEADERS)
def test_a_page_that_may_ask_may_send_every_header(asked: str) -> None:
    with gateway(Scripted(), ONE, api_key="secret") as running:
        answer = running.ask(
            "OPTIONS",
            "/v1/chat/completions",
            Origin="http://localhost:3000",
            Access_Control_Request_Method="POST",
            Access_Control_Request_Headers=asked,
        )
    assert (answer.status, answer.body) == (204, b"")
    assert answer.headers["access-control-allow-headers"] == asked
    assert answer.headers["access-control-allow-origin"] == "http://localhost:3000"
    assert "access-control-allow-private-network" not in answer.headers


def test_a_preflight_that_asks_for_no_header_or_for_nonsense_gets_the_usual_ones() -> None:
    with gateway(Scripted(), ONE) as running:
        for asked in ({}, {"Access_Control_Request_Headers": "a: b;c"}):
            answer = running.ask("OPTIONS", "/", Origin="http://localhost", **asked)
            assert answer.headers["access-control-allow-headers"] == (
                "authorization, content-type, x-api-key"
            )


def test_a_page_of_the_internet_that_is_let_in_may_ask_a_private_address() -> None:
    with gateway(Scripted(), ONE, origins=frozenset({"https://web.example"})) as running:
        asked = {"Access_Control_Request_Private_Network": "true"}
        answer = running.ask("OPTIONS", "/v1/models", Origin="https://web.example", **asked)
        assert answer.headers["access-control-allow-private-network"] == "true"
        assert running.ask("OPTIONS", "/v1/models", Origin="https://b.example", **asked).status == (
            403
        )


def test_a_page_that_may_ask_can_read_why_it_is_refused() -> None:
    origin = "http://localhost:3000"
    with gateway(Scripted(), ONE, api_key="secret") as running:
        answers = [
            running.chat("one", Origin=origin),
            running.chat("four", Origin=origin, Authorization="Bearer secret"),
            running.get("/nowhere", Origin=origin, Authorization="Bearer secret"),
            running.get("/v1/models", Origin=origin, Host="evil.example"),
        ]
    assert [answer.status for answer in answers] == [401, 404, 404, 403]
    for answer in answers:
        assert answer.headers["access-control-allow-origin"] == origin
        assert answer.headers["access-control-expose-headers"] == (
            "request-id, retry-after, www-authenticate, x-request-id, x-should-retry"
        )


@pytest.mark.parametrize(
    ("allowed", "origin", "status"),
    [
        ("app://obsidian.md", "app://obsidian.md", 200),
        ("app://obsidian.md", "app://other", 403),
        ("vscode-webview://*", "vscode-webview://0abc", 200),
        ("vscode-webview://*", "app://0abc", 403),
        ("*", "https://any.example", 200),
        ("*", "null", 200),
    ],
)
def test_pages_of_programs_and_of_everywhere_are_let_in_on_demand(
    allowed: str, origin: str, status: int
) -> None:
    with gateway(Scripted(), ONE, origins=frozenset({allowed})) as running:
        assert running.chat("one", Origin=origin).status == status


@pytest.mark.parametrize("host", ["host.docker.internal:12434", "llm.example", "LLM.example:443"])
def test_containers_and_hosts_that_are_let_in_may_ask(host: str) -> None:
    with gateway(Scripted(), ONE, hosts=frozenset({"llm.example"})) as running:
        assert running.get("/v1/models", Host=host).status == 200
        assert running.get("/v1/models", Host="other.example").status == 403
        # and so may the pages that are served under such a name
        page = {"Host": "llm.example", "Origin": "https://llm.example"}
        assert running.chat("one", **page).status == 200


def test_a_host_that_is_refused_is_named_with_what_lets_it_in() -> None:
    with gateway(Scripted(), ONE) as running:
        answer = running.get("/v1/models", Host="box.example:80")
    assert answer.error == (
        "the host 'box.example' is not allowed: use localhost or 127.0.0.1,"
        " or start the server with `--allow-host box.example`"
    )


def test_the_key_may_come_in_anthropics_header() -> None:
    with gateway(Scripted(), ONE, api_key="secret") as running:
        assert running.get("/v1/models", X_Api_Key="secret").status == 200
        assert running.get("/v1/models", X_Api_Key="wrong").status == 401
        # clients that have a key of their own in the one send ours in the other
        both = {"X_Api_Key": "secret", "Authorization": "Bearer other"}
        assert running.get("/v1/models", **both).status == 200
        assert running.get("/_modelrunner/models", X_Api_Key="secret").status == 404


def test_with_a_key_nothing_is_open_but_the_health() -> None:
    with gateway(Scripted(), ONE, api_key="secret") as running:
        for path in ("/v1/models", "/models", "/metrics", "/engines/ps", "/", "/nowhere"):
            assert running.get(path).status == 401
            assert running.get(path, Authorization="Bearer wrong").status == 401
            assert running.get(path, Authorization="Basic secret").status == 401
            assert running.get(path, Authorization="Bearer secret").status in {200, 404}
        assert running.chat("one").json["error"]["code"] == "invalid_api_key"
        assert running.get("/health").json == {"status": "ok"}


NAMED = ApiKeys((ApiKey("secret-a", "alice"), ApiKey("secret-b", "bob"), ApiKey("secret-c")))


def test_each_of_several_keys_opens_and_its_name_is_logged_and_counted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "modelrunner.serve.relay")
    with gateway(Scripted(), ONE, api_key=NAMED) as running:
        for secret in ("secret-a", "secret-b", "secret-c"):
            assert running.chat("one", Authorization=f"Bearer {secret}").status == 200
        assert running.chat("one", X_Api_Key="secret-b").status == 200
        assert running.chat("one", Authorization="Bearer alice").status == 401
        metrics = running.get("/metrics", X_Api_Key="secret-a").body.decode()
    counted = [line for line in metrics.splitlines() if "requests_total{" in line]
    endpoint, rest = 'endpoint="chat/completions",', 'model="ai/one:latest",status="200"'
    assert sorted(counted) == [
        f'modelrunner_requests_total{{{endpoint}key="alice",{rest}}} 1',
        f'modelrunner_requests_total{{{endpoint}key="bob",{rest}}} 2',
        f"modelrunner_requests_total{{{endpoint}{rest}}} 1",
    ]
    ends = [record.getMessage().split()[6:] for record in caplog.records]
    assert ends == [["alice"], ["bob"], [], ["bob"]]
    assert "secret" not in caplog.text + metrics


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


# Changes of the store.


def policy(**more: Any) -> AccessPolicy:
    return AccessPolicy("127.0.0.1", ApiKeys(), "control", **more)


def may_change(peer: str, *, of: AccessPolicy | None = None, **headers: str) -> bool:
    """Whether a request that is let in may change the store too."""
    sent = {name.replace("_", "-").lower().encode(): v.encode() for name, v in headers.items()}
    try:
        (of or policy()).check_change(peer, sent)
    except RefusalError as exc:
        return (exc.status, exc.code) != (403, "not_allowed")
    return True


@pytest.mark.parametrize("peer", ["127.0.0.1", "127.0.0.7", "::1", "::ffff:127.0.0.1"])
def test_programs_of_this_machine_may_change_the_store(peer: str) -> None:
    assert may_change(peer, Host="localhost:12434")


@pytest.mark.parametrize("peer", ["192.168.1.7", "172.17.0.2", "::ffff:10.0.0.1", "fe80::1", ""])
def test_other_machines_may_not_change_the_store_without_the_control_key(peer: str) -> None:
    assert not may_change(peer)
    assert not may_change(peer, Authorization="Bearer wrong")
    assert may_change(peer, Authorization="Bearer control")
    assert may_change(peer, X_Api_Key="control")


@pytest.mark.parametrize(
    "header", ["X-Forwarded-For", "X-Forwarded-Proto", "X-Real-IP", "Forwarded", "Via"]
)
def test_what_a_proxy_passes_on_is_of_another_machine(header: str) -> None:
    assert not may_change("127.0.0.1", **{header: "10.0.0.1"})


def test_the_name_of_a_proxy_is_of_another_machine() -> None:
    proxied = policy(hosts=frozenset({"llm.example.com"}))
    assert not may_change("127.0.0.1", of=proxied, Host="llm.example.com")
    assert may_change("127.0.0.1", of=proxied, Host="127.0.0.1:12434")


def test_web_pages_may_not_change_the_store_but_those_that_are_named() -> None:
    page = "http://localhost:3000"
    assert not may_change("127.0.0.1", Origin=page)
    assert not may_change("127.0.0.1", Origin="null")
    assert not may_change("127.0.0.1", Origin="app://x")
    assert not may_change("127.0.0.1", of=policy(origins=frozenset({"*"})), Origin=page)
    assert may_change("127.0.0.1", of=policy(origins=frozenset({page})), Origin=page)
    assert may_change("127.0.0.1", of=policy(origins=frozenset({"app://*"})), Origin="app://x")
    assert not may_change("10.0.0.1", of=policy(origins=frozenset({page})), Origin=page)


def test_a_page_that_hides_its_origin_is_a_page() -> None:
    assert not may_change("127.0.0.1", Sec_Fetch_Site="cross-site")
    assert not may_change("127.0.0.1", Sec_Fetch_Site="same-site")
    assert may_change("127.0.0.1", Sec_Fetch_Site="none")


def test_the_control_key_opens_what_the_key_of_clients_does() -> None:
    with gateway(Scripted(), ONE, api_key="secret") as running:
        assert running.get("/v1/models", Authorization="Bearer control").status == 200
        assert running.get("/v1/models", Authorization="Bearer other").status == 401
