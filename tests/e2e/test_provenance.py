"""Who has signed a model, and what becomes of one that nobody has signed."""

import json
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from modelrunner.oci.reference import ANY_REPOSITORY
from modelrunner.registry import lan
from tests.conftest import CommandLine
from tests.support.artifacts import Artifact, docker_artifact
from tests.support.gguf import tiny_gguf
from tests.support.hugging_face import Repository, hugging_face
from tests.support.registry import Registry
from tests.support.signing import (
    PROVENANCE,
    SIMPLE,
    Signer,
    attestation,
    bundle,
    keyless_bundle,
    message_bundle,
    signature_artifact,
    simple_signature,
)


@pytest.fixture
def model(registry: Registry, tmp_path: Path) -> Artifact:
    weights = tiny_gguf(tmp_path / "m.gguf").read_bytes()
    artifact = docker_artifact(weights, license=b"free", template=b"{{ messages[0].content }}")
    registry.add(artifact, "team/m", ["1"])
    return artifact


@pytest.fixture
def name(registry: Registry, model: Artifact) -> str:
    return registry.reference("team/m:1")


@pytest.fixture
def signer() -> Signer:
    return Signer.make()


@pytest.fixture
def key(signer: Signer, tmp_path: Path) -> Path:
    return signer.publish(tmp_path / "team.pub")


def tag_of(model: Artifact, suffix: str) -> str:
    return model.digest.replace(":", "-") + suffix


def policy(cli: CommandLine, registry: Registry, key: Path, mode: str = "enforce") -> Path:
    cli.home.mkdir(parents=True, exist_ok=True)
    path = cli.home / "verify.toml"
    path.write_text(
        f'version = 1\n[[rule]]\nmatch = "{registry.host}/team/*"\nmode = "{mode}"\n'
        f'keys = ["{key}"]\n'
    )
    return path


SIGNED = {
    "a bundle": lambda signer, model: (bundle(signer, model), None),
    "a bundle of the manifest": lambda signer, model: (message_bundle(signer, model), None),
    "a tagged signature": lambda signer, model: (simple_signature(signer, model.digest), ".sig"),
}


def keep(registry: Registry, model: Artifact, made: tuple[Artifact, str | None]) -> None:
    artifact, suffix = made
    registry.add(artifact, "team/m", [] if suffix is None else [tag_of(model, suffix)])


