"""The log of requests: what is in it, what never is, and how large it gets."""

import json
import logging
import re
import stat
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from modelrunner.serve.observability.request_log import (
    BODY_LIMIT,
    RequestLog,
    before,
    request_log_of,
    request_logs,
    request_text,
)
from tests.support.openai_server import Reply, breaks_off, says
from tests.support.serving import Running, Scripted, gateway, model

ONE = model("ai/one")
SECRET = "sesame-open"


def entries(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def record(running: Running, path: Path, *, bodies: bool = False) -> None:
    running.pool.requests = RequestLog(path, bodies=bodies)


def test_a_request_is_noted_with_its_times_and_tokens_and_nothing_that_was_said(
    tmp_path: Path,
) -> None:
    path = tmp_path / "1.requests.jsonl"
    runtime = Scripted(scripts={"ai/one:latest": [says("private answer", usage=(20, 10))]})
    with gateway(runtime, ONE, api_key=SECRET) as running:
        record(running, path)
        key = {"Authorization": f"Bearer {SECRET}", "X_Request_Id": "mine-1"}
        assert running.chat("one", "private question", **key).status == 200
    (entry,) = entries(path)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", entry.pop("time"))
    for name in ("duration_s", "queue_s", "first_token_s"):
        assert entry.pop(name) >= 0
    assert entry == {
        "id": "mine-1",
        "method": "POST",
        "path": "/v1/chat/completions",
        "model": "ai/one:latest",
        "key": None,
        "status": 200,
        "prompt_tokens": 20,
        "completion_tokens": 10,
        "cached_tokens": None,
    }
    assert not {b"private", SECRET.encode()} & set(re.findall(rb"[\w-]+", path.read_bytes()))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_bodies_are_noted_where_they_are_wanted_and_keys_never_are(tmp_path: Path) -> None:
    path = tmp_path / "1.requests.jsonl"
    answer = says("Hel", "lo")
    runtime = Scripted(scripts={"ai/one:latest": [answer]})
    asked = b'{ "model":"one",  "messages":[{"role":"user","content":"\\u00e9"}]}'
    with gateway(runtime, ONE, api_key=SECRET) as running:
        record(running, path, bodies=True)
        key = {"X_Api_Key": SECRET}
        assert running.ask("POST", "/v1/chat/completions", asked, **key).status == 200
        assert running.chat("four", **key).status == 404
    said, refused = entries(path)
    assert said["request"] == asked.decode()
    assert said["response"] == b"".join(answer.pieces).decode()
    assert said["truncated"] is False
    assert json.loads(refused["response"])["error"]["message"].startswith("model not found")
    assert SECRET.encode() not in path.read_bytes()


def test_the_body_that_is_noted_is_the_clients(tmp_path: Path) -> None:
    path = tmp_path / "1.requests.jsonl"
    with gateway(Scripted(), replace(ONE, system="be brief")) as running:
        record(running, path, bodies=True)
        running.chat("one")
    assert "be brief" not in entries(path)[0]["request"]


def test_of_a_long_body_the_beginning_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "1.requests.jsonl"
    long = Reply((b"x" * BODY_LIMIT, b"y"), kind="application/json")
    with gateway(Scripted(scripts={"ai/one:latest": [long]}), ONE) as running:
        record(running, path, bodies=True)
        running.chat("one", "q" * BODY_LIMIT)
    (entry,) = entries(path)
    assert len(entry["request"]) == BODY_LIMIT
    assert entry["response"] == "x" * BODY_LIMIT
    assert entry["truncated"] is True


def test_an_answer_that_broke_off_is_noted_as_far_as_it_came(tmp_path: Path) -> None:
    path = tmp_path / "1.requests.jsonl"
    runtime = Scripted(scripts={"ai/one:latest": [breaks_off("I was about to")]})
    with gateway(runtime, ONE) as running:
        record(running, path, bodies=True)
        running.chat("one")
    assert "I was about to" in entries(path)[0]["response"]


def test_a_full_log_becomes_the_one_before(tmp_path: Path) -> None:
    path = tmp_path / "1.requests.jsonl"
    log = RequestLog(path, limit=100)
    for number in range(12):
        log.add({"number": number, "pad": "x" * 20})
    log.close()
    assert [entry["number"] for entry in entries(before(path))] == [8, 9]
    assert [entry["number"] for entry in entries(path)] == [10, 11]
    assert stat.S_IMODE(before(path).stat().st_mode) == 0o600


def test_what_an_earlier_server_has_left_is_removed(tmp_path: Path) -> None:
    path = tmp_path / "1.requests.jsonl"
    for each in (path, before(path)):
        each.write_text("{}\n")
    log = RequestLog(path)
    log.begin()
    log.close()
    assert [each.name for each in tmp_path.iterdir()] == [path.name]
    assert path.read_bytes() == b""


def test_a_link_that_another_user_left_is_not_written_through(tmp_path: Path) -> None:
    path, other = tmp_path / "1.requests.jsonl", tmp_path / "other"
    other.write_text("theirs")
    path.symlink_to(other)
    log = RequestLog(path)
    log.add({"a": 1})
    log.close()
    assert other.read_text() == "theirs"
    assert entries(path) == [{"a": 1}]


def test_a_directory_that_cannot_be_written_ends_no_request(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        RequestLog(tmp_path / "none" / "1.requests.jsonl").add({"a": 1})
    assert "No such file" in caplog.text


def test_logs_of_requests_are_named_by_their_server(tmp_path: Path) -> None:
    path = request_log_of(tmp_path / "0.0.0.0_12434.log")
    assert path.name == "0.0.0.0_12434.requests.jsonl"
    path.write_text("")
    before(path).write_text("")
    (tmp_path / "12434.log").write_text("")
    assert request_logs(tmp_path) == [path]


def test_a_request_in_words() -> None:
    entry = {
        "time": "2026-01-02T03:04:05Z",
        "id": "req_1",
        "method": "POST",
        "path": "/v1/chat/completions",
        "model": "ai/one:latest",
        "key": "laptop",
        "status": 200,
        "duration_s": 1.2345,
        "queue_s": 0.01,
        "first_token_s": 0.2,
        "prompt_tokens": 20,
        "completion_tokens": 10,
        "cached_tokens": 5,
    }
    assert request_text(entry) == (
        "2026-01-02T03:04:05Z 200 POST /v1/chat/completions ai/one:latest"
        " 1.23 s, queued 0.01 s, first token 0.20 s, 20 (5 cached) + 10 tokens req_1 laptop"
    )
    failed = {"time": "T", "id": "r", "method": "POST", "path": "/p", "model": None}
    bodies = {"status": 404, "duration_s": 0.001, "request": "{}", "response": "no"}
    assert request_text({**failed, **bodies}) == (
        "T 404 POST /p - 0.00 s r\nrequest: {}\nresponse: no"
    )
