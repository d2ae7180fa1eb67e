"""Whose word counts: an option's, a configuration's, `config.toml`'s, the artifact's."""

from types import SimpleNamespace

import pytest

from modelrunner.errors import UsageError
from modelrunner.oci.reference import Reference
from modelrunner.operations.launch.configure import Configurations
from modelrunner.operations.launch.plan import plan_launch
from modelrunner.operations.launch.precedence import LaunchOptions, Precedence
from modelrunner.runtime.base import Ability
from tests.support.artifacts import docker_artifact
from tests.support.gguf import Typed, tiny_gguf
from tests.support.stores import put

NAME = "ai/m:1"
TEMPERATURE = {"general.sampling.temp": Typed("float32", 0.6), "general.sampling.top_k": 20}


def runtime(*missing):
    return SimpleNamespace(
        name="xllamacpp", external=False, abilities=frozenset(Ability) - set(missing)
    )


@pytest.fixture
def warnings():
    return []


@pytest.fixture
def request_of(store, tmp_path, warnings):
    """Makes requests of a model whose artifact has settings."""
    weights = tiny_gguf(tmp_path / "m.gguf", metadata=TEMPERATURE).read_bytes()

    def make(packaged, *, configured=(), usual=None, options=None, chosen=None):
        model = put(store, docker_artifact(weights, config={"settings": packaged}), NAME)
        configurations = Configurations(tmp_path / "state")
        if configured:
            configurations.change(Reference.parse(NAME), dict(configured), ())
        found = Precedence(store, configurations, usual or {}, warnings.append).request(
            chosen or runtime(), model, NAME, options or LaunchOptions()
        )
        return found, plan_launch(store, model, NAME, found, ())

    return make


def test_the_artifact_is_followed_where_nobody_else_says_anything(request_of, warnings):
    found, plan = request_of({"kv_type": "bf16", "system": "Be brief.", "top_k": 5, "seed": 3})
    assert (found.kv_type, found.system, found.seed) == ("bf16", "Be brief.", 3)
    assert plan.spec.cache_type_v == "bf16"
    assert plan.recommended.to_dict() == {
        "temperature": {"value": 0.6, "source": "header"},
        "top_k": {"value": 5, "source": "artifact"},
    }
    assert warnings == []


def test_a_cache_that_the_model_cannot_have_is_refused_before_the_start(request_of):
    with pytest.raises(UsageError, match="KV cache type q8_0 packs 32 numbers"):
        request_of({"kv_type": "q8_0"})
    found, _ = request_of({"kv_type": "q8_0"}, options=LaunchOptions(kv_type="f16"))
    assert found.kv_type == "f16"


def test_each_source_beats_those_below_it_and_is_named(request_of):
    artifact = {"system": "artifact", "temperature": 0.1, "top_p": 0.1, "min_p": 0.1}
    found, plan = request_of(
        artifact | {"xtc_threshold": 0.1, "kv_type_v": "bf16"},
        usual={"system": "file", "xtc-threshold": 0.2},
        configured={"system": "configured", "temperature": 0.3, "top-p": 0.3},
        options=LaunchOptions(assignments=("system=option", "temp=0.4"), kv_type="f16"),
    )
    assert (found.system, found.cache_types) == ("option", ("f16", "f16"))
    assert plan.recommended.to_dict() == {
        "temperature": {"value": 0.4, "source": "option"},
        "top_k": {"value": 20, "source": "header"},
        "top_p": {"value": 0.3, "source": "configured"},
        "min_p": {"value": 0.1, "source": "artifact"},
        "xtc_threshold": {"value": 0.2, "source": "config.toml"},
    }
    assert plan.spec.sampling == plan.recommended.values


def test_an_empty_system_prompt_is_none_whatever_the_artifact_says(request_of):
    found, _plan = request_of(
        {"system": "artifact"}, options=LaunchOptions(assignments=("system=",))
    )
    assert found.system == ""


def test_what_the_artifact_may_not_set_is_named_and_has_no_effect(request_of, warnings):
    found, plan = request_of({"lora": "/etc/passwd", "rpc": "evil.example:1", "threads": 99})
    assert (found.adapters, found.rpc, plan.spec.rpc) == ((), None, None)
    assert plan.spec.threads != 99
    assert warnings == [
        "ai/m:1: the artifact's settings lora, rpc, threads are ignored: it may not set them"
    ]


def test_what_the_runtime_cannot_follow_is_named_and_the_model_starts(request_of, warnings):
    found, _plan = request_of({"rope_scale": 2.0}, chosen=runtime(Ability.ROPE))
    assert found.rope_scale is None
    (warning,) = warnings
    assert warning == (
        "ai/m:1: the artifact's setting rope-scale is ignored: xllamacpp does not offer rope"
        " scaling"
    )
