"""`/metrics`, as Prometheus reads it; the dashboard, as far as it rests on them."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from modelrunner.serve.observability.latency import Timing
from modelrunner.serve.observability.metrics import Metrics
from modelrunner.serve.observability.usage import Usage
from tests.support.openai_server import Reply, breaks_off, says
from tests.support.serving import Running, Scripted, gateway, model

parser = pytest.importorskip("prometheus_client.parser")

ROOT = Path(__file__).parents[4]
ONE = model("ai/one", memory=1 << 20)
CHAT = {
    "gen_ai_operation_name": "chat",
    "gen_ai_provider_name": "modelrunner",
    "gen_ai_request_model": "ai/one:latest",
}

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def samples(text: str) -> Samples:
    found: Samples = {}
    for family in parser.text_string_to_metric_families(text):
        assert family.documentation.endswith((".", "1."))
        for each in family.samples:
            key = (each.name, frozenset(each.labels.items()))
            assert key not in found
            found[key] = each.value
    return found


def read(running: Running) -> Samples:
    return samples(running.get("/metrics").body.decode())


def at(found: Samples, name: str, **labels: str) -> float | None:
    return found.get((name, frozenset(labels.items())))


def test_an_answer_is_counted_by_the_names_of_open_telemetry() -> None:
    runtime = Scripted(scripts={"ai/one:latest": [says("Hi", usage=(20, 11))]})
    with gateway(runtime, ONE) as running:
        assert running.chat("one").status == 200
        found = read(running)
    for name in ("request_duration", "time_to_first_token", "time_per_output_token"):
        full = f"gen_ai_server_{name}_seconds"
        assert at(found, f"{full}_count", **CHAT) == 1
        assert at(found, f"{full}_bucket", le="+Inf", **CHAT) == 1
    # 200 ms for ten tokens after the first
    name = "gen_ai_server_time_per_output_token_seconds"
    assert at(found, f"{name}_sum", **CHAT) == pytest.approx(0.02)
    for kind, tokens in (("input", 20), ("output", 11)):
        usage = {**CHAT, "gen_ai_token_type": kind}
        assert at(found, "gen_ai_client_token_usage_sum", **usage) == tokens
        assert at(found, "gen_ai_client_token_usage_bucket", le="16", **usage) == (tokens <= 16)
    asked = {"model": "ai/one:latest", "endpoint": "chat/completions"}
    assert at(found, "modelrunner_queue_seconds_count", **asked) == 1


def bounds(running: Running, name: str) -> list[float]:
    return sorted(
        float(dict(labels)["le"])
        for (sample, labels) in read(running)
        if sample == f"{name}_bucket" and ("gen_ai_token_type", "output") not in labels
    )


def test_buckets_are_those_of_the_conventions() -> None:
    endless = [float("inf")]
    with gateway(Scripted(), ONE) as running:
        running.chat("one")
        assert bounds(running, "gen_ai_server_time_to_first_token_seconds") == [
            *(0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75),
            *(1.0, 2.5, 5.0, 7.5, 10.0, *endless),
        ]
        assert bounds(running, "gen_ai_server_time_per_output_token_seconds") == [
            *(0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5, *endless),
        ]
        assert bounds(running, "gen_ai_server_request_duration_seconds") == [
            *(0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48),
            *(40.96, 81.92, *endless),
        ]
        assert bounds(running, "gen_ai_client_token_usage") == [
            *(1, 4, 16, 64, 256, 1024, 4096, 16384, 65536, 262144, 1048576, 4194304),
            *(16777216, 67108864, *endless),
        ]


def test_an_error_is_counted_with_its_status_and_without_tokens() -> None:
    with gateway(Scripted(), ONE) as running:
        assert running.chat("four").status == 404
        found = read(running)
    failed = {**CHAT, "gen_ai_request_model": "", "error_type": "404"}
    assert at(found, "gen_ai_server_request_duration_seconds_count", **failed) == 1
    assert not [name for name, _ in found if name.startswith("gen_ai_client_token_usage")]


def test_names_that_clients_invent_make_no_series() -> None:
    with gateway(Scripted(), ONE) as running:
        before = None
        for name in ("a", 'b\n"}', "c" * 900):
            running.chat(name)
            series = set(read(running))
            assert before is None or series == before
            before = series


def test_label_values_are_escaped() -> None:
    odd = 'a "b" \\n c\nd'
    metrics = Metrics()
    metrics.add("unloads_total", model=odd, reason=odd)
    metrics.observe("queue_seconds", 0.5, model=odd)
    found = samples(metrics.text({}))
    assert at(found, "modelrunner_unloads_total", model=odd, reason=odd) == 1
    assert at(found, "modelrunner_queue_seconds_bucket", model=odd, le="0.5") == 1


def test_a_sum_keeps_its_digits_however_large_it_is() -> None:
    metrics = Metrics()
    metrics.add("load_seconds_total", 12345678.9, model="m")
    metrics.add("load_seconds_total", 0.25, model="m")
    assert at(samples(metrics.text({})), "modelrunner_load_seconds_total", model="m") == (
        12345679.15
    )


CACHED = {
    "chat": b'{"usage":{"prompt_tokens":50,"prompt_tokens_details":{"cached_tokens":40}}}',
    "responses": b'{"usage":{"input_tokens":50,"input_tokens_details":{"cached_tokens":40}}}',
    "anthropic": b'{"usage":{"cache_read_input_tokens":40,"input_tokens":10}}',
    "timings": b'{"timings":{"cache_n":40,"prompt_n":10}}',
}


@pytest.mark.parametrize("body", CACHED.values(), ids=CACHED)
def test_tokens_from_the_cache_are_counted_in_every_api(body: bytes) -> None:
    answer = Reply((body,), kind="application/json")
    with gateway(Scripted(scripts={"ai/one:latest": [answer]}), ONE) as running:
        running.chat("one")
        found = read(running)
    assert at(found, "modelrunner_cached_tokens_sum", model="ai/one:latest") == 40
    assert at(found, "modelrunner_prompt_tokens_total", model="ai/one:latest") == 50


def timing(*, streams: bool, body: bytes, **more: Any) -> Timing:
    usage = Usage()
    usage.add(body)
    given = {"begun": 100.0, "passed_on": 101.0, "first": 104.0, "ended": 106.0, **more}
    return Timing(streams=streams, usage=usage, **given)


TIMINGS = b'{"timings":{"prompt_n":5,"prompt_ms":1500.5,"predicted_n":11,"predicted_ms":500.0}}'


def test_what_the_runtime_did_not_compute_was_waiting() -> None:
    stream = timing(streams=True, body=TIMINGS)
    # a second for the load; of three more, one and a half for the prompt
    assert stream.queue == pytest.approx(2.4995)
    assert stream.first_token == 4.0
    assert stream.per_token == pytest.approx(0.05)
    whole = timing(streams=False, body=TIMINGS)
    assert whole.queue == pytest.approx(1.9995)
    assert whole.first_token == pytest.approx(3.5)
    assert whole.per_token == pytest.approx(0.05)


def test_without_timings_a_stream_says_what_can_be_seen() -> None:
    usage = b'{"usage":{"prompt_tokens":5,"completion_tokens":11}}'
    stream = timing(streams=True, body=usage)
    assert (stream.queue, stream.first_token, stream.per_token) == (1.0, 4.0, 0.2)
    whole = timing(streams=False, body=usage)
    assert (whole.queue, whole.first_token, whole.per_token) == (1.0, None, None)


def test_one_token_has_no_time_between_tokens() -> None:
    one = timing(streams=True, body=b'{"timings":{"predicted_n":1,"predicted_ms":0.001}}')
    assert one.per_token is None


def expressions(dashboard: Any) -> list[str]:
    queries = [each["definition"] for each in dashboard["templating"]["list"][1:]]
    targets = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    return [*queries, *targets]


def test_the_dashboard_shows_only_metrics_and_labels_that_exist() -> None:
    dashboard = json.loads((ROOT / "docs/grafana-dashboard.json").read_text())
    cached = Reply((CACHED["chat"],), kind="application/json")
    answers = [says("Hi", usage=(20, 11)), cached, breaks_off("I was")]
    runtime = Scripted(mortals=1, again={"ai/one:latest": answers})
    with gateway(runtime, ONE) as running:
        for _ in answers:
            running.chat("one")
        running.chat("four")
        running.post("/engines/unload", {"all": True})
        runtime.refuses = True
        running.chat("one")
        runtime.refuses = False
        running.chat("one")
        known = read(running)
    labels_of: dict[str, set[str]] = {}
    for name, labels in known:
        labels_of.setdefault(name, set()).update(key for key, _ in labels)
    found = expressions(dashboard)
    assert len(found) > 15
    for expression in found:
        names = re.findall(r"\b(?:modelrunner|gen_ai)_[a-z_]*(?=[{,])", expression)
        (name,) = [each for each in names if each in labels_of or "{" in expression][:1]
        assert name in labels_of, f"{name} is not a metric"
        inner = re.search(r"\{(.*?)\}", expression)
        used = re.findall(r"(\w+)(?:=~|!=|=)", inner[1]) if inner else ["model"]
        by = re.search(r"by \((.*?)\)", expression)
        used += by[1].split(", ") if by else []
        assert set(used) <= labels_of[name], expression
        for label in re.findall(r"\{\{(\w+)\}\}", expression):
            assert label in labels_of[name]


def test_the_panels_of_the_dashboard_do_not_overlap() -> None:
    dashboard = json.loads((ROOT / "docs/grafana-dashboard.json").read_text())
    taken = [
        (x, y)
        for panel in dashboard["panels"]
        for place in [panel["gridPos"]]
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(taken) == len(set(taken))
    assert max(x for x, _ in taken) == 23
