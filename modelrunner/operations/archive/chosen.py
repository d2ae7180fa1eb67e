"""What is saved of a project: the models that its lock pins, and the image for this machine."""

from collections.abc import Callable

from modelrunner.frozen import replace
from modelrunner.lockfile.project import Project
from modelrunner.oci.image import Platform
from modelrunner.operations.archive.save import Chosen
from modelrunner.operations.pull.locked import lacks, require_all
from modelrunner.operations.runtimes.locked import not_stored
from modelrunner.store.store import Store, StoredModel


def choose_locked(
    store: Store, project: Project, platform: Platform, warn: Callable[[str], None]
) -> list[Chosen]:
    """Return all that a lock pins, under the names that it gives them.

    Args:
        store: Where all of it has to be.
        project: The two files.
        platform: That of the machine which will load the archive.
        warn: Takes a warning where the runtime has no image for that.

    Raises:
        LockError: The lock does not satisfy the intent.
        NotInStoreError: Something is missing.
    """
    _intent, lock = project.agreed()
    require_all(lock, lacks(store, lock, lock.models))
    chosen = [
        Chosen(StoredModel(store.layout, model.manifest, ()), (model.reference,))
        for model in lock.models
    ]
    runtime = lock.runtime
    if runtime is None:
        return chosen
    image = runtime.image_for(platform)
    if image is None:
        warn(
            f"the locked runtime has no image for {platform}, only for {runtime.platforms}: "
            "it is not saved"
        )
        return chosen
    found = store.find_image(runtime.reference.with_digest(image.manifest.digest))
    if found is None:
        raise not_stored(lock, runtime, image)
    # without a tag it is known by its own digest, and not by that of an index
    pin = None if runtime.reference.tag is not None else found.digest
    return [*chosen, Chosen(found, (replace(runtime.reference, digest=pin),))]
