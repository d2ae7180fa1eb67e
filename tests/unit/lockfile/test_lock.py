"""`modelrunner.lock`: written the same way every time, and read with suspicion."""

from base64 import b64encode
from contextlib import suppress
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelrunner.errors import ExitStatus, LockError, LockOutdatedError
from modelrunner.lockfile.intent import Fit
from modelrunner.lockfile.lock import CONFIG, Lock, LockedBlob, LockedModel, in_order
from modelrunner.lockfile.reader import parse_lock, read_lock, require_lock
from modelrunner.lockfile.signer import in_order as signers_in_order
from modelrunner.oci.descriptor import Descriptor
from modelrunner.oci.digest import Digest
from modelrunner.oci.image import Platform
from modelrunner.oci.manifest import Manifest
from modelrunner.oci.model.artifact import ModelArtifact
from modelrunner.oci.model.layers import Role
from modelrunner.oci.reference import Reference
from tests.support.artifacts import docker_artifact, modelpack_artifact

A, B, C = ("a" * 64, "b" * 64, "c" * 64)
TEXT = f"""\
# Written by `modelrunner lock` from modelrunner.toml. Check it in; do not edit it.
version = 1

[[model]]
name = "chat"
ref = "docker.io/ai/m:1"
manifest = "sha256:{A}"
media_type = "application/vnd.oci.image.manifest.v1+json"
size = 1034
format = "docker"
fit = {{ vram = 1024, context = 8192 }}
blobs = [
  {{ digest = "sha256:{B}", size = 3, media_type = "config/type", role = "config" }},
  {{ digest = "sha256:{C}", size = 9, media_type = "gguf", role = "weights", name = "m.gguf" }},
]

[[model]]
name = "embed"
ref = "docker.io/ai/e@sha256:{B}"
manifest = "sha256:{B}"
media_type = "application/vnd.oci.image.manifest.v1+json"
size = 7
format = "modelpack"
blobs = [
  {{ digest = "sha256:{A}", size = 0, media_type = "", role = "config" }},
]
"""
RUNTIME = f"""
[runtime]
ref = "ghcr.io/ggml-org/llama.cpp:server-vulkan"
manifest = "sha256:{C}"
media_type = "application/vnd.oci.image.index.v1+json"
size = 1610
images = [
  {{ platform = "linux/amd64", digest = "sha256:{A}", size = 2210, media_type = "m", bytes = 504 }},
  {{ platform = "linux/arm64/v8", digest = "sha256:{B}", size = 2, media_type = "m", bytes = 5 }},
]
"""
KEY = b"a key in DER"
SIGNED = TEXT.replace("version = 1", "version = 3").replace(
    'role = "weights", name = "m.gguf" },\n]\n',
    'role = "weights", name = "m.gguf" },\n]\n'
    f"""
[[model.signed]]
identity = "https://example.com/release.yml"
issuer = "https://issuer.example.com"
signature = "sha256:{A}"

[[model.signed]]
ca = "{sha256(b"root").hexdigest()}"
certificate = "cm9vdA=="
tsa = [
  "dHNh",
]
identity = "models@example.com"
signature = "sha256:{B}"

[[model.signed]]
key = "{sha256(KEY).hexdigest()}"
public_key = "{b64encode(KEY).decode()}"
signature = "sha256:{C}"
""",
)
WITH_RUNTIME = TEXT.replace("version = 1", "version = 2") + RUNTIME
DIGESTS = st.binary(min_size=1, max_size=1).map(Digest.of)
# of the same size wherever it occurs: a digest has one
BLOBS = st.builds(
    lambda digest, role, name, media_type: LockedBlob(
        role, name, digest, int(digest.hex[:8], 16), media_type
    ),
    DIGESTS,
    st.sampled_from([str(role) for role in Role]),
    st.none() | st.sampled_from(["m.gguf", "a/b c.gguf", "ü\"'.jinja", "#,]}"]),
    st.text(),
)
NAMES = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,20}", fullmatch=True)
SIZES = st.integers(0, 1 << 50)
FITS = st.none() | st.builds(Fit, st.integers(1, 1 << 50), st.none() | st.integers(1, 2**31 - 1))


