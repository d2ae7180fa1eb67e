"""A client that is not ours finds the support registry to be one."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.artifacts import (
    Artifact,
    docker_artifact,
    image_artifact,
    modelpack_artifact,
)
from tests.support.registry import Cdn, Registry
from tests.support.registry_client import WEIGHTS


@pytest.mark.registry
@pytest.mark.skipif(shutil.which("skopeo") is None, reason="needs skopeo on PATH")
class TestSkopeo:
    def copy(self, source: str, target: str, *options: str) -> None:
        command = ["skopeo", "copy", "--insecure-policy", "--src-tls-verify=false"]
        command += ["--dest-tls-verify=false", *options, source, target]
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr

    @pytest.mark.parametrize("artifact", [docker_artifact(WEIGHTS), modelpack_artifact(WEIGHTS)])
    def test_pulls_through_token_and_cdn(
        self, registry: Registry, cdn: Cdn, tmp_path: Path, artifact: Artifact
    ) -> None:
        registry.add(artifact, "ai/m", tags=["latest"])
        registry.demand_token()
        registry.redirect_blobs(to=cdn)

        self.copy(f"docker://{registry.reference('ai/m:latest')}", f"oci:{tmp_path}:m")

        stored = tmp_path / "blobs" / "sha256" / artifact.digest.removeprefix("sha256:")
        assert stored.read_bytes() == artifact.manifest
        assert cdn.bytes_sent() == artifact.size
        assert [request.authorization for request in cdn.requests] == [None] * len(cdn.requests)

    def test_pushes_with_a_password(self, registry: Registry, tmp_path: Path) -> None:
        artifact = modelpack_artifact([b"one", b"two"], license=b"free")
        registry.add(artifact, "ai/m", tags=["latest"])
        self.copy(f"docker://{registry.reference('ai/m:latest')}", f"oci:{tmp_path}:m")
        registry.demand_token({"ann": "secret"})

        self.copy(
            f"oci:{tmp_path}:m",
            f"docker://{registry.reference('me/copy:v1')}",
            "--dest-creds=ann:secret",
        )

        assert registry.manifest_bytes("me/copy", "v1") == artifact.manifest
        assert registry.storage.repositories["me/copy"].blobs == artifact.blobs

    def test_inspects_an_image(self, registry: Registry) -> None:
        registry.add(image_artifact(), "ai/box", tags=["latest", "v1"])
        command = ["skopeo", "inspect", "--tls-verify=false"]
        command.append(f"docker://{registry.reference('ai/box')}")
        done = subprocess.run(command, check=True, capture_output=True, timeout=60)
        assert json.loads(done.stdout)["RepoTags"] == ["latest", "v1"]
