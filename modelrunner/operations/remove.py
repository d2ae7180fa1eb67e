"""Removal: planned, shown, done. Names go first, blobs last."""

from collections.abc import Callable

from modelrunner.errors import DiskFullError, ModelNotFoundError, UsageError
from modelrunner.frozen import frozen
from modelrunner.oci.reference import Reference, match_id
from modelrunner.store.store import Store, StoredModel
from modelrunner.store.sweep import make_room_by, make_room_by_notes, remove_blobs_of


@frozen
class RemovalPlan:
    """What would go: names, and with the last of them the model."""

    model: StoredModel
    names: tuple[Reference, ...]
    last: bool


@frozen
class Removed:
    """What went, and the bytes that it freed."""

    plan: RemovalPlan
    freed: int


def plan_removal(store: Store, text: str, *, force: bool) -> RemovalPlan:
    """What removing this name or ID would do.

    Raises:
        ModelNotFoundError: There is no such model.
        UsageError: An ID with several names, without force.
    """
    model = store.resolve(text, exact=True)
    by_id = match_id(text) is not None and _is_id_of(text, model)
    if by_id:
        if len(model.references) > 1 and not force:
            names = ", ".join(name.short for name in model.references)
            raise UsageError(
                f"{text} has {len(model.references)} names: {names}",
                hint="remove one by name, or all with --force",
            )
        return RemovalPlan(model, model.references, last=True)
    wanted = Reference.parse(text)
    if wanted.digest is not None:
        names_of = [name for name in model.references if name.name == wanted.name]
    else:
        meant = model.name_for(wanted)
        names_of = [] if meant is None else [meant]
    if not names_of:
        names = ", ".join(name.short for name in model.references) or str(model.digest)
        raise ModelNotFoundError(
            f"{text}: the content is in the local store, but not under this name",
            hint=f"it is in the local store as {names}",
        )
    return RemovalPlan(model, tuple(names_of), last=len(names_of) == len(model.references))


def remove(store: Store, plan: RemovalPlan) -> Removed:
    """Carries a plan out.

    Raises:
        StoreAccessError: The store may not be written.
        DiskFullError: There is no room for an index, and the model has nothing to make some with.
    """
    if not plan.last:
        _on_a_full_disk(store, plan.model, lambda: store.untag(plan.names), files=False)
        return Removed(plan, 0)
    return Removed(plan, remove_model(store, plan.model))


def remove_model(store: Store, model: StoredModel) -> int:
    """Removes a model with all its names: names first, blobs last; the bytes that freed.

    Raises:
        StoreAccessError, DiskFullError: See `remove`.
    """
    freed = _on_a_full_disk(store, model, lambda: store.forget(model.digest), files=True)
    return freed + remove_blobs_of(store, model)


def _on_a_full_disk(
    store: Store, model: StoredModel, change: Callable[[], None], *, files: bool
) -> int:
    """Changes the index; where that has no room, the model gives some first: the bytes.

    Where a model that stays has nothing to give, all others do: what is noted of their blobs, a few
    at a time, for that is found out again when it is needed.
    """
    freed = 0
    for step in (False, True)[: 1 + files]:
        try:
            change()
        except DiskFullError:
            freed += make_room_by(store, model, files=step)
        else:
            return freed
    while True:
        try:
            change()
        except DiskFullError:
            if not make_room_by_notes(store):
                raise
        else:
            return freed


def _is_id_of(text: str, model: StoredModel) -> bool:
    return model.digest.hex.startswith(match_id(text) or "-")
