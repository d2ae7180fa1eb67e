"""The policy by commands: rules are added, shown, tested and removed; what people wrote stays."""

import json
from pathlib import Path

import pytest

from tests.conftest import CommandLine
from tests.support.artifacts import Artifact
from tests.support.registry import Registry
from tests.support.signing import Signer, bundle

HEADER = 'version = 1\n# ours\ndefault = "off"\n'
RULE = '\n[[rule]]  # the old one\nmatch = "docker.io/*"\nmode = "warn"\nkeys = ["old.pub"]\n'


@pytest.fixture
def key(tmp_path: Path) -> Path:
    return Signer.make().publish(tmp_path / "team.pub")


@pytest.fixture
def policy(cli: CommandLine) -> Path:
    cli.home.mkdir(parents=True, exist_ok=True)
    return cli.home / "verify.toml"


def done(cli: CommandLine, *words: str) -> str:
    found = cli("trust", *words)
    assert found.returncode == 0, found.stderr
    return found.stdout


def test_without_a_policy_there_is_one_row(cli: CommandLine, policy: Path) -> None:
    found = cli("trust")

    assert found.stdout == "MATCH         MODE  SIGNERS\n(all others)  off\n"
    assert found.stderr == f"no policy yet: `modelrunner trust add` writes {policy}\n"
    assert not policy.exists()


def test_a_rule_is_added_before_one_that_would_hide_it(
    cli: CommandLine, policy: Path, key: Path
) -> None:
    policy.write_text(HEADER + RULE)
    Signer.make().publish(policy.with_name("old.pub"))

    done(cli, "add", "ai/granite*", "--key", str(key))
    done(
        cli, "add", "ghcr.io/acme/*", "--identity", 'a"b', "--issuer", "https://x", "--mode", "warn"
    )

    (copy,) = (cli.home / "keys").iterdir()
    assert copy.read_bytes() == key.read_bytes()
    assert policy.read_text() == (
        HEADER
        + f'\n[[rule]]\nmatch = "ai/granite*"\nmode = "enforce"\nkeys = ["keys/{copy.name}"]\n'
        + RULE
        + '\n[[rule]]\nmatch = "ghcr.io/acme/*"\nmode = "warn"\n'
        'identity = "a\\"b"\nissuer = "https://x"\n'
    )
    assert done(cli) == (
        "MATCH           MODE     SIGNERS\n"
        f"ai/granite*     enforce  key {copy.name}\n"
        "docker.io/*     warn     key old.pub\n"
        'ghcr.io/acme/*  warn     a"b by https://x\n'
        "(all others)    off\n"
    )


def test_a_rule_is_removed_with_its_copy_of_a_key(
    cli: CommandLine, policy: Path, key: Path
) -> None:
    policy.write_text(HEADER + RULE)
    Signer.make().publish(policy.with_name("old.pub"))
    done(cli, "add", "ghcr.io/one/*", "--key", str(key))
    done(cli, "add", "ghcr.io/two/*", "--key", str(key))

    done(cli, "remove", "ghcr.io/one/*")
    assert len(list((cli.home / "keys").iterdir())) == 1
    done(cli, "remove", "GHCR.io/two/*")

    assert policy.read_text() == HEADER + RULE
    assert not list((cli.home / "keys").iterdir())
    done(cli, "remove", "docker.io/*")
    # a key that was not copied is theirs
    assert policy.with_name("old.pub").exists()


def test_the_default_is_set_once(cli: CommandLine, policy: Path, key: Path) -> None:
    policy.write_text(HEADER + RULE)

    done(cli, "default", "enforce")
    done(cli, "default", "warn")

    assert policy.read_text() == 'version = 1\n# ours\ndefault = "warn"\n' + RULE
    assert json.loads(done(cli, "--json"))["default"] == "warn"


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("add", "a/*"), 2, "a rule needs a signer"),
        (("add", "ai/*", "--key", "KEY"), 2, "has a rule for ai/* already"),
        (("add", "docker.io/ai/*", "--key", "KEY"), 2, "has a rule for docker.io/ai/* already"),
        (("add", "b/*", "--key", "POLICY"), 2, "is not a public key in PEM format"),
        (("add",), 2, "`trust add` needs a pattern"),
        (("remove", "b/*"), 3, "has no rule for b/*"),
        (("default", "sometimes"), 2, "invalid mode 'sometimes'"),
        (("list", "x"), 2, "`trust list` takes no names"),
        (("test",), 2, "`trust test` needs a model"),
        (("test", "ai/m", "--key", "KEY"), 2, "`trust test` takes no signers"),
        (("remove", "ai/*", "--mode", "warn"), 2, "`trust remove` takes no signers"),
        (("add", "b/*", "--key", "KEY", "--tsa", "KEY"), 2, "--tsa needs --ca"),
        (("add", "b/*", "--key", "KEY", "--issuer", "x"), 2, "need --identity"),
    ],
)
def test_what_cannot_be_done_changes_nothing(
    cli: CommandLine, policy: Path, key: Path, words: tuple[str, ...], code: int, message: str
) -> None:
    done(cli, "add", "ai/*", "--key", str(key))
    before = policy.read_text()
    places = {"KEY": str(key), "POLICY": str(policy)}

    found = cli("trust", *(places.get(word, word) for word in words))

    assert found.returncode == code
    assert message in found.stderr
    assert "\nhint: " in found.stderr
    assert policy.read_text() == before


def test_what_is_written_in_an_unusual_way_is_left_alone(
    cli: CommandLine, policy: Path, key: Path
) -> None:
    text = 'version = 1\nrule = [{match = "a/*", mode = "warn", identity = "b"}]\n'
    policy.write_text(text)

    found = cli("trust", "add", "c/*", "--key", str(key))

    assert found.returncode == 2
    assert "is written in an unusual way" in found.stderr
    assert policy.read_text() == text


def test_a_policy_that_is_not_understood_is_told(cli: CommandLine, policy: Path) -> None:
    policy.write_text("version = 2\n")

    found = cli("trust")

    assert found.returncode == 2
    assert "unsupported version 2" in found.stderr


def test_a_model_is_tested_wherever_it_is(
    cli: CommandLine, registry: Registry, tiny: Artifact, tmp_path: Path, policy: Path
) -> None:
    signer = Signer.make()
    key = signer.publish(tmp_path / "team.pub")
    registry.add(tiny, "team/m", ["1"])
    registry.add(bundle(signer, tiny), "team/m", [tiny.digest.replace(":", "-")])
    name = registry.reference("team/m:1")
    pattern = registry.reference("team/*")

    off = done(cli, "test", name)
    done(cli, "add", pattern, "--key", str(key))
    good = json.loads(done(cli, "test", name, "--json"))
    done(cli, "remove", pattern)
    stranger = Signer.make().publish(tmp_path / "stranger.pub")
    done(cli, "add", pattern, "--key", str(stranger))
    refused = cli("trust", "test", name)

    assert off.endswith(f"{name}: passes: no rule asks for a signature\n")
    assert (good["match"], good["mode"], good["passes"]) == (pattern, "enforce", True)
    assert good["signatures"][0]["verified"] is True
    (copy,) = (cli.home / "keys").iterdir()
    assert refused.returncode == 6
    assert refused.stdout == (
        f"rule: {pattern} enforce (key {copy.name})\n"
        "signature (bundle): not valid: signed with another key\n"
        f"{name}: refused: no valid signature\n"
    )
    # nothing was pulled, and the answer of a test is that of a pull
    assert not (cli.home / "store" / "v1" / "index.json").exists()
    assert cli("pull", name).returncode == 6