@pytest.mark.parametrize("form", SIGNED)
@pytest.mark.parametrize("referrers", [True, False])
def test_what_is_signed_passes_an_enforced_policy(
    cli: CommandLine, registry: Registry, model, name, signer, key, form, referrers
) -> None:
    made = SIGNED[form](signer, model)
    registry.referrers_supported = referrers
    if not referrers and made[1] is None:
        # where there is no API, whoever signs keeps the list under a tag
        from tests.support.artifacts import index_artifact

        listed = index_artifact(made[0])
        registry.add(listed, "team/m", [tag_of(model, "")])
    keep(registry, model, made)
    policy(cli, registry, key)
    done = cli("pull", name, "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(cli("inspect", "--security", name).stdout)
    assert told["policy"] == {
        "match": f"{registry.host}/team/*",
        "mode": "enforce",
        "satisfied": True,
    }
    assert any(entry["verified"] for entry in told["signatures"])


@pytest.mark.parametrize("kind", ["p256", "p384", "ed25519", "rsa"])
def test_keys_of_every_kind_count(
    cli: CommandLine, registry: Registry, model, name, tmp_path, kind
) -> None:
    signer = Signer.make(kind)
    keep(registry, model, (simple_signature(signer, model.digest), ".sig"))
    policy(cli, registry, signer.publish(tmp_path / "k.pub"))
    done = cli("pull", name)
    assert done.returncode == 0, done.stderr


def test_what_nobody_has_signed_is_kept_out_before_its_weights_move(
    cli: CommandLine, registry: Registry, model, name, key
) -> None:
    policy(cli, registry, key)
    done = cli("pull", name, "--json")
    assert (done.returncode, done.stdout) == (6, "")
    error = json.loads(done.stderr.splitlines()[-1])["error"]
    assert error["code"] == "unverified"
    assert "not signed" in error["message"]
    assert "inspect --security" in error["hint"]
    assert registry.count("GET", "blob") == 0
    assert json.loads(cli("list", "--json").stdout) == []


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("another key", "signed with another key"),
        ("another model", "signed for another model"),
        ("an attestation alone", "not signed"),
        ("without a key", "no identity is configured"),
        ("no json", "a signature is not JSON"),
        ("nonsense", "does not name the content that it signs"),
    ],
)
def test_what_proves_nothing_does_not_count(
    cli: CommandLine, registry: Registry, model, name, signer, key, wrong: str, said: str
) -> None:
    other = docker_artifact(b"other weights", license=b"x")
    made = {
        "another key": (simple_signature(Signer.make(), model.digest), ".sig"),
        "another model": (bundle(signer, model, digest=other.digest), None),
        "an attestation alone": (attestation(signer, model.digest), ".att"),
        "without a key": (keyless_bundle(model), None),
        "no json": (signature_artifact(b"\xff", SIMPLE, model), None),
        "nonsense": (signature_artifact(b'{"critical": 7}', SIMPLE, model), None),
    }[wrong]
    keep(registry, model, made)
    policy(cli, registry, key)
    done = cli("pull", name)
    assert (done.returncode, done.stdout) == (6, "")
    assert said in done.stderr


def test_a_warning_lets_it_pass(cli: CommandLine, registry: Registry, model, name, key) -> None:
    policy(cli, registry, key, "warn")
    done = cli("pull", name)
    assert done.returncode == 0
    assert "not signed" in done.stderr


@pytest.mark.parametrize("status", [401, 403, 429, 500, 503])
def test_a_warning_stops_nothing_where_signatures_cannot_be_looked_for(
    cli: CommandLine, registry: Registry, model, name, key, status
) -> None:
    registry.answer(status, times=None, on="referrers")
    policy(cli, registry, key, "warn")
    done = cli("pull", name)
    assert done.returncode == 0, done.stderr
    assert f"warning: {name}: " in done.stderr
    policy(cli, registry, key, "enforce")
    assert cli("pull", name).returncode in {4, 5}


@pytest.mark.parametrize("mode", ["warn", "enforce"])
@pytest.mark.parametrize("form", SIGNED)
def test_a_mirrors_signatures_count_where_the_registry_is_away(
    cli: CommandLine, registry: Registry, model, signer, key, mode: str, form: str
) -> None:
    keep(registry, model, SIGNED[form](signer, model))
    away = "127.0.0.1:1"
    path = policy(cli, registry, key, mode)
    path.write_text(path.read_text().replace(registry.host, away))
    mirrors = {"MODELRUNNER_MIRRORS": f"{away}={registry.url}"}
    done = cli("pull", f"{away}/team/m:1", **mirrors)
    assert done.returncode == 0, done.stderr
    assert "warning" not in done.stderr
    asked = [request for request in registry.requests if request.kind == "referrers"]
    assert {request.query["ns"] for request in asked} == {away}


def test_a_mirror_that_answers_nonsense_takes_nothing_from_the_registrys_signature(
    cli: CommandLine, registry: Registry, model, name, signer, key
) -> None:
    keep(registry, model, SIGNED["a bundle of the manifest"](signer, model))
    policy(cli, registry, key)
    with Registry() as mirror:
        mirror.add(model, "team/m", ["1"])
        mirror.answer(200, times=None, body=b"no JSON", on="referrers")
        done = cli("pull", name, MODELRUNNER_MIRRORS=f"{registry.host}={mirror.url}")
        assert done.returncode == 0, done.stderr
        assert any(request.kind == "referrers" for request in mirror.requests)


