"""What `package` does, in each of its ways, with progress."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from modelrunner.cli.context import Context
from modelrunner.cli.steps.pushing import (
    platforms_to_list,
    push_image,
    push_model,
    pushed_line,
    pushed_to_dict,
)
from modelrunner.errors import UsageError
from modelrunner.frozen import replace
from modelrunner.oci.digest import Digest
from modelrunner.oci.model.formats import GGUF
from modelrunner.oci.reference import Reference
from modelrunner.operations.package.request import PackageRequest
from modelrunner.store.store import StoredModel
from modelrunner.text import listed
from modelrunner.units import format_size

# late imports: a package is made in one of several ways, and loads what that one needs
if TYPE_CHECKING:
    from modelrunner.operations.convert.quantize import Quantized
    from modelrunner.operations.documents import PackageDocuments
    from modelrunner.operations.package.package import Ingredients
    from modelrunner.operations.pull.outcome import Pulled
    from modelrunner.store.adopt import Way

OnPlan = Callable[[str, int], None]
OnProgress = Callable[[int, int], None]


def make_package(
    context: Context, request: PackageRequest, wanted: "PackageDocuments | None"
) -> None:
    """Make a package, push it where that is wanted, and show both.

    Args:
        context: The command's.
        request: What to make.
        wanted: Which documents it gets; None for none.
    """
    name = request.name
    if request.push:
        # nothing is made that cannot be sent
        if name.is_local:
            raise context.store.unregistered(name)
        context.require_network("push")
    model = _model(context, request)
    if model is None:
        return
    parts = model
    if request.image:
        model = _as_image(context, model, name)
    value = _value(name, model.digest, str(model.weights()), model.size)
    if not context.console.json:
        context.console.print(f"{name.short}: {model.digest} ({format_size(model.size)})")
    if wanted is not None:
        value |= _documented(context, request, parts, model, wanted)
    if request.push:
        value |= _pushed(context, request, model)
    if context.console.json:
        context.console.emit(value)


def _documented(
    context: Context,
    request: PackageRequest,
    parts: StoredModel,
    model: StoredModel,
    wanted: "PackageDocuments",
) -> dict[str, object]:
    """Make the documents of a package, and show them; as JSON has them."""
    from modelrunner.operations.documents import keep_documents

    made = keep_documents(context.store, parts, model, request.name, wanted, request.moment)
    found = [attachment.referrer for attachment in made]
    if not context.console.json:
        for each in found:
            context.console.print(f"{each.kind} ({each.artifact_type}): {each.digest}")
    return {"documents": [each.facts() for each in found]}


def _model(context: Context, request: PackageRequest) -> StoredModel | None:
    """Make the model in one of the ways; None where that was done in a registry."""
    if request.converts:
        return _converted(context, request)
    if request.kind == "model":
        return _derived(context, request)
    return _from_hub(context, request) if request.kind == "hub" else _packaged(context, request)


def _pushed(context: Context, request: PackageRequest, model: StoredModel) -> dict[str, object]:
    """Push what was made, and show it; as JSON has it."""
    name, value = request.name, dict[str, object]()
    if request.image:
        pushed, image = push_image(context, model, name, name)
        value = {"as": "image", "platforms": platforms_to_list(image)}
    else:
        pushed = push_model(context, model, name)
    if not context.console.json:
        context.console.print(pushed_line(name, pushed))
    return value | pushed_to_dict(pushed)


def _as_image(context: Context, model: StoredModel, name: Reference) -> StoredModel:
    from modelrunner.cli.progress.select import progress
    from modelrunner.operations.package.keep_image import keep_image

    with progress(context.console, verb="hashing") as listener:
        return keep_image(context.store, model, name, listener)


def _packaged(context: Context, request: PackageRequest) -> StoredModel:
    ingredients = _ingredients(request)
    way: Way = "link" if request.link else "copy"
    if ingredients.weights.suffix.lower() != ".gguf":
        # most packages are made of a GGUF file
        from modelrunner.operations.directory.package import is_directory_like, package_directory

        if is_directory_like(ingredients.weights):
            found = package_directory(
                context.store,
                ingredients,
                request.name,
                family=request.family or "docker",
                created=request.moment,
                way=way,
            )
            if found.left_out:
                context.console.say(f"left out: {listed(found.left_out)}")
            return found.model
    return _made(context, request, ingredients, way)


def _ingredients(request: PackageRequest) -> "Ingredients":
    """What a request names, of files."""
    from modelrunner.operations.package.package import Ingredients

    return Ingredients(
        Path(request.source),
        request.licenses,
        request.projector,
        request.template,
        request.context,
        request.other_settings,
    )


def _made(
    context: Context, request: PackageRequest, ingredients: "Ingredients", way: "Way"
) -> StoredModel:
    from modelrunner.operations.package.package import package

    return package(
        context.store,
        ingredients,
        request.name,
        family=request.family or "docker",
        created=request.moment,
        way=way,
    )


def _converted(context: Context, request: PackageRequest) -> StoredModel:
    """Convert or quantize the weights of a file or of another model, and package the result."""
    from modelrunner.cli.steps.pulling import pull_one
    from modelrunner.operations.derive.derive import base_annotations
    from modelrunner.operations.derive.origin import (
        borrowed,
        hub_reference,
        ingredients_of,
    )
    from modelrunner.operations.pull.outcome import Pulled, stored
    from modelrunner.operations.pull.reference import reference_to_pull

    if request.kind == "file":
        return _as_gguf(context, request, _ingredients(request))
    is_hub = request.kind == "hub"
    source = request.source
    reference = hub_reference(source) if is_hub else reference_to_pull(context.store, source)

    def pull(each: Reference) -> Pulled:
        found = None if is_hub else stored(context.store, each)
        if found is not None and context.workspace.guarded:
            context.workspace.check(each, found.model.manifest)
        return found or pull_one(context, each)

    with borrowed(context.store, reference, pull) as pulled:
        annotations = _provenance(context, pulled) if is_hub else base_annotations(pulled.model)
        ingredients = replace(ingredients_of(pulled.model, request), annotations=annotations)
        family = request.family or pulled.model.artifact.family
        return _as_gguf(context, replace(request, family=family), ingredients)


def _as_gguf(context: Context, request: PackageRequest, ingredients: "Ingredients") -> StoredModel:
    """Package weights in GGUF, those of a directory of safetensors once they are converted."""
    if not ingredients.weights.is_dir():
        if request.quantize is None:
            raise UsageError(
                f"--to-gguf needs a directory of safetensors, got {ingredients.weights.name}",
                hint="leave out --to-gguf: a GGUF file is packaged as it is",
            )
        return _requantized(context, request, ingredients)
    from modelrunner.operations.convert.to_gguf import converted
    from modelrunner.operations.model.contents import existing_file
    from modelrunner.runtime.converters.hugging_face import find_converter
    from modelrunner.runtime.converters.quantizers import find_quantizer, require_matrix
    from modelrunner.runtime.converters.recipes import recipe_named

    converter = find_converter(context.environ)
    if request.quantize is not None:
        # found out before hours of work
        recipe_named(request.quantize, matrix=request.matrix is not None)
        quantizer = find_quantizer(context.environ, context.settings.runtimes)
        if request.matrix is not None:
            require_matrix(quantizer)
            existing_file(request.matrix)
    with (
        _progress(context, "converting") as (on_plan, on_progress),
        converted(context.store, ingredients.weights, converter, on_plan, on_progress) as made,
    ):
        changed = _with_weights(ingredients, made)
        if request.quantize is not None:
            return _requantized(context, request, changed)
        return _made(context, request, changed, "auto")


def _requantized(
    context: Context, request: PackageRequest, ingredients: "Ingredients"
) -> StoredModel:
    from modelrunner.operations.convert.quantize import Quantization, quantized
    from modelrunner.runtime.converters.quantizers import find_quantizer, require_matrix
    from modelrunner.runtime.converters.recipes import recipe_named
    from modelrunner.runtime.threads import usable_cores

    recipe = recipe_named(request.quantize or "", matrix=request.matrix is not None)
    quantizer = find_quantizer(context.environ, context.settings.runtimes)
    if request.matrix is not None:
        require_matrix(quantizer)
    with _progress(context, "quantizing") as (on_plan, on_progress):
        wanted = Quantization(
            recipe,
            quantizer,
            usable_cores(),
            request.matrix,
            on_plan,
            on_progress,
            context.console.warn,
        )
        called = ingredients.weights_name
        with quantized(context.store, ingredients.weights, wanted, called) as made:
            return _made(context, request, _with_weights(ingredients, made), "auto")


def _with_weights(ingredients: "Ingredients", made: "Quantized") -> "Ingredients":
    return replace(
        ingredients,
        weights=made.file,
        weights_name=made.name,
        annotations={**ingredients.annotations, **made.annotations},
    )


@contextmanager
def _progress(context: Context, verb: str) -> "Iterator[tuple[OnPlan, OnProgress]]":
    """Show the progress of a conversion while the block runs."""
    from modelrunner.cli.progress.select import progress
    from modelrunner.events import Advanced, Finished, Planned, Started

    plans: list[tuple[str, int]] = []
    with progress(context.console, verb=verb) as listener:

        def on_plan(name: str, size: int) -> None:
            plans.append((name, size))
            listener(Planned(name, size, 0, 0))
            listener(Started("", size, 0, name))

        def on_progress(done: int, total: int) -> None:
            size = plans[0][1]
            listener(Advanced("", size, size * min(done, total) // max(total, 1)))

        yield on_plan, on_progress
        for name, size in plans:
            listener(Finished(name, "", size))


def _from_hub(context: Context, request: PackageRequest) -> StoredModel:
    from modelrunner.cli.steps.pulling import pull_one
    from modelrunner.operations.derive.origin import (
        borrowed,
        derive_from_hub,
        differences_of,
        hub_reference,
        ingredients_of,
    )
    from modelrunner.operations.directory.package import package_repository
    from modelrunner.operations.pull.outcome import Pulled

    def pull(reference: Reference) -> Pulled:
        return pull_one(context, reference)

    differences = differences_of(request)
    reference = hub_reference(request.source)
    with borrowed(context.store, reference, pull) as pulled:
        annotations = _provenance(context, pulled)
        if pulled.model.artifact.format == GGUF:
            wanted = replace(differences, annotations=annotations)
            return derive_from_hub(context.store, pulled, request.name, wanted)
        ingredients = replace(ingredients_of(pulled.model, request), annotations=annotations)
        family = request.family or "docker"
        return package_repository(
            context.store, ingredients, request.name, family=family, created=request.created
        )


def _provenance(context: Context, pulled: "Pulled") -> "Mapping[str, str]":
    """Return annotations that say which files of the Hub a model is made of."""
    from modelrunner.operations.derive.origin import provenance_of

    if context.offline:
        return provenance_of(pulled, None)
    source = context.source_for(pulled.reference)
    try:
        return provenance_of(pulled, source)
    finally:
        source.close()


def _derived(context: Context, request: PackageRequest) -> StoredModel | None:
    """Make a model of another one; None where that was done in the registry of both."""
    from modelrunner.cli.steps.pulling import pull_one
    from modelrunner.operations.derive.derive import derive
    from modelrunner.operations.derive.origin import differences_of, origin_of

    differences = differences_of(request)
    in_registry = request.push and not request.image and not request.documented
    origin = origin_of(context.store, request.source, request.name, push=in_registry)
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
