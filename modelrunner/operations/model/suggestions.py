"""What may have been meant by the name of a model that was not found.

The registry knows the tags of a repository; the store and the catalog know models whose names are
spelled like that of a repository that does not exist.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from modelrunner.errors import (
    InvalidReferenceError,
    ManifestNotFoundError,
    ModelNotFoundError,
    ModelRunnerError,
    UnauthorizedError,
)
from modelrunner.oci.digest import Digest
from modelrunner.oci.manifest import Index, Manifest
from modelrunner.oci.reference import DEFAULT_NAMESPACE, DOCKER_HUB, Reference, match_id
from modelrunner.registry.source import Source
from modelrunner.store.store import Store
from modelrunner.text import available, did_you_mean, sanitize_line

# late imports: most names are found
if TYPE_CHECKING:
    from modelrunner.cards.card import Card
    from modelrunner.cards.catalog import Catalog


class Tagged(Protocol):
    """A place that lists the tags of a repository."""

    @property
    def name(self) -> str:
        """For people: which place this is."""
        ...

    def tags(self, reference: Reference) -> tuple[str, ...]:
        """The tags."""
        ...


_IMPROVED = (ModelNotFoundError, ManifestNotFoundError, UnauthorizedError)


def pin(source: Source, reference: Reference) -> Reference:
    """The reference with the digest that its tag points to.

    Raises:
        ManifestNotFoundError: No such tag; the near ones are named.
        AccessError, TransferError: The registry does not answer.
    """
    with about_tag(source, reference):
        return reference.with_digest(source.resolve(reference))


def pin_by_content(source: Source, reference: Reference) -> tuple[Reference, Manifest | Index]:
    """The reference with the digest that its tag points to, and the manifest: in one request.

    Raises:
        ManifestNotFoundError: No such tag; the near ones are named.
        MalformedManifestError: What it names is not a manifest.
        AccessError, IntegrityError, TransferError: The registry does not deliver.
    """
    with about_tag(source, reference):
        manifest = source.manifest(reference)
    return reference.with_digest(Digest.of(manifest.raw)), manifest


@contextmanager
def about_tag(source: "Tagged", reference: Reference) -> Iterator[None]:
    """The block that asks for a tag; if it does not exist, the error names similar ones."""
    with about(reference):
        try:
            yield
        except ManifestNotFoundError as exc:
            raise with_near_tags(exc, reference, source) from exc


@contextmanager
def about(reference: Reference) -> Iterator[None]:
    """The block whose errors of names are about this model: `with_near_models` can help them."""
    try:
        yield
    except (ManifestNotFoundError, UnauthorizedError) as exc:
        exc.facts = {"reference": reference.short, **exc.facts}
        raise


def with_near_tags(
    error: ManifestNotFoundError, reference: Reference, source: "Tagged"
) -> ManifestNotFoundError:
    """The error with the tags of the repository, the near ones first."""
    if error.missing == "repository" or reference.tag is None:
        return error
    from modelrunner.huggingface.files import VariantNotFoundError

    if isinstance(error, VariantNotFoundError):
        # the source knows more than the names of its variants
        from modelrunner.memory.devices.devices import devices
        from modelrunner.operations.model.size_fit import with_fit

        return with_fit(error, devices())
    try:
        tags = source.tags(reference)
    except ModelRunnerError:
        # the list is a courtesy: the error stands without it
        return error
    if not tags:
        return error
    from modelrunner.oci.near import near_tags

    near = [sanitize_line(tag, 128) for tag in near_tags(reference.tag, tags)]
    more = len(tags) - len(near)
    return ManifestNotFoundError(
        f"{reference.short}: no such tag on {source.name}",
        hint=available(near) + (f" and {more} more" if more else ""),
        registry=source.name,
        missing="tag",
        near=near,
    )


def with_near_models(error: ModelRunnerError, store: Store, catalog: "Catalog") -> ModelRunnerError:
    """The error with the models in its hint that may have been meant.

    Args:
        error: Any error; one that is not about a model's name is returned as it is.
        store: Its models come first.
        catalog: Models that can be pulled.
    """
    wanted = _wanted(error)
    if wanted is None:
        return error
    stored, known = near_models(wanted, store, catalog)
    if isinstance(error, UnauthorizedError) and wanted.registry != DOCKER_HUB:
        # whoever names another registry does not mean a model of this one
        known = []
    card = catalog.get(wanted.short)
    listed = _tags(card) if card else set()
    if card and wanted.tag not in listed:
        from modelrunner.oci.near import near_tags

        known = [wanted.with_tag(tag).short for tag in near_tags(wanted.tag or "", listed, 3)]
    if isinstance(error, ModelNotFoundError):
        hint = _hint_for_store(wanted, stored, known, listed=wanted.tag in listed)
    else:
        hint = did_you_mean((*stored, *known)[:3])
    if hint is None:
        return error
    if isinstance(error, UnauthorizedError):
        hint = f"{hint} Otherwise {error.hint}" if error.hint else hint
    return error.with_hint(hint, near=[*stored, *known][:3])


def near_models(wanted: Reference, store: Store, catalog: "Catalog") -> tuple[list[str], list[str]]:
    """Names in the store, and names in the catalog, that are spelled like the wanted one."""
    names = [name for model in store.models() for name in model.references]
    from modelrunner.oci.near import near_names

    stored = near_names(wanted, (name for name in names if str(name) != str(wanted)))
    here = {name.name for name in names}
    cards = (
        Reference(DOCKER_HUB, f"{DEFAULT_NAMESPACE}/{name}", "latest") for name in catalog.names()
    )
    candidates = [card for card in cards if card.name not in here | {wanted.name}]
    return stored, [_tagged(name, wanted, catalog) for name in near_names(wanted, candidates)]


def _wanted(error: ModelRunnerError) -> Reference | None:
    text = error.facts.get("reference")
    unknown = isinstance(error, _IMPROVED) and not error.facts.get("near")
    if not unknown or not isinstance(text, str) or match_id(text):
        return None
    try:
        return Reference.parse(text)
    except InvalidReferenceError:
        return None


def _tagged(name: str, wanted: Reference, catalog: "Catalog") -> str:
    """The card's name, with the wanted tag where the card lists that too."""
    card = catalog.get(name)
    if card is None or wanted.tag is None:
        return name
    return f"{name}:{wanted.tag}" if wanted.tag in _tags(card) - {"latest"} else name


def _tags(card: "Card") -> set[str]:
    return {tag for variant in card.variants for tag in variant.tags} | {"latest"}


def _hint_for_store(
    wanted: Reference, stored: list[str], known: list[str], *, listed: bool
) -> str | None:
    """What to do about a model that the store does not have."""
    if stored:
        return did_you_mean((*stored, *known)[:3])
    if listed:
        return f"download it: `modelrunner pull {wanted.short}`"
    question = did_you_mean(known)
    return question and f"{question} `modelrunner pull {known[0]}` downloads it"