def test_where_the_registry_is_away_and_the_mirror_has_no_signature(
    cli: CommandLine, registry: Registry, model, key
) -> None:
    away = "127.0.0.1:1"
    mirrors = {"MODELRUNNER_MIRRORS": f"{away}={registry.url}"}
    path = policy(cli, registry, key, "enforce")
    path.write_text(path.read_text().replace(registry.host, away))
    # it may have one: that is to be tried again
    assert cli("pull", f"{away}/team/m:1", **mirrors).returncode == 5
    path.write_text(path.read_text().replace("enforce", "warn"))
    done = cli("pull", f"{away}/team/m:1", **mirrors)
    assert done.returncode == 0, done.stderr
    assert f"warning: {away}/team/m:1: cannot reach {away}" in done.stderr


@pytest.mark.parametrize("page", [None, 7])
@pytest.mark.parametrize("kind", ["application/spdx+json", ""])
def test_a_signature_behind_many_other_referrers_is_found(
    cli: CommandLine, registry: Registry, model, name, signer, key, page, kind
) -> None:
    for number in range(40):
        registry.add(signature_artifact(b"%d" % number, kind or SIMPLE, model), "team/m")
    keep(registry, model, (bundle(signer, model), None))
    registry.referrers_page_size = page
    policy(cli, registry, key)
    # what is kept is asked for too
    done = cli("pull", name, "--referrers", "none")
    assert done.returncode == 0, done.stderr
    looked = [
        request
        for request in registry.requests
        if request.kind == "manifest" and request.method == "GET"
    ]
    if kind:
        # that of the model, and that of the signature: others are looked at after it
        assert len(looked) == 2


def test_other_repositories_are_none_of_its_business(
    cli: CommandLine, registry: Registry, model, key
) -> None:
    registry.add(model, "free/m", ["1"])
    policy(cli, registry, key)
    assert cli("pull", registry.reference("free/m:1")).returncode == 0


def test_what_was_verified_once_is_not_asked_again(
    cli: CommandLine, registry: Registry, model, name, signer, key
) -> None:
    keep(registry, model, (bundle(signer, model), None))
    policy(cli, registry, key)
    assert cli("pull", name).returncode == 0
    registry.requests.clear()
    assert cli("pull", name).returncode == 0
    assert [request.method for request in registry.requests] == ["HEAD"]


def test_what_was_here_before_the_policy_is_checked_too(
    cli: CommandLine, registry: Registry, model, name, key
) -> None:
    assert cli("pull", name).returncode == 0
    policy(cli, registry, key)
    assert cli("pull", name).returncode == 6
    # another key is another question
    policy(cli, registry, Signer.make().publish(key.with_name("other.pub")))
    assert cli("pull", name).returncode == 6


def test_a_lock_is_held_to_it(
    cli: CommandLine, registry: Registry, model, name, signer, key, tmp_path, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "modelrunner.toml").write_text(f'[models]\nm = "{name}"\n')
    assert cli("lock").returncode == 0
    assert cli("pull", "--locked").returncode == 0
    policy(cli, registry, key)
    assert cli("pull", "--locked").returncode == 6
    assert cli("pull", "--frozen").returncode == 9
    keep(registry, model, (bundle(signer, model), None))
    assert cli("pull", "--locked").returncode == 0
    assert cli("pull", "--frozen").returncode == 0


