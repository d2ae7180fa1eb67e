"""The settings that a person may choose."""

import shlex
from dataclasses import fields

import pytest

from modelrunner.errors import UsageError
from modelrunner.runtime import settings
from modelrunner.runtime.base import LaunchSpec
from modelrunner.runtime.sampling import NAMES


@pytest.mark.parametrize(
    ("text", "key", "value"),
    [
        ("context=8192", "context", 8192),
        ("kv-type=q8_0", "kv-type", "q8_0"),
        ("kv_type=q8_0", "kv-type", "q8_0"),
        ("mmap=off", "mmap", False),
        ("mlock=YES", "mlock", True),
        ("rope-scale=2.5", "rope-scale", 2.5),
        ("rope-scaling=yarn", "rope-scaling", "yarn"),
        ("gpu-layers=0", "gpu-layers", 0),
        ("draft=ai/smollm2:360M=x", "draft", "ai/smollm2:360M=x"),
        ("rpc=gpu-1:50052, 10.0.0.2:1", "rpc", "gpu-1:50052,10.0.0.2:1"),
        ("device=CUDA0, Vulkan1", "device", "CUDA0,Vulkan1"),
        ("tensor-split=3, 1.50", "tensor-split", "3,1.5"),
        ("lora=a.gguf:0.5,b.gguf", "lora", "a.gguf:0.5,b.gguf"),
        ('chat-template-kwargs={"a": true}', "chat-template-kwargs", '{"a":true}'),
        ("temp=0.7", "temperature", 0.7),
        ("presence=-1", "presence-penalty", -1.0),
        ("repeat-last-n=-1", "repeat-last-n", -1),
        ("system=Be brief.", "system", "Be brief."),
    ],
)
def test_value_has_the_type_of_its_setting(text, key, value):
    found = settings.parse([text])
    assert found == {key: value}
    assert type(found[key]) is type(value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("context=0", "context must be a whole number of at least 1, got '0'"),
        ("context=1e3", "context must be a whole number of at least 1, got '1e3'"),
        ("threads=9999", "threads must be a whole number from 1 to 4096, got '9999'"),
        ("mmap=maybe", "mmap must be on or off, got 'maybe'"),
        ("rope-scale=nan", "rope-scale must be a number greater than 0, got 'nan'"),
        ("rope-scale=inf", "rope-scale must be a number greater than 0, got 'inf'"),
        ("rope-scaling=longer", "rope-scaling must be one of none, linear, yarn, got 'longer'"),
        ("draft=", "draft must be a model or a GGUF file, got ''"),
        ("temperature=6", "temperature must be a number from 0 to 5, got '6'"),
        ("top-p=nan", "top-p must be a number from 0 to 1, got 'nan'"),
        ("tensor-split=0,0", "tensor-split must be a share for each GPU, such as 3,1, got '0,0'"),
        ("tensor-split=1,-1", "tensor-split must be a share for each GPU, such as 3,1, got '1,-1'"),
        ("lora=a.gguf,", "lora must be FILE[:SCALE],... of GGUF adapters, got 'a.gguf,'"),
        ("chat-template-kwargs=[]", "chat-template-kwargs must be a JSON object, got '[]'"),
        ("chat-template-kwargs={", "chat-template-kwargs must be a JSON object, got '{'"),
        ("split-mode=rows", "split-mode must be one of layer, row, tensor, none, got 'rows'"),
        ("context", "'context' is not KEY=VALUE"),
        ("=4", "unknown setting ''"),
    ],
)
def test_value_that_is_not_for_it_is_refused_with_what_would_be(text, message):
    with pytest.raises(UsageError) as caught:
        settings.parse([text])
    assert caught.value.message == message


@pytest.mark.parametrize(
    "text",
    [
        *("", "gpu-1", "gpu-1:", ":50052", "gpu-1:0", "gpu-1:65536", "a:1,", "a:1,,b:2"),
        *("a b:1", "-a:1", "[::1]:50052", "::1:50052", "a:1;id", "a:\u0661"),
    ],
)
def test_what_is_no_list_of_servers_is_refused(text):
    with pytest.raises(UsageError, match=r"rpc must be HOST:PORT,\.\.\."):
        settings.parse([f"rpc={text}"])


def test_unknown_setting_is_answered_with_near_names():
    with pytest.raises(UsageError) as caught:
        settings.parse(["contxt=4"])
    assert caught.value.message == "unknown setting 'contxt'"
    assert caught.value.hint == "did you mean `context`?"
    with pytest.raises(UsageError) as caught:
        settings.parse(["host=0.0.0.0"])
    assert caught.value.hint == "`modelrunner configure --help` lists the settings"


def test_no_setting_moves_the_server_or_its_key():
    reachable = {field for setting in settings.KNOWN.values() for field in setting.fields}
    assert not reachable & {"model", "name", "port", "api_key", "raw_flags"}
    # how much to think is one word for several fields
    spec = {field.name for field in fields(LaunchSpec)}
    assert reachable <= {*spec, *NAMES, "system", "think"}


def test_type_for_one_half_of_the_cache_beats_that_for_both_in_any_order():
    for texts in (["kv-type=q8_0", "kv-type-v=f16"], ["kv-type-v=f16", "kv-type=q8_0"]):
        assert settings.changes(settings.parse(texts)) == {
            "cache_type_k": "q8_0",
            "cache_type_v": "f16",
        }


@pytest.mark.parametrize("key", settings.KNOWN)
def test_every_value_reads_as_it_was_written(key):
    # as a shell reads it
    (text,) = shlex.split(settings.KNOWN[key].kind.example)
    value = settings.value_of(key, text)
    assert settings.value_of(key, settings.as_text(value)) == value
    assert settings.KNOWN[key].doc
