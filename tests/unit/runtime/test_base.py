"""What a launch spec refuses, shows and hands over."""

import io
from dataclasses import replace
from pathlib import Path

import pytest

from modelrunner.runtime.base import LaunchSpec
from modelrunner.runtime.child import handshake

SPEC = LaunchSpec(model=Path("/m.gguf"), name="m", context=512, threads=1, api_key="hush-hush")


def test_key_does_not_show():
    assert "hush-hush" not in repr(SPEC)


@pytest.mark.parametrize("key", ["two,keys", "a b", "line\n", "ключ"])
def test_key_that_llama_cpp_would_read_otherwise_is_refused(key):
    with pytest.raises(ValueError, match="printable ASCII"):
        replace(SPEC, api_key=key)


@pytest.mark.parametrize("key", ["", "sk-aB3_~!+-."])
def test_usual_keys_are_taken(key):
    assert replace(SPEC, api_key=key).api_key == key


def test_unknown_cache_type_is_refused_with_the_known_ones():
    with pytest.raises(
        ValueError, match="invalid KV cache type 'q9_9': use one of f32, f16, bf16, q8_0"
    ):
        replace(SPEC, cache_type_v="q9_9")


@pytest.mark.parametrize("port", [-1, 65536])
def test_impossible_port_is_refused(port):
    with pytest.raises(ValueError, match="invalid port"):
        replace(SPEC, port=port)


@pytest.mark.parametrize(
    "spec",
    [
        SPEC,
        replace(SPEC, mmproj=Path("/p.gguf"), chat_template=Path("/t"), gpu_layers=7, port=8080),
        replace(SPEC, draft_model=Path("/d.gguf"), draft_tokens=4, raw_flags=("--a", "b c")),
    ],
)
def test_spec_arrives_in_the_child_as_it_was_sent(spec):
    assert handshake.receive(io.StringIO(handshake.dump(spec))) == spec


def test_relative_paths_become_absolute_on_the_way(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    sent = handshake.dump(replace(SPEC, model=Path("here.gguf")))
    assert handshake.receive(io.StringIO(sent)).model == tmp_path / "here.gguf"


def test_announcement_is_heard_with_and_without_a_context():
    assert handshake.parse_line('{"url": "http://127.0.0.1:1"}') == handshake.Announcement(
        "http://127.0.0.1:1"
    )
    assert handshake.parse_line('{"url": "http://127.0.0.1:1", "context": 512}').context == 512