def test_the_library_is_held_to_it(
    cli: CommandLine, registry: Registry, model, name, signer, key
) -> None:
    policy(cli, registry, key)
    program = (
        "import modelrunner, sys\n"
        "try: print(modelrunner.pull(sys.argv[1]).digest)\n"
        "except modelrunner.errors.IntegrityError as exc: print(exc.code)"
    )

    def pulled() -> str:
        done = subprocess.run(
            [sys.executable, "-c", program, name],
            env=dict(cli.environ),
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout.strip()

    assert pulled() == "unverified"
    keep(registry, model, (bundle(signer, model), None))
    assert pulled() == model.digest


def test_the_hub_keeps_no_signatures(cli: CommandLine, registry: Registry, key, tmp_path) -> None:
    weights = tiny_gguf(tmp_path / "t.gguf").read_bytes()
    path = policy(cli, registry, key)
    path.write_text(path.read_text().replace(f"{registry.host}/team/*", "huggingface.co/*"))
    with hugging_face() as hub:
        hub.repositories["Org/T-GGUF"] = Repository({"T-Q8_0.gguf": weights})
        done = cli("pull", "hf.co/Org/T-GGUF", HF_ENDPOINT=hub.url)
    assert done.returncode == 6
    assert "signatures are not supported" in done.stderr


def test_everything_is_told_without_a_policy(
    cli: CommandLine, registry: Registry, model, name, signer, key
) -> None:
    assert cli("pull", name).returncode == 0
    keep(registry, model, (bundle(signer, model), None))
    keep(registry, model, (attestation(signer, model.digest), ".att"))
    told = json.loads(cli("inspect", "--security", name).stdout)
    assert told["origin"]["registries"] == [registry.host]
    assert told["license"]["files"] == ["LICENSE"]
    assert told["gguf"][0]["within_bounds"]
    assert told["chat_templates"][0]["findings"] == []
    assert told["policy"] == {"match": "*", "mode": "off", "satisfied": None}
    assert [entry["problem"] for entry in told["signatures"]] == [
        "no public key configured to verify it"
    ]
    keyed = json.loads(cli("inspect", "--security", name, "--key", str(key)).stdout)
    (signature,) = keyed["signatures"]
    assert signature["verified"]
    assert "team.pub" in signature["by"]
    (attested,) = keyed["attestations"]
    assert (attested["predicate_type"], attested["verified"]) == (PROVENANCE, True)


def test_a_hostile_template_and_broken_weights_are_told(
    cli: CommandLine, registry: Registry, tmp_path: Path
) -> None:
    template = b"\n{{ ''.__class__.__mro__ }}{% for i in range(999999999) %}x{% endfor %}"
    weights = tiny_gguf(tmp_path / "w.gguf").read_bytes()
    registry.add(docker_artifact(weights[:-64], template=template), "team/bad", ["1"])
    name = registry.reference("team/bad:1")
    assert cli("pull", name).returncode == 0
    told = json.loads(cli("inspect", "--security", name).stdout)
    (found, *_) = told["chat_templates"]
    assert {entry["level"] for entry in found["findings"]} == {"danger"}
    assert {entry["line"] for entry in found["findings"]} == {2}
    assert any("__class__" in entry["message"] for entry in found["findings"])
    assert any("counts to 999999999" in entry["message"] for entry in found["findings"])
    assert told["gguf"][0]["within_bounds"] is False


def test_offline_it_tells_what_is_here(cli: CommandLine, registry, name) -> None:
    assert cli("pull", name).returncode == 0
    told = json.loads(cli("inspect", "--security", name, "--offline").stdout)
    assert told["signatures"] is None
    assert "--offline" in told["signatures_problem"]


def test_a_registry_that_does_not_answer_takes_nothing_from_the_rest(
    cli: CommandLine, registry: Registry, name
) -> None:
    assert cli("pull", name).returncode == 0
    registry.answer(403, times=None)
    told = json.loads(cli("inspect", "--security", name).stdout)
    assert told["signatures"] is None
    assert told["signatures_problem"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("version = 2", "unsupported version 2"),
        ("", "unsupported version None"),
        ("version = 1\ndefault = 'maybe'", "invalid mode"),
        ("version = 1\n[[rule]]\nmode = 'warn'", "a rule needs `match`"),
        ("version = 1\n[[rule]]\nmatch = 'x'\nmode = 'enforce'", "names no signer"),
        ("version = 1\n[[rule]]\nmatch = 'x'\nmode = 'off'\nkey = 'y'", "unknown key"),
        ("version = 1\nrule = 7", "[[rule]]"),
        ("version = 1\n[[rule]]\nmatch = 'x'\nmode = 'off'\nkeys = [7]", "list of files"),
        ("\x00", "invalid TOML"),
    ],
)
def test_a_policy_that_is_not_understood_keeps_everything_out(
    cli: CommandLine, registry: Registry, name, text: str, said: str
) -> None:
    cli.home.mkdir(parents=True)
    (cli.home / "verify.toml").write_text(text)
    done = cli("pull", name)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr


