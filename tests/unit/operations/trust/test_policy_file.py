"""Changes to a policy: none is lost, links stay links, and paths are meant from here."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from modelrunner.errors import ConfigError, UsageError
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


_COMMENTED = """\
# Ours.
version = 1

# Of Docker.
[[rule]]
match = "docker.io/ai/*"   # all of them
mode = "off"
# The one above will go.

# --- ours ---

# The team's.
[[rule]]
match = "ghcr.io/team/*"
mode = "off"
# Nobody else's:
[[rule]]
match = "ghcr.io/*"
mode = "off"
# until then

# Asked for again in May.
"""


@pytest.mark.parametrize(
    ("match", "gone"),
    [
        (
            "ai/*",
            """# Of Docker.
[[rule]]
match = "docker.io/ai/*"   # all of them
mode = "off"
# The one above will go.

""",
        ),
        (
            "ghcr.io/team/*",
            """# --- ours ---

# The team's.
[[rule]]
match = "ghcr.io/team/*"
mode = "off"
""",
        ),
        (
            "ghcr.io/*",
            """# Nobody else's:
[[rule]]
match = "ghcr.io/*"
mode = "off"
# until then
""",
        ),
    ],
)
def test_a_rule_goes_with_the_comments_about_it_and_no_others(
    tmp_path: Path, match: str, gone: str
) -> None:
    path = tmp_path / "verify.toml"
    path.write_text(_COMMENTED)

    PolicyFile(path).remove(match)

    assert gone in _COMMENTED
    assert _lines(path.read_text()) == _lines(_COMMENTED.replace(gone, ""))


def test_a_rule_is_added_above_the_comments_of_the_next(tmp_path: Path) -> None:
    path = tmp_path / "verify.toml"
    path.write_text(_COMMENTED)

    PolicyFile(path).add(Rule("ghcr.io/team/one", "off"))

    text = path.read_text()
    assert text.index('match = "ghcr.io/team/one"') < text.index("# --- ours ---")
    assert set(_lines(_COMMENTED)) <= set(_lines(text))


def test_a_rule_with_the_port_of_https_is_the_same_rule(tmp_path: Path) -> None:
    policy = PolicyFile(tmp_path / "verify.toml")
    policy.add(Rule("registry.example.com/*", "off"))

    with pytest.raises(UsageError, match=r"has a rule for registry\.example\.com:443"):
        policy.add(Rule("registry.example.com:443/*", "off"))
    assert policy.remove("registry.example.com:443/*").match == "registry.example.com/*"


def _lines(text: str) -> list[str]:
    """Lines that say something."""
    return [line for line in text.splitlines() if line]
