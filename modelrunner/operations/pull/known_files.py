"""Files in the store by git's digests, which the Hugging Face Hub lists for small ones."""

from collections.abc import Collection
from contextlib import suppress

from modelrunner.errors import ModelRunnerError
from modelrunner.huggingface.repository import git_digest
from modelrunner.oci.digest import Digest
from modelrunner.oci.reference import Reference
from modelrunner.store.store import Store

_LIMIT = 64 * 1024 * 1024


def known_files(store: Store, reference: Reference, sizes: Collection[int]) -> dict[str, Digest]:
    """Digests of files that models of a repository have, by git's.

    Args:
        store: Where they are.
        reference: A name of the repository, at any revision.
        sizes: Sizes of files that are looked for.
    """
    found: dict[str, Digest] = {}
    for model in store.models():
        if all(name.lowered != reference.lowered for name in model.references):
            continue
        # what is damaged is downloaded again
        with suppress(ModelRunnerError):
            for layer in model.manifest.layers:
                if layer.size in sizes and layer.digest not in found.values():
                    content = store.blobs.read(layer, _LIMIT)
                    found[git_digest(content)] = layer.digest
    return found
