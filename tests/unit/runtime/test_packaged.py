"""Which settings an artifact may bring, and what becomes of the others."""

import pytest

from modelrunner.errors import UsageError
from modelrunner.runtime import packaged, settings
from modelrunner.runtime.packaged import Packaged
from modelrunner.runtime.sampling import Sampling

FILES_AND_HOSTS = {
    "lora": "style.gguf",
    "draft": "ai/smollm2",
    "chat-template": "chatml",
    "rpc": "gpu-1:50052",
}
OF_A_MACHINE = {
    "threads": "4",
    "gpu-layers": "3",
    "device": "CUDA0",
    "main-gpu": "1",
    "split-mode": "row",
    "tensor-split": "3,1",
    "n-cpu-moe": "2",
    "parallel": "4",
    "batch": "64",
    "micro-batch": "64",
    "mmap": "off",
    "mlock": "on",
    "swa-full": "on",
    "kv-unified": "on",
    "cache-ram": "1000000",
    "checkpoints": "1000",
    "flash-attention": "off",
    "draft-tokens": "3",
}


def test_settings_of_the_model_are_followed_under_the_names_that_the_makers_write():
    found = Packaged.read(
        {
            "temperature": 0.6,
            "top_k": 20,
            "kv_type": "q8_0",
            "think": "low",
            "system": "You are a pirate.",
            "seed": 7,
            "rope_scaling": "yarn",
            "chat_template_kwargs": '{"enable_thinking": false}',
        }
    )
    assert found.ignored == ()
    assert found.sampling == Sampling(temperature=0.6, top_k=20)
    assert found.others == {
        "kv-type": "q8_0",
        "think": "low",
        "system": "You are a pirate.",
        "seed": 7,
        "rope-scaling": "yarn",
        "chat-template-kwargs": '{"enable_thinking":false}',
    }


@pytest.mark.parametrize(("name", "value"), [*FILES_AND_HOSTS.items(), *OF_A_MACHINE.items()])
def test_nothing_that_opens_files_reaches_hosts_or_takes_a_machine_is_followed(name, value):
    assert settings.value_of(name, value) is not None
    written = name.replace("-", "_")
    assert Packaged.read({written: value}) == Packaged({}, (written,))
    with pytest.raises(UsageError, match=f"^{name} cannot be packaged: ") as failed:
        packaged.checked({name: settings.value_of(name, value)})
    assert failed.value.hint


def test_every_setting_is_either_of_a_model_or_of_a_machine():
    follow = {
        name
        for name, setting in settings.KNOWN.items()
        if Packaged.read({name: setting.kind.example.strip("\"'")}).values
    }
    assert follow | {*FILES_AND_HOSTS, *OF_A_MACHINE, "context"} == set(settings.KNOWN)
    assert not follow & {*FILES_AND_HOSTS, *OF_A_MACHINE, "context"}


@pytest.mark.parametrize(
    "written",
    [
        {"flags": "--model-url http://x"},
        {"temperature": 9},
        {"temperature": "hot"},
        {"temperature": None},
        {"system": ["a"]},
        {"kv_type": "q9"},
        {"context": 1},
    ],
)
def test_unknown_and_invalid_settings_are_named(written):
    (name,) = written
    found = Packaged.read(written)
    assert found == Packaged({}, (name,))
    assert found.warning == f"the artifact's settings {name} are ignored: it may not set them"


def test_a_warning_is_one_safe_line():
    names = [f"\x1b[2J{number}" + "x" * 100 for number in range(30)]
    warning = Packaged.read(dict.fromkeys(names, "1")).warning
    assert "\x1b" not in warning
    assert len(warning) < 450
    assert "and 22 more are ignored" in warning


def test_the_line_of_a_pull_shows_values_as_they_are_written():
    found = Packaged.read({"system": "Be\n\x1b[1mbrief. " + "x" * 100, "temperature": 0.5})
    assert found.with_context(4096).line() == (
        f'context=4096, system="Be brief. {"x" * 49}…", temperature=0.5'
    )


def test_what_counts_more_replaces_parts_of_what_it_sets_as_a_whole():
    assert settings.merged({"kv-type-v": "q8_0", "seed": 1}, {"kv-type": "f16"}) == {
        "seed": 1,
        "kv-type": "f16",
    }
    assert settings.merged({"kv-type": "q8_0"}, {"kv-type-v": "f16"}) == {
        "kv-type": "q8_0",
        "kv-type-v": "f16",
    }