@pytest.mark.parametrize("linked", [False, True])
def test_a_policy_that_is_named_and_not_there_keeps_everything_out(
    cli: CommandLine, name: str, tmp_path: Path, linked: bool
) -> None:
    nowhere = tmp_path / "nowhere.toml"
    environ = {} if linked else {"MODELRUNNER_VERIFY": str(nowhere)}
    if linked:
        cli.home.mkdir(parents=True)
        (cli.home / "verify.toml").symlink_to(nowhere)
    done = cli("pull", name, **environ)
    path = cli.home / "verify.toml" if linked else nowhere
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines()[-2:] == [
        f"error: policy {path}: file not found",
        "hint: correct the path in MODELRUNNER_VERIFY, or the link",
    ]
    assert cli("list", "--json").stdout == "[]\n"


@pytest.mark.parametrize(
    "content", [None, "no key", "-----BEGIN PUBLIC KEY-----\nAA==\n-----END PUBLIC KEY-----\n"]
)
def test_a_key_that_is_none_is_told(
    cli: CommandLine, registry: Registry, name, tmp_path: Path, content: str | None
) -> None:
    key = tmp_path / "bad.pub"
    if content is not None:
        key.write_text(content)
    policy(cli, registry, key)
    done = cli("pull", name)
    assert done.returncode == 2
    assert "bad.pub" in done.stderr


@pytest.mark.parametrize("form", SIGNED)
@pytest.mark.parametrize(
    "where",
    [
        "a repository",
        "a shared store",
        pytest.param("the local network", marks=pytest.mark.xdist_group("lan")),
    ],
)
def test_signatures_count_that_another_source_of_the_content_keeps(
    cli: CommandLine, registry: Registry, model, name, signer, key, form: str, where: str
) -> None:
    policy(cli, registry, key)
    assert cli("pull", name).returncode == 6
    signature, suffix = SIGNED[form](signer, model)
    repository = "copies/m" if where == "a repository" else ANY_REPOSITORY
    with Registry() as other, ExitStack() as stack:
        other.add(model, repository, ["1"])
        other.add(signature, repository, [] if suffix is None else [tag_of(model, suffix)])
        if where == "a repository":
            option = ("--also", other.reference("copies/m:1"))
        elif where == "a shared store":
            option = ("--also", other.url)
        else:
            stack.enter_context(lan.announced("127.0.0.1", int(other.host.rpartition(":")[2])))
            option = ("--lan",)
        done = cli("pull", name, *option)
        assert done.returncode == 0, done.stderr
        assert any(request.kind == "referrers" for request in other.requests)
    # and it is kept with the model
    assert len(json.loads(cli("inspect", name).stdout)["referrers"]) == 1


