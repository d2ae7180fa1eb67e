"""A model is signed for an identity, by a real Sigstore instance on this machine."""

import hashlib
import json
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import CommandLine
from tests.support.artifacts import Artifact
from tests.support.cosign import COSIGN_3, cosign
from tests.support.docker_registry import docker_registry, needs_docker_registry, push_artifact
from tests.support.registry import Registry
from tests.support.sigstore import Instance, needs_sigstore, sigstore

pytestmark = [pytest.mark.real, needs_sigstore]

ME = "me@example.com"
NO_TIME = "no timestamp of a configured authority says when it was signed"
NOTHING_VALID = "the trusted root has nothing that was valid when it was signed"


@pytest.fixture(scope="module")
def instance(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Instance]:
    with sigstore(tmp_path_factory.mktemp("sigstore") / "logged") as running:
        yield running


@pytest.fixture(scope="module")
def unlogged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Instance]:
    with sigstore(tmp_path_factory.mktemp("sigstore") / "unlogged", logs=None) as running:
        yield running


@pytest.fixture
def name(cli: CommandLine, registry: Registry, tiny: Artifact) -> str:
    """A model that is in the store and in its registry."""
    registry.add(tiny, "team/m", ["1"])
    found = registry.reference("team/m:1")
    done(cli, "pull", found)
    return found


def done(cli: CommandLine, *words: object, **environ: str) -> str:
    found = cli(*map(str, words), **environ)
    assert found.returncode == 0, found.stderr
    return found.stdout


def signed(cli: CommandLine, name: str, instance: Instance, *words: object) -> dict[str, object]:
    token = instance.token_file(ME)
    config = ("--trust-config", instance.trust_config)
    found = done(cli, "sign", name, "--identity-token", token, *config, *words, "--json")
    value: dict[str, object] = json.loads(found)
    return value


def checked(
    cli: CommandLine, name: str, instance: Instance, root: Path, who: str = ME, issuer: str = ""
) -> list[dict[str, object]]:
    said = ("--identity", who, "--issuer", issuer or instance.provider.url, "--trusted-root", root)
    found = json.loads(done(cli, "inspect", "--security", name, *said, "--offline"))
    signatures: list[dict[str, object]] = found["signatures"]
    return signatures


def test_what_is_signed_for_an_identity_is_verified_without_a_network(
    cli: CommandLine, name: str, instance: Instance
) -> None:
    value = signed(cli, name, instance)

    assert (value["identity"], value["issuer"]) == (ME, instance.provider.url)
    (found,) = checked(cli, name, instance, instance.trusted_root)
    assert (found["verified"], found["by"], found["problem"]) == (True, ME, None)
    # the file that names the services has the root too
    assert checked(cli, name, instance, instance.trust_config) == [found]


def test_a_policy_lets_the_identity_pass_and_no_other(
    cli: CommandLine, name: str, instance: Instance
) -> None:
    signed(cli, name, instance)
    rule = ("trust", "add", "*", "--trusted-root", instance.trusted_root)
    issuer = ("--issuer", instance.provider.url)

    done(cli, *rule, *issuer, "--identity", "stranger@example.com")
    refused = cli("pull", name, "--offline")
    done(cli, "trust", "remove", "*")
    done(cli, *rule, *issuer, "--identity", ME)
    done(cli, "pull", name, "--offline")

    assert refused.returncode == 6
    assert f"Certificate's SANs do not match stranger@example.com; actual SANs: {{'{ME}'}}" in (
        refused.stderr
    )


@pytest.mark.parametrize(
    ("who", "issuer"), [("stranger@example.com", ""), (ME, "https://accounts.example.com")]
)
def test_another_identity_or_issuer_does_not_count(
    cli: CommandLine,
    name: str,
    instance: Instance,
    unlogged: Instance,
    who: str,
    issuer: str,
) -> None:
    for each in (instance, unlogged):
        signed(cli, name, each)
        found = checked(cli, name, each, each.trusted_root, who, issuer)
        assert not any(entry["verified"] for entry in found)


