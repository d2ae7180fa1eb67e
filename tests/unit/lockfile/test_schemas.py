"""The schemas in docs say the same as the program: what one refuses the other does not take."""

import tomllib

import pytest

from modelrunner.errors import ModelRunnerError
from modelrunner.lockfile.intent import parse_intent
from modelrunner.lockfile.reader import parse_lock
from tests.support.schemas import validator
from tests.unit.lockfile.test_lock import SIGNED, TEXT, WITH_RUNTIME, A, C


@pytest.mark.parametrize(
    "text",
    [
        '[models]\na = "ai/m"',
        'models.a.ref = "hf.co/Org/Repo:Q8_0"',
        'models.a.ref = "hf.co/Org/Repo@v1.0:Q8_0"',
        'models.a.ref = "https://huggingface.co/Org/Repo/blob/main/m.gguf"',
        'models.a.ref = "hf://Org/Repo"',
        '[models.a]\nreference = "m"\noutput = "models/..a"\nfit = {vram = "8 GiB", ctx = 1}',
        '[models.a]\nref = "m"\noutput = "./x"\nfit = {vram = 1024}',
        '[models]\na = "m"\n[runtime]\nimage = "vulkan"',
        '[models]\na = "m"\n[runtime]\nimage = "cpu@b11434"',
        '[models]\na = "m"\n[runtime]\nimage = "rocm@11434"',
        f'[models]\na = "m"\n[runtime]\nimage = "cuda12@sha256:{A}"',
        '[models]\na = "m"\n[runtime]\nimage = "ghcr.io/o/llama.cpp:server"',
        f'[models]\na = "m"\n[runtime]\nimage = "ghcr.io/o/llama.cpp@sha256:{A}"',
        '[models]\nruntime = "m"',
    ],
)
def test_a_good_intent_is_good_for_both(text: str) -> None:
    parse_intent(text.encode())
    validator("modelrunner.toml").validate(tomllib.loads(text))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[models]",
        "[models]\na = 1",
        '[models]\na = ""',
        '[models]\na = "http://x/y"',
        '[models]\na = "https://huggingface.co.example/Org/Repo"',
        '[models]\n"a b" = "ai/m"',
        '[models]\na = "ai/m"\n[other]',
        '[models.a]\noutput = "x"',
        '[models.a]\nref = "m"\nreference = "m"',
        '[models.a]\nref = "m"\nmore = 1',
        '[models.a]\nref = "m"\noutput = "../x"',
        '[models.a]\nref = "m"\noutput = "a/.."',
        '[models.a]\nref = "m"\noutput = "/x"',
        '[models.a]\nref = "m"\noutput = "C:/x"',
        '[models.a]\nref = "m"\nfit = {context = 1}',
        '[models.a]\nref = "m"\nfit = {vram = "8 bytes"}',
        '[models.a]\nref = "m"\nfit = {vram = true}',
        '[models.a]\nref = "m"\nfit = {vram = 1, context = 1, ctx = 1}',
        '[models.a]\nref = "m"\nfit = {vram = 1, context = "8K"}',
        '[models]\na = "m"\n[runtime]',
        '[models]\na = "m"\n[runtime]\nimage = 1',
        '[models]\na = "m"\n[runtime]\nimage = "auto"',
        '[models]\na = "m"\n[runtime]\nimage = "auto@b11434"',
        '[models]\na = "m"\n[runtime]\nimage = "vulcan"',
        '[models]\na = "m"\n[runtime]\nimage = "vulkan@new"',
        '[models]\na = "m"\n[runtime]\nimage = "vulkan@sha256:abc"',
        '[models]\na = "m"\n[runtime]\nimage = "https://x/y"',
        '[models]\na = "m"\n[runtime]\nimage = "vulkan"\nbuild = "b1"',
        '[models]\na = "m"\n[[runtime]]\nimage = "vulkan"',
        '[models]\nruntime = "m"\n[runtime]\nimage = "vulkan"',
    ],
)
def test_a_bad_intent_is_bad_for_both(text: str) -> None:
    with pytest.raises(ModelRunnerError):
        parse_intent(text.encode())
    assert not validator("modelrunner.toml").is_valid(tomllib.loads(text))


def test_a_good_lock_is_good_for_both() -> None:
    validator("modelrunner.lock").validate(tomllib.loads(TEXT))
    validator("modelrunner.lock").validate(tomllib.loads(WITH_RUNTIME))
    validator("modelrunner.lock").validate(tomllib.loads(SIGNED))
    validator("modelrunner.lock").validate(tomllib.loads("version = 1"))
    assert parse_lock(b"version = 1").models == ()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("version = 1", "version = 2"),
        ("version = 1", "version = 1\nmore = 1"),
        ("version = 1\n", ""),
        ("size = 1034", "size = -1"),
        ("size = 1034\n", ""),
        (f'manifest = "sha256:{A}', f'manifest = "sha512:{A}'),
        (C, C.upper()),
        ('format = "docker"', 'format = "cncf"'),
        ('name = "chat"', 'name = "../x"'),
        ('name = "m.gguf"', 'name = ""'),
        ('role = "weights"', 'role = "wieghts"'),
        ('role = "weights"', 'role = "config"'),
        ('role = "config"', 'role = "license"'),
        ("vram = 1024, ", ""),
    ],
)
def test_a_bad_lock_is_bad_for_both(old: str, new: str) -> None:
    assert old in TEXT
    _bad(TEXT.replace(old, new, 1))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("version = 2", "version = 1"),
        ("version = 2", "version = 3"),
        ("size = 1610\n", ""),
        ("linux/arm64/v8", "linux"),
        ("bytes = 504", "bytes = -1"),
        (", bytes = 504", ""),
        ("images = [", "more = 1\nimages = ["),
    ],
)
def test_a_bad_runtime_of_a_lock_is_bad_for_both(old: str, new: str) -> None:
    assert old in WITH_RUNTIME
    _bad(WITH_RUNTIME.replace(old, new, 1))


def _bad(text: str) -> None:
    with pytest.raises(ModelRunnerError):
        parse_lock(text.encode())
    assert not validator("modelrunner.lock").is_valid(tomllib.loads(text))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("version = 3", "version = 1"),
        ("version = 3", "version = 2"),
        ('public_key = "', 'other_key = "'),
        ('public_key = "', 'identity = "'),
        ("ca = ", "key = "),
        ('"cm9vdA=="', '"cm9vdA="'),
        ("tsa = [", "issuer = ["),
        ('"dHNh"', "1"),
        ('  "dHNh",\n', ""),
        (f'signature = "sha256:{A}"\n', ""),
        ('identity = "https', 'trusted_root = "https'),
        ('identity = "https://example.com/release.yml"\n', ""),
        ('identity = "models', 'issuer = "models'),
        ('identity = "models@example.com"', 'identity = ""'),
    ],
)
def test_a_bad_signer_is_bad_for_both(old: str, new: str) -> None:
    assert old in SIGNED
    _bad(SIGNED.replace(old, new, 1))