@pytest.mark.parametrize("form", SIGNED)
def test_what_came_with_a_model_proves_it_without_a_network(
    cli: CommandLine, registry: Registry, model, name, signer, key, form: str
) -> None:
    keep(registry, model, SIGNED[form](signer, model))
    done = cli("pull", name, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["referrers"]["kept"] == 1
    registry.close()
    policy(cli, registry, key)
    assert cli("pull", name, "--offline").returncode == 0
    told = json.loads(cli("inspect", "--security", name, "--offline").stdout)
    assert told["policy"]["satisfied"] is True
    assert [entry["verified"] for entry in told["signatures"]] == [True]
    # what was noted of one signer says nothing of another
    policy(cli, registry, Signer.make().publish(key.with_name("other.pub")))
    done = cli("pull", name, "--offline")
    assert (done.returncode, done.stdout) == (6, "")
    assert "signed with another key" in done.stderr


def test_a_signature_of_another_model_proves_nothing_in_the_store_either(
    cli: CommandLine, registry: Registry, model, name, signer, key
) -> None:
    other = docker_artifact(b"other weights", license=b"x")
    keep(registry, model, (bundle(signer, model, digest=other.digest), None))
    assert cli("pull", name).returncode == 0
    policy(cli, registry, key)
    done = cli("pull", name, "--offline")
    assert (done.returncode, done.stdout) == (6, "")
    assert "signed for another model" in done.stderr


def test_what_is_damaged_in_the_store_proves_nothing(
    cli: CommandLine, registry: Registry, model, name, signer, key
) -> None:
    signature = bundle(signer, model)
    keep(registry, model, (signature, None))
    assert cli("pull", name).returncode == 0
    path = cli.home / "store/v1/blobs/sha256" / signature.layer_digests[0].removeprefix("sha256:")
    path.chmod(0o644)
    path.write_bytes(path.read_bytes().replace(b"dsse", b"dssf"))
    policy(cli, registry, key)
    done = cli("pull", name, "--offline")
    assert (done.returncode, done.stdout) == (6, "")
    assert "damaged blob" in done.stderr
    # the registry has it as it should be
    assert cli("pull", name).returncode == 0


@pytest.mark.parametrize("wanted", ["all", "signatures", "none"])
def test_what_is_kept_can_be_chosen(
    cli: CommandLine, registry: Registry, model, name, signer, wanted: str
) -> None:
    keep(registry, model, (bundle(signer, model), None))
    keep(registry, model, (signature_artifact(b"{}", "application/spdx+json", model), None))
    registry.answer(404, times=None, on="manifest", reference=tag_of(model, ".sbom"))
    done = cli("pull", name, "--json", "--referrers", wanted)
    assert done.returncode == 0, done.stderr
    kept = {"all": 2, "signatures": 1, "none": None}[wanted]
    said = json.loads(done.stdout).get("referrers")
    assert (said and said["kept"]) == kept
    done = cli("pull", name, "--referrers", wanted)
    assert done.stdout.startswith(f"{name}: up to date (")
    assert (" kept\n" in done.stderr) == (wanted != "none")


def test_a_limit_is_told_and_stops_nothing(
    cli: CommandLine, registry: Registry, model, name, signer
) -> None:
    huge = signature_artifact(bytes(17 * 1024 * 1024), SIMPLE, model)
    keep(registry, model, (huge, None))
    done = cli("pull", name, "-q")
    assert done.returncode == 0
    assert done.stderr == (
        f"warning: {name}: not all that refers to it is kept: a referrer is too large: "
        "limit of 16 MiB\n"
    )


@pytest.mark.parametrize("status", [401, 403, 404, 429, 500])
def test_a_registry_without_referrers_is_nothing_to_talk_of(
    cli: CommandLine, registry: Registry, name: str, status: int
) -> None:
    registry.answer(status, times=None, on="referrers", headers={"Retry-After": "0"})
    done = cli("pull", name, "-q")
    assert (done.returncode, done.stderr) == (0, "")
    # but who asks for what refers to a model is told why it cannot be had
    done = cli("pull", name, "--referrers", "all")
    assert done.returncode == 0
    assert ("warning: " in done.stderr) == (status != 404)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--referrers", "some"], "invalid choice of referrers: 'some'"),
        (["--referrers", "all", "--offline"], "needs the network, but --offline is set"),
        (["--referrers", "all", "--frozen"], "needs the network, but --frozen is set"),
    ],
)
def test_a_choice_that_cannot_be_followed_is_refused(
    cli: CommandLine, name: str, options: list[str], said: str
) -> None:
    done = cli("pull", name, *options)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr
    assert "hint: " in done.stderr