@pytest.mark.parametrize(
    ("part", "logged", "problem"),
    [
        *((part, True, NOTHING_VALID) for part in ("certificateAuthorities", "tlogs", "ctlogs")),
        ("certificateAuthorities", False, NOTHING_VALID),
        ("timestampAuthorities", False, NO_TIME),
    ],
)
def test_what_a_root_has_withdrawn_does_not_count(
    cli: CommandLine,
    name: str,
    instance: Instance,
    unlogged: Instance,
    part: str,
    logged: bool,
    problem: str,
) -> None:
    by = instance if logged else unlogged
    signed(cli, name, by)
    (valid,) = checked(cli, name, by, by.trusted_root)
    root = json.loads(by.trusted_root.read_text())
    for each in root[part]:
        period = each["publicKey"]["validFor"] if "publicKey" in each else each["validFor"]
        period["end"] = "2021-01-01T00:00:00Z"
    withdrawn = by.folder / f"withdrawn-{part}.json"
    withdrawn.write_text(json.dumps(root))

    (found,) = checked(cli, name, by, withdrawn)

    assert (valid["verified"], found["verified"]) == (True, False)
    assert found["problem"] == f"Sigstore verification failed: {problem}"


def test_an_instance_without_logs_is_one_of_timestamps(
    cli: CommandLine, name: str, instance: Instance, unlogged: Instance
) -> None:
    signed(cli, name, unlogged)

    (found,) = checked(cli, name, unlogged, unlogged.trusted_root)
    assert (found["verified"], found["by"]) == (True, ME)
    (other,) = checked(cli, name, unlogged, instance.trusted_root)
    assert other["verified"] is False
    # its clock is another one: nothing says when it was signed
    root = json.loads(unlogged.trusted_root.read_text())
    clocks = json.loads(instance.trusted_root.read_text())["timestampAuthorities"]
    strange = unlogged.folder / "strange.json"
    strange.write_text(json.dumps({**root, "timestampAuthorities": clocks}))
    (late,) = checked(cli, name, unlogged, strange)
    assert late["problem"] == f"Sigstore verification failed: {NO_TIME}"


def test_the_older_log_is_one_as_well(cli: CommandLine, name: str, tmp_path: Path) -> None:
    with sigstore(tmp_path / "sigstore", logs=1) as instance:
        signed(cli, name, instance)

        (found,) = checked(cli, name, instance, instance.trusted_root)

    assert (found["verified"], found["by"]) == (True, ME)


@pytest.mark.skipif(COSIGN_3 is None, reason="needs cosign 3: `.ci/cosign` builds it")
@pytest.mark.parametrize("logged", [True, False])
def test_cosign_verifies_signatures_and_attestations_of_an_identity(
    cli: CommandLine,
    name: str,
    instance: Instance,
    unlogged: Instance,
    tmp_path: Path,
    logged: bool,
) -> None:
    assert COSIGN_3 is not None
    used = instance if logged else unlogged
    predicate = tmp_path / "p.json"
    predicate.write_text("{}")
    signed(cli, name, used, "--push")
    signed(cli, name, used, "--push", "--predicate", predicate, "--type", "spdx")
    said = ("--certificate-identity", ME, "--certificate-oidc-issuer", used.provider.url)
    root = ("--trusted-root", str(used.trusted_root), "--use-signed-timestamps")
    less = () if logged else ("--insecure-ignore-tlog", "--insecure-ignore-sct")
    words = (*said, *root, *less, "--allow-http-registry")

    cosign(COSIGN_3, "verify", *words, name, cwd=tmp_path)
    cosign(COSIGN_3, "verify-attestation", *words, "--type", "spdx", name, cwd=tmp_path)


@needs_docker_registry
@pytest.mark.skipif(COSIGN_3 is None, reason="needs cosign 3: `.ci/cosign` builds it")
def test_what_cosign_signs_for_an_identity_is_verified(
    cli: CommandLine, tiny: Artifact, tmp_path: Path
) -> None:
    assert COSIGN_3 is not None
    with (
        sigstore(tmp_path / "sigstore") as instance,
        docker_registry(tmp_path / "registry") as away,
    ):
        name = away.reference("team/m:1")
        push_artifact(away, tiny, "team/m", ["1"])
        config = ("--signing-config", str(instance.folder / "signing_config.json"))
        root = ("--trusted-root", str(instance.trusted_root))
        words = ("--yes", "--identity-token", instance.provider.token(ME), "--allow-http-registry")
        # twice: the first entry of a log has the number 0, and nothing beside it
        for _again in range(2):
            cosign(COSIGN_3, "sign", *config, *root, *words, name, cwd=tmp_path)
        done(cli, "pull", name)

        found = checked(cli, name, instance, instance.trusted_root)

    assert [(each["verified"], each["by"]) for each in found] == [(True, ME), (True, ME)]


