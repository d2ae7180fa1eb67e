"""What `runtime:NAME` means where models are named: an installed runtime, or its image."""

from collections.abc import Sequence
from contextlib import suppress

from modelrunner.errors import InvalidReferenceError, UsageError
from modelrunner.oci.reference import Reference
from modelrunner.oci.runtime_name import named
from modelrunner.runtime.images.library import Library
from modelrunner.store.store import Store, StoredModel

_PREFIX = "runtime:"


def runtime_name(store: Store, text: str) -> str | None:
    """Return what stands after `runtime:`; None for the name of a model.

    Args:
        store: A model in it that is called so comes first.
        text: As it was typed.
    """
    if not text.startswith(_PREFIX):
        return None
    with suppress(InvalidReferenceError):
        if store.lookup(text) is not None:
            return None
    return text.removeprefix(_PREFIX)


def find_image(store: Store, library: Library, text: str) -> StoredModel | None:
    """Return the stored image that a text names: `runtime:NAME`, or its reference; else None.

    Raises:
        RuntimeUnavailableError: There is no such runtime; the near ones are named.
    """
    name = runtime_name(store, text)
    if name is None:
        with suppress(InvalidReferenceError):
            return store.find_image(Reference.parse(text))
        return None
    one = library.find(name)
    if one is not None:
        return store.find_image(Reference.parse(one.reference).with_digest(one.digest))
    # what was loaded is not installed yet
    with suppress(InvalidReferenceError, UsageError):
        found = store.find_image(named(name).reference)
        if found is not None:
            return found
    library.require(name)
    return None


def images_of(store: Store, library: Library, names: Sequence[str]) -> list[StoredModel]:
    """Return the stored images of installed runtimes.

    Raises:
        RuntimeUnavailableError: A runtime is not installed.
    """
    wanted = {library.require(name).digest for name in names}
    return [image for image in store.images() if image.digest in wanted]