def test_what_is_kept_is_listed_counted_and_removed_with_the_model(
    cli: CommandLine, registry: Registry, model, name, signer
) -> None:
    parts = signature_artifact(b'{"a": 1}', "application/spdx+json", model)
    bundled, tagged = bundle(signer, model), simple_signature(signer, model.digest)
    keep(registry, model, (bundled, None))
    keep(registry, model, (tagged, ".sig"))
    keep(registry, model, (parts, None))
    assert cli("pull", name, "--referrers", "all").returncode == 0
    (row,) = json.loads(cli("list", "--referrers", "--json").stdout)
    assert sorted((entry["kind"], entry["tag"]) for entry in row["referrers"] if entry["tag"]) == [
        ("signature", tag_of(model, ".sig"))
    ]
    assert {
        "digest": parts.digest,
        "kind": "SBOM",
        "artifact_type": "application/spdx+json",
        "tag": None,
        "size_bytes": len(parts.manifest) + parts.size,
    } in row["referrers"]
    assert json.loads(cli("inspect", name).stdout)["referrers"] == row["referrers"]
    heading, line = cli("list", "--referrers").stdout.splitlines()
    assert heading.split()[-1] == "REFERRERS"
    assert set(line[heading.index("REFERRERS") :].split(", ")) == {"signature x2", "SBOM"}
    assert "referrers" not in json.loads(cli("list", "--json").stdout)[0]
    # counted, verified, left alone by prune, and gone with the model
    kinds = {entry["type"]: entry for entry in json.loads(cli("df", "--json").stdout)["types"]}
    assert kinds["Referrers"]["count"] == 3
    assert json.loads(cli("prune", "--json").stdout)["freed_bytes"] == 0
    artifacts = (model, bundled, tagged, parts)
    blobs = {digest for each in artifacts for digest in (each.digest, *each.blobs)}
    done = cli("verify", "--deep", name, "--json")
    # and the list of them
    assert json.loads(done.stdout)["blobs"] == len(blobs) + 1
    assert cli("rm", name).returncode == 0
    assert list((cli.home / "store/v1/blobs/sha256").iterdir()) == []


def test_a_type_that_a_stranger_made_up_reaches_no_terminal(
    cli: CommandLine, registry: Registry, model, name
) -> None:
    kind = "application/x\x1b]0;title\x07\nforged  row"
    keep(registry, model, (signature_artifact(b"{}", kind, model), None))
    assert cli("pull", name, "--referrers", "all").returncode == 0
    listed = cli("list", "--referrers").stdout
    assert len(listed.splitlines()) == 2
    assert "\x1b" not in listed
    assert "\x1b" not in cli("inspect", name).stdout


def test_the_library_is_held_to_the_policy_offline_too(
    cli: CommandLine, registry: Registry, model, name, signer, key
) -> None:
    program = (
        "import modelrunner, sys\n"
        "try: print(modelrunner.pull(sys.argv[1], offline=True).digest)\n"
        "except modelrunner.errors.ModelRunnerError as exc: print(exc.code)"
    )

    def pulled() -> str:
        done = subprocess.run(
            [sys.executable, "-c", program, name],
            env=dict(cli.environ),
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout.strip()

    assert cli("pull", name).returncode == 0
    policy(cli, registry, key)
    assert pulled() == "not_in_store"
    keep(registry, model, (bundle(signer, model), None))
    assert cli("pull", name, "--referrers", "signatures").returncode == 0
    assert pulled() == model.digest
    policy(cli, registry, Signer.make().publish(key.with_name("other.pub")))
    assert pulled() == "unverified"