@st.composite
def locked_models(draw: st.DrawFn) -> LockedModel:
    digest = draw(DIGESTS)
    reference = Reference.parse(draw(st.sampled_from(["m", "ghcr.io/o/m:V1", "[::1]:5000/a/b/c"])))
    config = LockedBlob(CONFIG, None, Digest.of(b"config"), draw(SIZES), draw(st.text()))
    blobs = draw(st.lists(BLOBS, unique=True, max_size=4).map(tuple))
    return LockedModel(
        draw(NAMES),
        reference if draw(st.booleans()) else Reference.parse(f"ai/m@{digest}"),
        Descriptor(draw(st.text()), digest, draw(SIZES)),
        draw(st.sampled_from(["docker", "modelpack"])),
        in_order([config, *(blob for blob in blobs if blob.digest != config.digest)]),
        draw(FITS),
    )


LOCKS = st.lists(locked_models(), unique_by=lambda model: model.name, max_size=3).map(
    lambda models: Lock(tuple(sorted(models, key=lambda model: model.name)))
)


def refused(text: str) -> tuple[str, object]:
    with pytest.raises(LockError) as caught:
        parse_lock(text.encode())
    assert caught.value.exit_code is ExitStatus.LOCK
    return caught.value.message, caught.value.facts.get("line")


@pytest.mark.parametrize("text", [TEXT, WITH_RUNTIME], ids=["models", "runtime"])
def test_what_was_read_is_written_as_it_was(text: str) -> None:
    assert parse_lock(text.encode()).emit() == text


def test_the_runtime_of_a_lock_knows_its_line_and_its_images() -> None:
    runtime = parse_lock(WITH_RUNTIME.encode()).runtime
    assert runtime is not None
    assert (runtime.line, runtime.size, runtime.is_index) == (28, 504, True)
    here = runtime.image_for(Platform("linux", "arm64"))
    assert here is not None
    assert here.manifest.digest.hex == B
    assert runtime.image_for(Platform("darwin", "arm64")) is None


def test_a_runtime_changes_the_cache_key_and_a_lock_without_one_keeps_its_own() -> None:
    old, new = parse_lock(TEXT.encode()), parse_lock(WITH_RUNTIME.encode())
    assert old.cache_key().startswith("modelrunner-v1-")
    assert new.cache_key() != old.cache_key()
    assert {blob.digest.hex for blob in new.blobs()} == {A, B, C}


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("version = 2", "version = 1", "unsupported lock version: expected 2, got 1"),
        ("version = 2", "version = 3", "unsupported lock version: expected 2, got 3"),
        ("size = 1610", "size = 1610\nmore = 1", "unknown key 'more'"),
        ("linux/arm64/v8", "linux/amd64", "duplicate image for linux/amd64"),
        ("linux/arm64/v8", "linux", "invalid platform 'linux'"),
        ("bytes = 504", "bytes = -1", "bytes must be a number from 0 to"),
        ("images = [", "image = [", "unknown key 'image'"),
        (f'"sha256:{A}", size = 2210', '"sha1:0", size = 2210', "digest: invalid digest 'sha1:0'"),
    ],
)
def test_what_is_wrong_with_a_runtime_is_told_with_its_line(
    old: str, new: str, message: str
) -> None:
    assert old in WITH_RUNTIME
    found = refused(WITH_RUNTIME.replace(old, new, 1))
    assert found[0].startswith(f"modelrunner.lock:{found[1]}: {message}")


@given(LOCKS)
def test_what_was_written_is_read_as_it_was(lock: Lock) -> None:
    assert parse_lock(lock.emit().encode()) == lock


@given(LOCKS, st.randoms())
def test_the_order_of_the_models_is_not_the_callers(lock: Lock, random: object) -> None:
    models = list(lock.models)
    random.shuffle(models)  # type: ignore[attr-defined]
    assert Lock(tuple(models)).emit() == lock.emit()


def test_another_order_and_other_spaces_are_read_as_the_same() -> None:
    head, chat, embed = TEXT.split("[[model]]")
    foreign = f"{head}[[model]]{embed}\n[[model]]{chat}".replace(" = ", "=").replace("\n", "\r\n")
    assert parse_lock(foreign.encode()) == parse_lock(TEXT.encode())


def test_every_model_knows_its_line() -> None:
    assert [model.line for model in parse_lock(TEXT.encode()).models] == [4, 17]


