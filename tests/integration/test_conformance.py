"""The distribution specification's own suite, held against what `share` answers."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from modelrunner.operations.share.open import UpstreamRequest, upstream_of
from modelrunner.share.repositories import is_taken
from modelrunner.share.server import ShareServer, sharing
from modelrunner.share.writing.requests import Writing
from modelrunner.share.writing.storage import PushedContent
from modelrunner.store.store import Store
from tests.conftest import ROOT
from tests.support.artifacts import Artifact, docker_artifact
from tests.support.pulling import Pulling
from tests.support.registry import Registry
from tests.support.signing import signature_artifact
from tests.support.stores import put, put_referrer

pytestmark = pytest.mark.real

MODEL = docker_artifact(b"GGUF" + bytes(100_000), license=b"do as you like")
SIGNATURE = signature_artifact(b"{}", "application/spdx+json", MODEL)


@pytest.fixture(scope="module")
def suite() -> str:
    """The program, built where it is not there yet."""
    if not (shutil.which("go") or shutil.which("go", path="/usr/local/go/bin")):
        pytest.skip("Go is not installed")
    done = subprocess.run(
        [ROOT / ".ci" / "conformance"], stdout=subprocess.PIPE, text=True, check=False
    )
    if done.returncode:
        pytest.skip("the conformance suite cannot be built")
    return done.stdout.strip()


def run(suite: str, server: ShareServer, results: Path, **more: str) -> dict[str, int]:
    """The number of tests by their result."""
    environ = {
        "PATH": os.environ["PATH"],
        "OCI_REGISTRY": server.address.removeprefix("http://"),
        "OCI_TLS": "disabled",
        "OCI_REPO1": "ai/smollm2",
        "OCI_RESULTS_DIR": str(results),
        **more,
    }
    # without a revision of its own it fails when it writes its report, after it has printed it
    done = subprocess.run([suite], env=environ, capture_output=True, text=True, check=False)
    found = re.findall(r"^  (Pass|FAIL|Error|Skip|Disabled)\.+: +(\d+)$", done.stdout, re.MULTILINE)
    assert found, done.stdout + done.stderr
    counts = {name: int(count) for name, count in found}
    assert counts["FAIL"] == counts["Error"] == 0, done.stdout
    return counts


def read_only(model: Artifact) -> dict[str, str]:
    """What a registry that takes nothing is asked for."""
    return {
        **{
            f"OCI_API_{name}": "false"
            for name in ("PUSH", "BLOBS_DELETE", "MANIFESTS_DELETE", "TAGS_DELETE")
        },
        "OCI_RO_DATA_TAGS": "135M latest",
        "OCI_RO_DATA_MANIFESTS": model.digest,
        "OCI_RO_DATA_BLOBS": " ".join(model.blobs),
        "OCI_RO_DATA_REFERRERS": f"{model.digest} sha256:{'0' * 64}",
    }


def test_a_shared_store_passes_all_that_is_for_reading(suite, store, tmp_path):
    model = put(store, MODEL, "ai/smollm2:135M", "ai/smollm2:latest")
    put_referrer(store, model, SIGNATURE)
    with sharing(store) as server:
        counts = run(suite, server, tmp_path, **read_only(MODEL))
    assert (counts["Pass"], counts["Skip"]) == (20, 0)


@pytest.mark.parametrize("version", ["1.1", "dev"])
def test_one_that_may_be_written_to_passes_everything(suite, store, tmp_path, version):
    with PushedContent(tmp_path / "registry") as content:
        writing = Writing(content, lambda name: is_taken(store, name, None))
        with sharing(store, writing=writing) as server:
            more = {"OCI_API_BLOBS_UPLOAD_CANCEL": "true", "OCI_VERSION": version}
            counts = run(suite, server, tmp_path / "results", **more)
    # ranges that end before they begin: an answer with everything is as good as a refusal
    assert counts["Skip"] == 2
    assert counts["Pass"] >= (860 if version == "1.1" else 984)


def test_so_does_one_that_has_to_fetch_everything(suite, store, tmp_path):
    with Registry() as registry:
        registry.add(MODEL, "ai/smollm2", ["135M", "latest"])
        registry.add(SIGNATURE, "ai/smollm2")
        request = UpstreamRequest.of([f"docker.io={registry.url}"], "1GiB", login=False)
        places = Pulling(Store(tmp_path / "unused")).places
        with (
            upstream_of(request, store, places, tmp_path / "cache", print) as upstream,
            sharing(store, upstream=upstream) as server,
        ):
            counts = run(suite, server, tmp_path / "results", **read_only(MODEL))
    assert (counts["Pass"], counts["Skip"]) == (20, 0)
