"""A lock records who signs its models, and a pull of it refuses what they have not signed."""

import base64
import json
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID

from modelrunner.share.server import sharing
from modelrunner.store.store import Store
from tests.conftest import CommandLine
from tests.support.artifacts import Artifact, docker_artifact
from tests.support.authority import certified, timestamp
from tests.support.registry import Registry
from tests.support.schemas import is_valid
from tests.support.signing import Signer, certified_bundle

Machine = Callable[[str], CommandLine]


@pytest.fixture
def machine(cli: CommandLine, tmp_path: Path) -> Machine:
    """Other machines, each with a home of its own."""

    def at(name: str) -> CommandLine:
        home = tmp_path / name
        return replace(cli, home=home, environ={**cli.environ, "MODELRUNNER_HOME": str(home)})

    return at


@pytest.fixture
def name(registry: Registry, tiny: Artifact) -> str:
    """A model that is in its registry alone."""
    registry.add(tiny, "team/m", ["1"])
    return registry.reference("team/m:1")


def private(signer: Signer, path: Path) -> str:
    path.write_bytes(signer.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return str(path)


def done(machine: CommandLine, *words: str, **environ: str) -> str:
    found = machine(*words, **environ)
    assert found.returncode == 0, found.stderr
    return found.stdout


def signed(machine: CommandLine, name: str, signer: Signer, tmp_path: Path, title: str) -> str:
    """Sign a model with `modelrunner sign`; the file of the public key."""
    done(machine, "sign", name, "--key", private(signer, tmp_path / f"{title}.key"), "--push")
    return str(signer.publish(tmp_path / f"{title}.pub"))


def locked(project: Path) -> dict[str, object]:
    """What the lock of the one model says, after it was held against the schema."""
    value = tomllib.loads((project / "modelrunner.lock").read_text())
    is_valid("modelrunner.lock", value)
    (model,) = value["model"]
    assert isinstance(model, dict)
    return {"version": value["version"], **model}


def test_who_signs_is_recorded_and_asked_of_every_machine_that_pulls(
    machine: Machine, registry: Registry, name: str, project: Path, tmp_path: Path
) -> None:
    owner, builder = machine("owner"), machine("builder")
    signer = Signer.make()
    public = signed(owner, name, signer, tmp_path, "team")

    done(owner, "lock", "--init", name)
    assert (locked(project)["version"], locked(project).get("signed")) == (1, None)
    said = done(owner, "lock", "--key", public)

    value = locked(project)
    (entry,) = value["signed"]  # type: ignore[misc]
    assert value["version"] == 3
    assert said == f"updated m: signed by key {entry['key'][:16]}, the content is the same\n"
    text = (project / "modelrunner.lock").read_text()
    done(owner, "lock", "--key", public)
    done(owner, "lock")
    assert done(owner, "lock", "--diff") == ""
    done(owner, "lock", "--upgrade")
    assert (project / "modelrunner.lock").read_text() == text
    # no key, no policy: the lock is enough
    (pulled,) = json.loads(done(builder, "pull", "--locked", "--json"))
    assert pulled["status"] == "pulled"
    registry.close()
    done(builder, "pull", "--frozen")


def test_a_warm_pull_loads_nothing_that_verifies(
    machine: Machine, registry: Registry, name: str, project: Path, tmp_path: Path
) -> None:
    owner = machine("owner")
    public = signed(owner, name, Signer.make(), tmp_path, "team")
    done(owner, "lock", "--init", name, "--key", public)
    done(owner, "pull", "--locked")
    registry.close()
    code = (
        "import sys\nfrom modelrunner.cli.app import main\n"
        "status = main(['pull', '--frozen'])\n"
        "sys.exit(status or bool({'cryptography', 'urllib3', 'socket'} & {*sys.modules}))"
    )

    found = subprocess.run(
        [sys.executable, "-c", code],
        check=False,
        env={**owner.environ},
        capture_output=True,
        text=True,
    )

    assert found.returncode == 0, found.stderr


def test_weights_of_a_model_that_the_recorded_signer_has_not_signed_stay_away(
    machine: Machine, registry: Registry, name: str, project: Path, tmp_path: Path, tiny: Artifact
) -> None:
    owner, builder = machine("owner"), machine("builder")
    public = signed(owner, name, Signer.make(), tmp_path, "team")
    done(owner, "lock", "--init", name, "--key", public)
    key = locked(project)["signed"][0]["key"]  # type: ignore[index]
    # the same model elsewhere, where nobody has signed it, and then a stranger
    other = Registry()
    with other:
        other.add(tiny, "team/m", ["1"])
        elsewhere = other.reference("team/m:1")
        for path in (project / "modelrunner.toml", project / "modelrunner.lock"):
            path.write_text(path.read_text().replace(registry.host, other.host))
        unsigned = builder("pull", "--locked", "--json")
        signed(owner, elsewhere, Signer.make(), tmp_path, "stranger")
        foreign = builder("pull", "--locked", "--json")
        fetched = [request.target for request in other.requests_of("GET", "blobs")]
        assert not any(digest in target for target in fetched for digest in tiny.layer_digests)
    assert (unsigned.returncode, foreign.returncode) == (6, 6)
    errors = [json.loads(each.stderr.splitlines()[-1])["error"] for each in (unsigned, foreign)]
    whose = f"m: not signed by key {key[:16]}, which modelrunner.lock records"
    assert [error["code"] for error in errors] == ["unverified", "unverified"]
    assert [error["message"] for error in errors] == [
        f"{whose}: no signature found",
        f"{whose}: no valid signature: signed with another key",
    ]
    assert errors[0]["hint"] == (
        "pull a signature that is missing with `modelrunner pull --locked --referrers signatures"
        " m`; to accept another signer, run `modelrunner lock --update m --key FILE`"
    )


def test_a_signature_by_the_same_signer_is_as_good_as_the_recorded_one(
    machine: Machine, registry: Registry, name: str, project: Path, tmp_path: Path
) -> None:
    owner, signer = machine("owner"), Signer.make()
    done(owner, "pull", name)
    key = private(signer, tmp_path / "team.key")
    public = str(signer.publish(tmp_path / "team.pub"))
    done(owner, "sign", name, "--key", key)
    done(owner, "lock", "--init", name, "--key", public)
    before = locked(project)["signed"]
    # that one never left the machine
    done(machine("other"), "sign", name, "--key", key, "--push")

    done(machine("builder"), "pull", "--locked")

    (entry,) = before  # type: ignore[misc]
    assert not any(entry["signature"] in request.target for request in registry.requests)


def test_a_lock_is_kept_without_a_network_by_store_archive_and_mirror(
    machine: Machine, registry: Registry, name: str, project: Path, tmp_path: Path
) -> None:
    owner = machine("owner")
    public = signed(owner, name, Signer.make(), tmp_path, "team")
    done(owner, "lock", "--init", name, "--key", public)
    done(owner, "pull", "--locked")
    done(owner, "save", name, "-o", str(tmp_path / "m.tar"))
    host = registry.host
    registry.close()
    # what was verified before is not what lets it pass here
    loader = machine("loader")
    done(loader, "load", str(tmp_path / "m.tar"))
    done(loader, "pull", "--locked", "--offline")
    # signatures are found at a mirror of the registry
    with sharing(Store(loader.home / "store")) as server:
        guest = machine("guest")
        done(guest, "pull", "--locked", MODELRUNNER_MIRRORS=f"{host}={server.address}")
    done(guest, "pull", "--frozen")


def test_without_a_network_a_model_whose_signature_was_left_behind_is_refused(
    machine: Machine, name: str, project: Path, tmp_path: Path
) -> None:
    owner, builder = machine("owner"), machine("builder")
    public = signed(owner, name, Signer.make(), tmp_path, "team")
    done(owner, "lock", "--init", name, "--key", public)
    done(builder, "pull", name, "--referrers", "none")

    offline = builder("pull", "--frozen")
    online = builder("pull", "--locked", "--referrers", "signatures")

    assert offline.returncode == 6
    assert "which modelrunner.lock records: no signature found" in offline.stderr
    assert online.returncode == 0
    done(builder, "pull", "--frozen")


def test_a_new_version_has_to_be_signed_by_those_of_the_lock(
    machine: Machine, registry: Registry, name: str, project: Path, tmp_path: Path
) -> None:
    owner, signer = machine("owner"), Signer.make()
    public = signed(owner, name, signer, tmp_path, "team")
    done(owner, "lock", "--init", name, "--key", public)
    before = locked(project)
    new = docker_artifact(b"GGUF of another version")
    registry.add(new, "team/m", ["1"])

    refused = owner("lock", "--update", "m")
    assert refused.returncode == 6
    assert "team/m:1: not signed" in refused.stderr
    assert locked(project) == before
    other = signed(machine("successor"), name, Signer.make(), tmp_path, "successor")
    assert owner("lock", "--update", "m").returncode == 6
    done(owner, "lock", "--update", "m", "--key", other)
    after = locked(project)
    assert after["manifest"] == new.digest
    assert after["signed"][0]["key"] != before["signed"][0]["key"]  # type: ignore[index]
    done(owner, "lock", "--unsigned")
    assert (locked(project)["version"], locked(project).get("signed")) == (1, None)


@pytest.mark.parametrize("mode", ["warn", "enforce"])
def test_the_signers_of_a_policy_are_recorded(
    machine: Machine, registry: Registry, name: str, project: Path, tmp_path: Path, mode: str
) -> None:
    owner = machine("owner")
    public = Signer.make().publish(tmp_path / "other.pub")
    owner.home.mkdir(exist_ok=True)
    policy = owner.home / "verify.toml"
    rule = f'version = 1\n[[rule]]\nmatch = "*"\nmode = "{mode}"\nkeys = ["{public}"]\n'
    policy.write_text(rule)

    found = owner("lock", "--init", name)

    assert found.returncode == (6 if mode == "enforce" else 0)
    assert "team/m:1: not signed" in found.stderr
    assert (project / "modelrunner.lock").exists() is (mode == "warn")
    signature = signed(owner, name, Signer.make(), tmp_path, "team")
    policy.write_text(rule.replace(str(public), signature))
    for path in project.iterdir():
        path.unlink()
    done(owner, "lock", "--init", name)
    assert len(locked(project)["signed"]) == 1  # type: ignore[arg-type]


def test_a_certificate_is_recorded_with_whom_it_names(
    machine: Machine, name: str, project: Path, tmp_path: Path, registry: Registry, tiny: Artifact
) -> None:
    root = certified("Root", authority=True)
    mine = certified("Team", root, mail="models@example.com")
    registry.add(certified_bundle(mine.signer, tiny, [mine.der]), "team/m", [_tag(tiny)])
    ca = root.write(tmp_path / "ca.pem")

    done(machine("owner"), "lock", "--init", name, "--ca", str(ca))

    (entry,) = locked(project)["signed"]  # type: ignore[misc]
    assert sorted(entry) == ["ca", "certificate", "identity", "signature"]
    assert entry["identity"] == "models@example.com"
    done(machine("builder"), "pull", "--locked")
    # another one of the same authority is somebody else
    path = project / "modelrunner.lock"
    path.write_text(path.read_text().replace("models@", "others@"))
    found = machine("suspicious")("pull", "--locked")
    assert found.returncode == 6
    assert "not signed by others@example.com of authority " in found.stderr
    assert "signed with a certificate of models@example.com" in found.stderr


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl")
def test_the_authority_of_a_timestamp_is_recorded_with_it(
    machine: Machine, name: str, project: Path, tmp_path: Path, registry: Registry, tiny: Artifact
) -> None:
    root = certified("Root", authority=True)
    clock = certified("Clock", usage=ExtendedKeyUsageOID.TIME_STAMPING, critical_usage=True)
    mine = certified("Team", root, mail="models@example.com")

    def stamp(signature: bytes) -> bytes:
        return timestamp(clock, signature, tmp_path / "clock")

    signature = certified_bundle(mine.signer, tiny, [mine.der], stamp)
    registry.add(signature, "team/m", [_tag(tiny)])
    ca, tsa = root.write(tmp_path / "ca.pem"), clock.write(tmp_path / "tsa.pem")

    done(machine("owner"), "lock", "--init", name, "--ca", str(ca), "--tsa", str(tsa))

    (entry,) = locked(project)["signed"]  # type: ignore[misc]
    assert entry["tsa"] == [base64.b64encode(clock.der).decode()]
    done(machine("builder"), "pull", "--locked")
    done(machine("builder"), "pull", "--frozen")


def _tag(model: Artifact) -> str:
    return model.digest.replace(":", "-")


def test_options_that_contradict_each_other_are_refused(
    cli: CommandLine, project: Path, tmp_path: Path
) -> None:
    key = str(Signer.make().publish(tmp_path / "team.pub"))
    for words, message in (
        (("--key", key, "--unsigned"), "cannot be combined with --unsigned"),
        (("--identity", "x", "--check"), "cannot be combined with --check"),
        (("--tsa", key), "--tsa needs --ca"),
        (("--issuer", "x"), "--issuer needs --identity"),
    ):
        found = cli("lock", *words)
        assert (found.returncode, message in found.stderr) == (2, True), found.stderr


def test_models_of_one_lock_have_signers_of_their_own(
    machine: Machine, registry: Registry, name: str, project: Path, tmp_path: Path
) -> None:
    owner = machine("owner")
    registry.add(docker_artifact(b"GGUF of another"), "team/n", ["1"])
    other = registry.reference("team/n:1")
    done(owner, "pull", other)
    ours = signed(owner, name, Signer.make(), tmp_path, "team")
    theirs = signed(owner, other, Signer.make(), tmp_path, "others")
    done(owner, "lock", "--init", name)
    with (project / "modelrunner.toml").open("a") as intent:
        intent.write(f'n = "{other}"\n')

    done(owner, "lock")
    done(owner, "lock", "--update", "m", "--key", ours)
    done(owner, "lock", "--update", "n", "--key", theirs)

    def signers() -> dict[str, int]:
        value = tomllib.loads((project / "modelrunner.lock").read_text())
        return {model["name"]: len(model.get("signed", ())) for model in value["model"]}

    assert signers() == {"m": 1, "n": 1}
    done(machine("builder"), "pull", "--locked")
    every = owner("lock", "--key", ours)
    assert every.returncode == 6
    assert "team/n:1: no valid signature: signed with another key" in every.stderr
    done(owner, "lock", "--update", "n", "--unsigned")
    assert signers() == {"m": 1, "n": 0}