@pytest.mark.parametrize(
    ("old", "new", "message", "line"),
    [
        ("version = 1", "version = 2", "unsupported lock version: expected 1, got 2", 2),
        ("version = 1", 'version = "1"', "unsupported lock version: expected 1, got 1", 2),
        ("version = 1", "version = true", "expected 1, got True", 2),
        ("version = 1\n", "", "missing version", 1),
        ("version = 1", "version = 1\nmore = 2", "unknown key 'more'", 3),
        ("size = 1034", "size = -1", "size must be a number from 0 to", 9),
        ("size = 1034", "size = true", "size must be a number from 0 to", 9),
        ("size = 1034", "sise = 1034", "unknown key 'sise'", 9),
        ("size = 9", "size = 9.0", "size must be a number from 0 to", 14),
        (f'manifest = "sha256:{A}', f'manifest = "sha256:{A[1:]}g', "invalid digest", 7),
        (f"sha256:{C}", f"sha512:{C}", "invalid digest", 14),
        (f"sha256:{C}", C.upper(), "invalid digest", 14),
        ('format = "docker"', 'format = "cncf"', "invalid format 'cncf': expected docker, ", 10),
        ('name = "chat"', 'name = "../x"', "invalid model name '../x'", 5),
        ('name = "chat"', 'name = "embed"', "duplicate model embed", 17),
        ('name = "chat"', "", "missing name", 4),
        ('name = "m.gguf"', 'name = "../m.gguf"', "unsafe file path", 14),
        (
            'role = "weights"',
            'role = "wieghts"',
            "invalid role 'wieghts': expected one of config,",
            14,
        ),
        ('role = "weights"', 'role = "config"', "a model must have exactly one config", 12),
        (f"sha256:{C}", f"sha256:{B}", f"two different sizes for sha256:{B}", 14),
        ('ref = "docker.io/ai/m:1"', 'ref = "://"', "'://' is an address", 6),
        (
            f"ai/e@sha256:{B}",
            f"ai/e@sha256:{A}",
            "digests of the reference and the manifest differ",
            19,
        ),
        ("ai/m:1", f"ai/m:1@sha256:{A}", "digests of the reference and the manifest differ", 6),
        ("vram = 1024", "vram = 0", "vram must be a number from 1 to", 11),
        ('[[model]]\nname = "chat"', '[model]\nname = "chat"', "invalid TOML", None),
        ('name = "chat"', '<<<<<<< HEAD\nname = "chat"', "unresolved merge conflict", 5),
        ('"embed"', '"embed"\n=======\n>>>>>>> other', "unresolved merge conflict", 20),
    ],
)
def test_what_is_wrong_is_told_with_its_line(
    old: str, new: str, message: str, line: int | None
) -> None:
    assert old in TEXT
    found = refused(TEXT.replace(old, new, 1))
    assert message in found[0]
    assert found[0].startswith(f"modelrunner.lock:{found[1]}: ")
    assert line in (None, found[1])


def test_a_blob_is_listed_once() -> None:
    line = TEXT.splitlines(keepends=True)[13]
    assert refused(TEXT.replace(line, line + line)) == (
        f"modelrunner.lock:15: duplicate blob sha256:{C}",
        15,
    )


def test_a_conflict_and_a_newer_version_say_what_to_do() -> None:
    for text, hint in (
        ("<<<<<<< HEAD\n", "keep either side"),
        ("version = 7", "upgrade modelrunner: "),
        ("version = 0", "from version control"),
        ("version", "from version control"),
    ):
        with pytest.raises(LockError) as caught:
            parse_lock(text.encode())
        assert hint in (caught.value.hint or "")


@given(st.text())
def test_no_text_is_met_with_anything_but_our_errors(text: str) -> None:
    at = len(text) * 7 % len(TEXT)
    for content in (text, f"version = 1\n{text}", f"{TEXT[:at]}{text}{TEXT[at:]}"):
        with suppress(LockError):
            parse_lock(content.encode("utf-8", "replace"))


def test_a_lock_that_is_not_there_is_none_or_is_asked_for(tmp_path: Path) -> None:
    assert read_lock(tmp_path / "modelrunner.lock") is None
    with pytest.raises(LockOutdatedError, match="file not found") as caught:
        require_lock(tmp_path / "modelrunner.lock")
    assert "`modelrunner lock`" in (caught.value.hint or "")


@pytest.mark.parametrize("build", [docker_artifact, modelpack_artifact])
def test_a_manifest_is_locked_with_all_its_blobs(build: object) -> None:
    artifact = build(  # type: ignore[operator]
        [b"one", b"two"], license=b"free", template=b"{{ x }}", mmproj=b"eye"
    )
    manifest = Manifest.from_bytes(artifact.manifest)
    model = LockedModel.of(
        "a", Reference.parse("ai/m:1"), ModelArtifact.from_manifest(manifest), None
    )
    assert [(blob.role, blob.name) for blob in model.blobs] == [
        ("config", None),
        ("license", "LICENSE"),
        ("projector", "mmproj-model-f16.gguf"),
        ("template", "chat_template.jinja"),
        ("weights", "model-00001-of-00002.gguf"),
        ("weights", "model-00002-of-00002.gguf"),
    ]
    assert {str(blob.digest) for blob in model.blobs} == set(artifact.blobs)
    assert model.size == artifact.size
    assert model.pinned == Reference.parse(f"ai/m:1@{artifact.digest}")


