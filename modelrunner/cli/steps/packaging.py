"""What `package` does, in each of its ways, with progress."""

from modelrunner.cli.context import Context
from modelrunner.cli.steps.pushing import push_model, pushed_line, pushed_to_dict
from modelrunner.oci.digest import Digest
from modelrunner.oci.reference import Reference
from modelrunner.operations.package.request import PackageRequest
from modelrunner.store.store import StoredModel
from modelrunner.units import format_size

# late imports: a package is made in one of several ways, and loads what that one needs


def make_package(context: Context, request: PackageRequest) -> None:
    """Make a package, push it where that is wanted, and show both."""
    name = request.name
    if request.push:
        # nothing is made that cannot be sent
        if name.is_local:
            raise context.store.unregistered(name)
        context.require_network("push")
    if request.kind == "model":
        model = _derived(context, request)
        if model is None:
            return
    else:
        model = (
            _from_hub(context, request) if request.kind == "hub" else _packaged(context, request)
        )
    value = _value(name, model.digest, str(model.weights()), model.size)
    if not context.console.json:
        context.console.print(f"{name.short}: {model.digest} ({format_size(model.size)})")
    if request.push:
        pushed = push_model(context, model, name)
        value |= pushed_to_dict(pushed)
        if not context.console.json:
            context.console.print(pushed_line(name, pushed))
    if context.console.json:
        context.console.emit(value)


def _packaged(context: Context, request: PackageRequest) -> StoredModel:
    from pathlib import Path

    from modelrunner.operations.package.package import Ingredients, package

    ingredients = Ingredients(
        Path(request.source),
        request.licenses,
        request.projector,
        request.template,
        request.context,
        request.other_settings,
    )
    return package(
        context.store,
        ingredients,
        request.name,
        family=request.family or "docker",
        created=request.moment,
        way="link" if request.link else "copy",
    )


def _from_hub(context: Context, request: PackageRequest) -> StoredModel:
    from modelrunner.cli.steps.pulling import pull_one
    from modelrunner.operations.derive.origin import (
        derive_from_hub,
        differences_of,
        hub_reference,
    )
    from modelrunner.operations.pull.outcome import Pulled

    def pull(reference: Reference) -> Pulled:
        return pull_one(context, reference)

    differences = differences_of(request)
    reference = hub_reference(request.source)
    return derive_from_hub(context.store, reference, request.name, differences, pull)


def _derived(context: Context, request: PackageRequest) -> StoredModel | None:
    """Make a model of another one; None where that was done in the registry of both."""
    from modelrunner.cli.steps.pulling import pull_one
    from modelrunner.operations.derive.derive import derive
    from modelrunner.operations.derive.origin import differences_of, origin_of

    differences = differences_of(request)
    origin = origin_of(context.store, request.source, request.name, push=request.push)
    if origin.in_place:
        _derive_in_place(context, request, origin.reference)
        return None
    stored = origin.stored
    if stored is None:
        stored = pull_one(context, origin.reference).model
    elif context.workspace.guarded:
        context.workspace.check(origin.reference, stored.manifest)
    return derive(context.store, stored, request.name, differences)


def _derive_in_place(context: Context, request: PackageRequest, reference: Reference) -> None:
    from modelrunner.cli.progress.select import progress
    from modelrunner.operations.derive.origin import differences_of
    from modelrunner.operations.derive.remote import base_in, derive_in_registry

    name = request.name
    source = context.source_for(reference)
    try:
        base = base_in(source, reference, context.workspace.check)
        with progress(context.console, verb="pushing") as listener:
            pusher = context.workspace.pusher(name, "", listener)
            pushed, manifest = derive_in_registry(
                pusher, base, reference, name, differences_of(request)
            )
    finally:
        source.close()
    if context.console.json:
        value = _value(name, manifest.digest, None, manifest.total_bytes)
        context.console.emit(value | pushed_to_dict(pushed))
        return
    context.console.say(f"{name.short} is not in the local store: its weights stay in the registry")
    context.console.print(pushed_line(name, pushed))


def _value(name: Reference, digest: Digest, path: str | None, size: int) -> dict[str, object]:
    return {"reference": str(name), "digest": str(digest), "path": path, "size_bytes": size}
