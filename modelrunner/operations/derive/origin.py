"""Where a model comes from that another one is made of: the store, its registry, or the Hub."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from modelrunner.errors import UsageError
from modelrunner.oci import media_types
from modelrunner.oci.reference import HUGGING_FACE, Reference
from modelrunner.operations.derive.derive import Differences, derive
from modelrunner.operations.model.contents import existing_file
from modelrunner.operations.package.package import Ingredients
from modelrunner.operations.package.parts import Part
from modelrunner.operations.package.request import PackageRequest
from modelrunner.operations.pull.outcome import Pulled
from modelrunner.operations.pull.reference import reference_to_pull
from modelrunner.operations.remove import plan_removal, remove
from modelrunner.registry.source import Source, commit_of
from modelrunner.runtime import packaged
from modelrunner.store.store import Store, StoredModel
from modelrunner.text import file_text

_TEXT_LIMIT = 4 * 1024 * 1024
_HUB = "https://huggingface.co"


@dataclass(frozen=True, slots=True)
class Origin:
    """The model that another one is made of.

    Attributes:
        reference: Its name.
        stored: The model itself, where the store has all of it.
        in_place: Whether its weights stay in the registry that it is in.
    """

    reference: Reference
    stored: StoredModel | None
    in_place: bool


def origin_of(store: Store, text: str, name: Reference, *, push: bool) -> Origin:
    """Return where a model comes from.

    Args:
        store: The local store.
        text: The model, as it was typed.
        name: The name of the new one.
        push: Whether that goes to its registry.

    Raises:
        ModelNotFoundError: It is an ID, or a name under `local/`, of nothing in the store.
        UsageError: It is a file.
        InvalidReferenceError: It is not a name.
    """
    reference = reference_to_pull(store, text)
    stored = store.complete(reference)
    return Origin(
        reference,
        stored,
        in_place=stored is None and push and reference.registry == name.registry,
    )


def hub_reference(text: str) -> Reference:
    """Return the name of a repository of the Hugging Face Hub.

    Args:
        text: `ORG/REPO`, with `@REVISION` and `:QUANT` where they are wanted.

    Raises:
        InvalidReferenceError: It is not one.
    """
    if "://" in text:
        return _of_hub(Reference.parse(text), text)
    bare = text.removeprefix("hf.co/").removeprefix("huggingface.co/")
    return _of_hub(Reference.parse(f"hf.co/{bare}"), text)


def _of_hub(reference: Reference, text: str) -> Reference:
    if reference.registry != HUGGING_FACE:
        raise UsageError(
            f"--from-hf {text}: expected a repository of the Hugging Face Hub",
            hint="write ORG/REPO, ORG/REPO:QUANT or ORG/REPO@REVISION:QUANT; --from starts from a"
            " model of another registry",
        )
    return reference


def differences_of(request: PackageRequest) -> Differences:
    """Return what is to be different in a model that is made of another one.

    Raises:
        UsageError: A file is not there, or is too large to be a text.
    """
    parts = []
    if request.projector is not None:
        file = existing_file(request.projector)
        parts.append(Part("projector", file_text(file.name), file))
    template = request.template
    if template is not None:
        parts.append(Part("template", file_text(template.name), _text(template)))
    parts += [Part("license", file_text(path.name), _text(path)) for path in request.licenses]
    return Differences(
        settings=request.settings,
        parts=parts,
        family=request.family,
        created=request.created,
    )


def _text(path: Path) -> bytes:
    size = existing_file(path).stat().st_size
    if size > _TEXT_LIMIT:
        raise UsageError(
            f"{path}: expected a text of at most {_TEXT_LIMIT} bytes, got {size}",
            hint="give the file of a license or of a chat template",
        )
    # outside: a file that a person names
    return path.read_bytes()


def provenance_of(pulled: Pulled, source: Source | None) -> Mapping[str, str]:
    """Return annotations that say which files of the Hugging Face Hub a model is made of.

    Args:
        pulled: The model.
        source: The Hub; None where it is not asked.
    """
    repository = pulled.reference.original_repository or pulled.reference.repository
    found = {media_types.ANNOTATION_SOURCE: f"{_HUB}/{repository}"}
    revision = None if pulled.choice is None else pulled.choice.revision
    if revision is None and source is not None:
        revision = commit_of(source, pulled.reference)
    revision = revision or pulled.reference.revision
    if revision is not None:
        found[media_types.ANNOTATION_REVISION] = revision
    return found


@contextmanager
def borrowed(
    store: Store, reference: Reference, pull: Callable[[Reference], Pulled]
) -> Iterator[Pulled]:
    """The block in which a model is in the store that another one is made of.

    Its name is in the store while it arrives, so that an interrupted download is resumed; it goes
    afterwards, unless it was there before.

    Args:
        store: The local store.
        reference: The model.
        pull: Pulls a model.
    """
    before = {str(each) for model in store.models() for each in model.references}
    pulled = pull(reference)
    yield pulled
    for each in pulled.model.references:
        if str(each) not in before:
            remove(store, plan_removal(store, str(each), force=False))


def derive_from_hub(
    store: Store, pulled: Pulled, name: Reference, differences: Differences
) -> StoredModel:
    """Make a model of GGUF files of the Hugging Face Hub, under a name of one's own.

    Args:
        store: The local store.
        pulled: The model of the Hub.
        name: The name of the new model.
        differences: What is not as on the Hub.

    Raises:
        ModelRunnerError: It cannot be made.
    """
    return derive(store, pulled.model, name, replace(differences, from_headers=True))


def ingredients_of(model: StoredModel, request: PackageRequest) -> Ingredients:
    """Return the files of a stored model, and what was asked for, as what a package is made of.

    Args:
        model: The model.
        request: What counts more than what the model has.
    """
    artifact, config = model.artifact, model.config
    own = packaged.Packaged.read(config.settings).values
    weights = model.weights()
    if weights.is_dir():
        # all its files are in there
        return Ingredients(
            weights,
            request.licenses,
            request.projector,
            request.template,
            request.context or config.advised_context,
            {**own, **request.other_settings},
        )
    licenses = [model.file(layer) for layer in artifact.licenses]
    return Ingredients(
        weights,
        [*(path for path in licenses if path is not None), *request.licenses],
        request.projector or model.file(artifact.projector),
        request.template or model.file(artifact.template),
        request.context or config.advised_context,
        {**own, **request.other_settings},
    )