def test_what_the_hub_minds_is_spelled_as_it_was() -> None:
    manifest = Manifest.from_bytes(docker_artifact(b"x").manifest)
    model = LockedModel.of(
        "a", Reference.parse("hf.co/Org/Repo:Q8_0"), ModelArtifact.from_manifest(manifest), None
    )
    text = Lock((model,)).emit()
    assert 'ref = "huggingface.co/Org/Repo:Q8_0"' in text
    assert parse_lock(text.encode()).models[0].reference.short == "hf.co/Org/Repo:Q8_0"


def test_the_cache_key_is_of_the_content_alone() -> None:
    lock = parse_lock(TEXT.encode())
    key = lock.cache_key()
    assert key.startswith("modelrunner-v1-")
    assert len(key) == len("modelrunner-v1-") + 64
    for old, new in (('"chat"', '"talk"'), ("ai/m:1", "ai/m:2"), ("vram = 1024", "vram = 9")):
        assert parse_lock(TEXT.replace(old, new).encode()).cache_key() == key
    assert parse_lock(TEXT.replace(f'manifest = "sha256:{A}', f'manifest = "sha256:{C}').encode())
    changed = TEXT.replace(f'manifest = "sha256:{A}', f'manifest = "sha256:{C}')
    assert parse_lock(changed.encode()).cache_key() != key


def test_the_blobs_of_a_lock_are_each_told_once() -> None:
    lock = parse_lock(TEXT.encode())
    assert [blob.digest.hex for blob in lock.blobs()] == [A, B, C]


def test_signers_are_read_and_written_as_they_were() -> None:
    found = parse_lock(SIGNED.encode())

    assert found.emit() == SIGNED
    assert [str(signer) for signer in found.models[0].signed] == [
        "https://example.com/release.yml",
        f"models@example.com of authority {sha256(b'root').hexdigest()[:16]}",
        f"key {sha256(KEY).hexdigest()[:16]}",
    ]
    assert found.models[1].signed == ()
    # the content is what it was, and so is what a cache of it is called
    assert found.cache_key() == parse_lock(TEXT.encode()).cache_key()


def test_signers_are_in_one_order_and_once() -> None:
    signers = parse_lock(SIGNED.encode()).models[0].signed
    again = replace(signers[2], signature=Digest.parse(f"sha256:{'f' * 64}"))

    assert signers_in_order([again, *reversed(signers)]) == signers


@pytest.mark.parametrize(
    ("old", "new", "message", "line"),
    [
        ("version = 3", "version = 1", "unsupported lock version: expected 3, got 1", 2),
        ("version = 3", "version = 4", "unsupported lock version: expected 3, got 4", 2),
        ('public_key = "', 'public_key = "AAAA', "key is not the SHA-256 of what", 32),
        ('"cm9vdA=="', '"cm9vdA="', "certificate must be base64", 24),
        ('"cm9vdA=="', '"cm9vdB=="', "certificate must be base64", 24),
        ('"dHNh"', "1", "tsa must be base64", 25),
        ('issuer = "https', 'issuer = "a\\nb', "issuer must be one line of at most 2048", 19),
        ('issuer = "https', 'more = "https', "unknown key 'more'", 19),
        (f'signature = "sha256:{A}"\n', "", "missing signature", 17),
        ('identity = "https', 'trusted_root = "https', "trusted_root must be a SHA-256", 18),
        ('identity = "https://example.com/release.yml"\n', "", "a signer needs a key, an", 19),
        ('identity = "models', 'issuer = "models', "a signer needs a key, an authority", 29),
    ],
)
def test_what_is_wrong_with_a_signer_is_told_with_its_line(
    old: str, new: str, message: str, line: int
) -> None:
    assert old in SIGNED
    found = refused(SIGNED.replace(old, new, 1))
    assert found == (found[0], line)
    assert found[0].startswith(f"modelrunner.lock:{line}: {message}")


def test_a_signer_that_is_there_twice_is_refused() -> None:
    head, first, *others = SIGNED.split("\n[[model.signed]]\n")
    text = "\n[[model.signed]]\n".join([head, first, first, *others])

    message = "duplicate signer https://example.com/release.yml"
    assert refused(text) == (f"modelrunner.lock:25: {message}", 25)
