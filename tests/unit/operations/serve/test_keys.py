"""API keys: read from options, a file and the environment."""

import re
from pathlib import Path

import pytest

from modelrunner.errors import UsageError
from modelrunner.operations.serve.keys import choose_keys
from modelrunner.serve.client.keys import ApiKey

ENVIRON = {"MODELRUNNER_API_KEY": "usual=one"}


def keys(*said: str, file: Path | None = None, **environ: str) -> list[tuple[str, str]]:
    chosen = choose_keys(said, file, environ, needed=False)
    return [(key.name, key.secret) for key in chosen.keys.keys]


def key_file(folder: Path, text: str, mode: int = 0o600) -> Path:
    path = folder / "keys"
    path.write_text(text)
    path.chmod(mode)
    return path


@pytest.mark.parametrize(
    ("said", "name", "secret"),
    [
        ("secret", "", "secret"),
        ("alice=secret", "alice", "secret"),
        ("team.a-1_b=s=t", "team.a-1_b", "s=t"),
        # keys in Base64
        ("c2VjcmV0cw==", "", "c2VjcmV0cw=="),
        ("c2VjcmV0c2U=", "", "c2VjcmV0c2U="),
        ("=secret", "", "=secret"),
        ("a/b=secret", "", "a/b=secret"),
    ],
)
def test_a_key_may_have_a_name(said: str, name: str, secret: str) -> None:
    assert keys(said) == [(name, secret)]


def test_keys_of_options_and_a_file_add_up_and_the_environment_is_for_neither(
    tmp_path: Path,
) -> None:
    file = key_file(tmp_path, "# who\nbob=secret-b\n\n  carol=secret-c  \nsecret-d\n")
    expected = [("alice", "secret-a"), ("bob", "secret-b"), ("carol", "secret-c"), ("", "secret-d")]
    assert keys("alice=secret-a", file=file, **ENVIRON) == expected
    assert keys(**ENVIRON) == [("", "usual=one")]
    assert keys() == []


def test_keys_are_made_where_they_are_asked_for_or_needed() -> None:
    chosen = choose_keys(["alice=generated", "bob=secret"], None, {}, needed=True)
    alice, bob = chosen.keys.keys
    assert chosen.made == (alice,)
    assert (alice.name, bob) == ("alice", ApiKey("secret", "bob"))
    assert re.fullmatch(r"[\w-]{43}", alice.secret)
    needed = choose_keys([], None, {}, needed=True)
    assert needed.made == needed.keys.keys
    assert alice.secret not in repr(chosen)


@pytest.mark.parametrize(
    ("said", "message", "hint"),
    [
        (
            [""],
            "invalid API key in --api-key: expected printable ASCII characters without spaces",
            "`--api-key generated` creates one",
        ),
        (
            ["a=s s"],
            "invalid API key 'a' in --api-key: expected printable ASCII characters without spaces",
            "`--api-key generated` creates one",
        ),
        (["a=x", "a=y"], "two API keys have the name 'a'", "name each: `--api-key NAME=KEY`"),
        (["x", "y"], "two keys are unnamed", "name each: `--api-key NAME=KEY`"),
        (
            ["a=x", "b=x"],
            "the API key 'b' has the value of another one",
            "give each name a key of its own: `--api-key NAME=generated` creates one",
        ),
    ],
)
def test_keys_that_cannot_be_used_are_refused(said: list[str], message: str, hint: str) -> None:
    with pytest.raises(UsageError) as caught:
        keys(*said)
    assert (caught.value.message, caught.value.hint) == (message, hint)


@pytest.mark.parametrize("mode", [0o604, 0o620, 0o602, 0o644, 0o666])
def test_a_file_that_others_can_read_or_change_is_refused(tmp_path: Path, mode: int) -> None:
    file = key_file(tmp_path, "secret", mode)
    with pytest.raises(UsageError) as caught:
        keys(file=file)
    assert caught.value.message == (
        f"--api-key-file: other users can read or change {file}: its mode is {mode:04o}"
    )
    assert caught.value.hint == f"`chmod 600 {file}`"


@pytest.mark.parametrize("mode", [0o400, 0o440, 0o600, 0o640])
def test_a_file_may_be_readable_for_its_group(tmp_path: Path, mode: int) -> None:
    assert keys(file=key_file(tmp_path, "secret", mode)) == [("", "secret")]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "--api-key-file: {} has no keys"),
        ("# none\n", "--api-key-file: {} has no keys"),
        ("s\u00e9cret", "--api-key-file: {} has characters that are not ASCII"),
        (
            "ok\na b\n",
            "invalid API key in {}, line 2: expected printable ASCII characters without spaces",
        ),
    ],
)
def test_a_file_without_keys_is_refused(tmp_path: Path, text: str, message: str) -> None:
    file = key_file(tmp_path, text)
    with pytest.raises(UsageError) as caught:
        keys(file=file)
    assert caught.value.message == message.format(file)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        keys(file=tmp_path / "none")
    assert caught.value.message == (
        f"--api-key-file: cannot read {tmp_path}/none: no such file or directory"
    )
    with pytest.raises(UsageError, match="is a directory"):
        keys(file=tmp_path)