def test_the_authority_refuses_a_token_that_it_does_not_believe(
    cli: CommandLine, name: str, instance: Instance, unlogged: Instance
) -> None:
    words = ("sign", name, "--trust-config", instance.trust_config, "--identity-token")
    for token in (
        instance.token_file(ME, aud="somebody-else"),
        # of a provider that it does not know
        unlogged.token_file(ME),
        instance.token_file(ME, email_verified=False),
    ):
        found = cli(*map(str, words), token)

        assert found.returncode == 4
        assert "does not accept the identity token of http://127.0.0.1:" in found.stderr
        assert "hint: check the token's issuer and audience" in found.stderr
    assert json.loads(done(cli, "discover", name, "--json"))["referrers"] == []


def test_a_clock_that_is_down_ends_it_and_nothing_is_kept(
    cli: CommandLine, name: str, instance: Instance
) -> None:
    config = json.loads(instance.trust_config.read_text())
    config["signingConfig"]["tsaUrls"][0]["url"] = "http://127.0.0.1:9/api/v1/timestamp"
    path = instance.folder / "down.json"
    path.write_text(json.dumps(config))
    token = instance.token_file(ME)

    found = cli("sign", name, "--identity-token", token, "--trust-config", str(path))

    assert found.returncode == 5
    assert "cannot reach 127.0.0.1:9" in found.stderr
    assert json.loads(done(cli, "discover", name, "--json"))["referrers"] == []


def test_services_of_another_instance_than_the_root_are_told(
    cli: CommandLine, name: str, instance: Instance, unlogged: Instance
) -> None:
    config = json.loads(unlogged.trust_config.read_text())
    config["trustedRoot"] = {
        **config["trustedRoot"],
        "certificateAuthorities": json.loads(instance.trusted_root.read_text())[
            "certificateAuthorities"
        ],
    }
    path = unlogged.folder / "mixed.json"
    path.write_text(json.dumps(config))

    token = unlogged.token_file(ME)
    found = cli("sign", name, "--identity-token", token, "--trust-config", str(path))

    assert found.returncode == 6
    assert found.stderr == (
        "error: the new signature does not verify: its certificate is not of a configured"
        " authority, or not for signing\n"
        "hint: check that the trusted root in --trust-config is that of its services\n"
    )


def test_a_lock_records_the_identity_and_the_trusted_root(
    cli: CommandLine, name: str, instance: Instance, project: Path
) -> None:
    signed(cli, name, instance, "--push")
    root = instance.trusted_root
    asked = ("--identity", ME, "--issuer", instance.provider.url, "--trusted-root", root)
    done(cli, "lock", "--init", name, *asked)
    (model,) = tomllib.loads((project / "modelrunner.lock").read_text())["model"]
    (entry,) = model["signed"]
    del entry["signature"]
    assert entry == {
        "identity": ME,
        "issuer": instance.provider.url,
        "trusted_root": hashlib.sha256(root.read_bytes()).hexdigest(),
    }

    refused = cli("pull", "--locked")
    done(cli, "trust", "add", "*", *asked, "--mode", "off")
    done(cli, "pull", "--frozen")

    assert refused.returncode == 6
    assert "was verified with another trusted root than this machine has" in refused.stderr


def test_the_token_is_never_shown(cli: CommandLine, name: str, instance: Instance) -> None:
    token = Path(instance.token_file(ME)).read_text().strip()
    words = ("sign", name, "--trust-config", str(instance.trust_config), "--debug")

    for way, environ in (("env:TOKEN", {"TOKEN": token}), ("auto", {"SIGSTORE_ID_TOKEN": token})):
        found = cli(*words, "--identity-token", way, **environ)

        assert found.returncode == 0, found.stderr
        shown = found.stdout + found.stderr
        assert "/api/v2/signingCert" in shown
        assert not any(part in shown for part in token.split("."))
