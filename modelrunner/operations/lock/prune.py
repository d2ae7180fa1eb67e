"""Keeping what is locked: every other model is planned for removal, shown, and then removed.

A model that no registry is known to have, because it was packaged, imported or loaded on this
machine and never pushed, is kept unless its removal is asked for.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from modelrunner.errors import IntegrityError
from modelrunner.oci.digest import Digest
from modelrunner.operations.remove import remove_model
from modelrunner.store.blobs import BlobStore
from modelrunner.store.referrers import reached
from modelrunner.store.store import Store, StoredModel


@dataclass(frozen=True, slots=True)
class Unlocked:
    """A model that no lock names, and the bytes that its removal frees."""

    model: StoredModel
    freed: int

    @property
    def title(self) -> str:
        """Its names, or its ID."""
        return ", ".join(name.short for name in self.model.references) or self.model.digest.short


@dataclass(frozen=True, slots=True)
class RemovalPlan:
    """The models to remove, and those that are kept only because no registry has them."""

    models: tuple[Unlocked, ...] = ()
    unpushed: tuple[StoredModel, ...] = ()

    @property
    def freed(self) -> int:
        """The bytes that the removal frees."""
        return sum(entry.freed for entry in self.models)


def unlocked(store: Store, keep: Collection[Digest], *, unpushed: bool = False) -> RemovalPlan:
    """The models that are not to be kept; what several of them share is counted once.

    Args:
        store: Where they are.
        keep: The models of the locks.
        unpushed: Whether to remove models too that no registry is known to have.
    """
    models = store.models()
    spared = (
        ()
        if unpushed
        else tuple(model for model in models if not model.published and model.digest not in keep)
    )
    kept = {*keep, *(model.digest for model in spared)}
    return RemovalPlan(_counted(models, kept), spared)


def everything(store: Store) -> RemovalPlan:
    """All models of the store."""
    return RemovalPlan(_counted(store.models(), ()))


def _counted(models: Sequence[StoredModel], keep: Collection[Digest]) -> tuple[Unlocked, ...]:
    counted = {digest for model in models if model.digest in keep for digest in _sizes(model)}
    found = []
    for model in models:
        if model.digest in keep:
            continue
        own = {digest: size for digest, size in _sizes(model).items() if digest not in counted}
        counted |= own.keys()
        found.append(Unlocked(model, sum(own.values())))
    return tuple(found)


def carry_out(store: Store, plan: RemovalPlan) -> RemovalPlan:
    """Removes the models of a plan, names first; returns what that came to.

    Raises:
        StoreAccessError: The store may not be written.
    """
    removed = tuple(
        Unlocked(planned.model, remove_model(store, planned.model)) for planned in plan.models
    )
    return RemovalPlan(removed, plan.unpushed)


def _sizes(model: StoredModel) -> dict[Digest, int]:
    kept = reached(BlobStore(model.layout), model.descriptor)
    sizes = {blob.digest: blob.size for blob in kept} | {model.digest: model.descriptor.size}
    try:
        return sizes | {blob.digest: blob.size for blob in model.manifest.blobs}
    except IntegrityError:
        # it does not tell what it has
        return sizes
