"""A store with models in it, put there as a pull would: blobs first, names last."""

from modelrunner.oci.manifest import Manifest
from modelrunner.oci.reference import Reference
from modelrunner.oci.referrers import Referrer
from modelrunner.store.store import Store, StoredModel
from tests.support.artifacts import Artifact


def put(store: Store, artifact: Artifact, *names: str) -> StoredModel:
    """Files an artifact under these names: `put(store, docker_artifact(b"GGUF"), "ai/m:1")`."""
    manifest = Manifest.from_bytes(artifact.manifest)
    with store.arriving():
        for entry in manifest.blobs:
            store.blobs.put(entry, artifact.blobs[str(entry.digest)])
        return store.add(manifest, [Reference.parse(name) for name in names])


def put_referrer(
    store: Store, model: StoredModel, artifact: Artifact, tag: str | None = None
) -> Referrer:
    """Keeps an artifact with a model that it refers to, by its subject or by a tag."""
    manifest = Manifest.from_bytes(artifact.manifest)
    with store.arriving():
        for entry in manifest.blobs:
            store.blobs.put(entry, artifact.blobs[str(entry.digest)])
        store.blobs.put(manifest.descriptor, manifest.raw)
        referrer = Referrer.of(manifest, tag)
        store.keep_referrers(model.digest, [referrer])
    return referrer
