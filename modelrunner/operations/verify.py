"""Verification: every blob of the stored models against its digest."""

from collections.abc import Iterable
from dataclasses import dataclass

from modelrunner.errors import IntegrityError
from modelrunner.oci.descriptor import Descriptor
from modelrunner.store.store import Store, StoredModel


@dataclass(frozen=True, slots=True)
class Finding:
    """One blob of one model: `good`, `damaged` or `absent`."""

    model: str
    digest: str
    size: int
    state: str


def verify_models(
    store: Store, models: Iterable[StoredModel], *, deep: bool
) -> tuple[Finding, ...]:
    """Checks the blobs of models, each blob once.

    A stamp is believed (see `modelrunner.store.stamps`) unless `deep`, which reads every byte.
    """
    findings: dict[str, Finding] = {}
    for model in models:
        name = model.references[0].short if model.references else str(model.digest)
        try:
            blobs: tuple[Descriptor, ...] = (model.descriptor, *model.manifest.blobs)
        except IntegrityError:
            there = store.blobs.path(model.digest).exists()
            state = "damaged" if there else "absent"
            digest = str(model.digest)
            findings[digest] = Finding(name, digest, model.descriptor.size, state)
            continue
        for blob in blobs:
            if str(blob.digest) not in findings:
                check = store.blobs.deep_state if deep else store.blobs.state
                findings[str(blob.digest)] = Finding(name, str(blob.digest), blob.size, check(blob))
    return tuple(findings.values())
