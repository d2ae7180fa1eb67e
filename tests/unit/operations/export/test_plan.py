"""What every export says: names for services, and what a model may use."""

import re
from dataclasses import replace
from pathlib import PurePosixPath

import pytest

from modelrunner.errors import UsageError
from modelrunner.oci.reference import Reference
from modelrunner.operations.export.plan import ExportPlan, Files, checked_name, name_for

MIB = 1 << 20
PLAN = ExportPlan(
    pinned=Reference.parse(f"ai/m:1@sha256:{'0' * 64}"),
    name="m-1",
    files=Files(PurePosixPath("m.gguf")),
    context=4096,
    kv_types=("f16", "f16"),
    memory=1000 * MIB,
    port=8080,
    image="i",
)


@pytest.mark.parametrize(
    ("reference", "name"),
    [
        ("ai/smollm2", "smollm2"),
        ("ai/smollm2:135M-Q4_1", "smollm2-135m-q4-1"),
        ("hf.co/Org/Tiny-GGUF:Q4_K_M", "tiny-gguf-q4-k-m"),
        ("hf.co/Org/Tiny-GGUF@dev/x:Q4_K_M", "tiny-gguf-q4-k-m"),
        ("ai/3b.model:_1_", "model-3b-model-1"),
        (f"ai/{'x' * 80}:1", "x" * 50),
        (f"ai/x:{'a' * 47}.b", f"x-{'a' * 47}"),
        (f"ai/x@sha256:{'0' * 64}", "x"),
    ],
)
def test_a_name_is_made_of_the_model_and_every_format_takes_it(reference, name):
    found = name_for(Reference.parse(reference))
    assert found == name
    assert checked_name(found) == found
    # RFC 1035, as a Service of Kubernetes needs it, with room for what is put behind
    assert re.fullmatch(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?", f"{found}-model")


@pytest.mark.parametrize("name", ["", "A", "1a", "a-", "-a", "a_b", "a.b", "a b", "a\n", "a" * 51])
def test_other_names_are_refused(name):
    with pytest.raises(UsageError, match="invalid service name"):
        checked_name(name)


@pytest.mark.parametrize(
    ("memory", "request_mib", "limit_mib"),
    [(1000 * MIB, 1000, 1740), (1000 * MIB + 1, 1001, 1741), (1, 1, 641), (0, 0, 640)],
)
def test_memory_is_rounded_up_and_the_limit_has_a_margin(memory, request_mib, limit_mib):
    plan = replace(PLAN, memory=memory)
    assert (plan.request, plan.limit) == (request_mib * MIB, limit_mib * MIB)


def test_threads_are_for_the_machine_that_it_runs_on():
    line = PLAN.arguments(PurePosixPath("/models"), "0.0.0.0", 8080)
    assert "--threads" not in line
    assert line[:4] == ["--model", "/models/m.gguf", "--alias", "ai/m:1"]


def test_an_encoder_sees_its_text_at_once():
    line = replace(PLAN, embedding=True).arguments(PurePosixPath("/models"), "0.0.0.0", 8080)
    assert line[line.index("--ubatch-size") + 1] == "4096"
    assert "--embeddings" in line
    assert "--reranking" in replace(PLAN, ranking=True).arguments(PurePosixPath("/"), "h", 1)


def test_no_key_is_in_any_file():
    assert "LLAMA_API_KEY" not in PLAN.environment()
