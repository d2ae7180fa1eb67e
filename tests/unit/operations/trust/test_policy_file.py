"""Changes to a policy: none is lost, links stay links, and paths are meant from here."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from modelrunner.errors import ConfigError
from modelrunner.operations.trust.policy_file import PolicyFile
from modelrunner.operations.trust.signatures import Signers
from modelrunner.provenance.policy import Rule, parse_policy
from tests.support.signing import Signer


def test_rules_that_are_added_at_once_are_all_there(tmp_path: Path) -> None:
    key = Signer.make().publish(tmp_path / "team.pub")
    policy = PolicyFile(tmp_path / "home" / "verify.toml")
    wanted = [f"ghcr.io/team{number}/*" for number in range(16)]

    with ThreadPoolExecutor(len(wanted)) as pool:
        list(pool.map(lambda match: policy.add(Rule(match, "enforce", (key,))), wanted))

    assert sorted(rule.match for rule in policy.read().rules) == sorted(wanted)


def test_a_trusted_root_is_named_from_where_one_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    policy = PolicyFile(tmp_path / "home" / "verify.toml")

    policy.add(Rule("x/*", "warn", identity="me", trusted_root=Path("root.json")))

    assert policy.read().rules[0].trusted_root == tmp_path / "root.json"


def test_a_policy_that_is_a_link_stays_one(tmp_path: Path) -> None:
    settings, link = tmp_path / "settings.toml", tmp_path / "verify.toml"
    settings.write_text("version = 1\n")
    link.symlink_to(settings)

    PolicyFile(link).set_default("warn")

    assert link.is_symlink()
    assert settings.read_text() == 'version = 1\ndefault = "warn"\n'


def test_a_pattern_that_is_not_utf_8_is_refused(tmp_path: Path) -> None:
    key = Signer.make().publish(tmp_path / "team.pub")

    with pytest.raises(ConfigError):
        PolicyFile(tmp_path / "verify.toml").add(Rule("x\udcff/*", "enforce", (key,)))


def test_a_policy_that_is_nested_too_deeply_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="invalid TOML"):
        parse_policy(tmp_path / "verify.toml", b"version = " + b"[" * 100_000)


def test_with_another_trusted_root_nothing_was_verified_yet(tmp_path: Path) -> None:
    root = tmp_path / "root.json"
    rule = Rule("x/*", "enforce", identity="me", trusted_root=root)
    root.write_text("{}")
    before = Signers.of(rule).fingerprint

    root.write_text("[]")

    assert Signers.of(rule).fingerprint != before
    assert Signers.of(Rule("x/*", "enforce", identity="me")).fingerprint != before
