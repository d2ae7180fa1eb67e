"""`modelrunner inspect` and `modelrunner tags`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from modelrunner.cards.card import Card
from modelrunner.cards.catalog import Catalog
from modelrunner.cli.context import Context, command
from modelrunner.cli.options import (
    SignerAuthorities,
    SignerIdentity,
    SignerIssuer,
    SignerKeys,
    SignerRoot,
)
from modelrunner.cli.parser.declared import Argument, Option
from modelrunner.errors import UsageError
from modelrunner.oci.reference import Reference
from modelrunner.operations.catalog.tags import DETAIL_LIMIT, Tag, describe_tags, with_details
from modelrunner.operations.inspect import inspect_remote, inspect_stored
from modelrunner.operations.launch.configure import Configurations
from modelrunner.operations.model.suggestions import about
from modelrunner.operations.package.file_model import file_model
from modelrunner.registry.source import Source
from modelrunner.runtime.settings import to_dict
from modelrunner.store.store import StoredModel
from modelrunner.text import sanitize_line
from modelrunner.units import format_context, format_size

if TYPE_CHECKING:
    from modelrunner.operations.trust.material import Material

_Asked = tuple[list[Path] | None, list[Path] | None, str | None, str | None, Path | None]
"""Keys, authorities, identity, issuer and trusted root that signatures are compared with."""


@command(
    examples="  modelrunner inspect ai/smollm2\n"
    "  modelrunner inspect --remote ai/granite-4.0-micro:3B-Q4_K_M\n"
    "  modelrunner inspect --security ai/smollm2 --key cosign.pub\n"
    "  modelrunner inspect --remote --security ghcr.io/team/model:1"
)
def inspect(
    context: Context,
    reference: Annotated[
        str, Argument(metavar="REF", help="Name or ID of a local model, or a GGUF file.")
    ],
    remote: Annotated[
        bool,
        Option("--remote", "-r", help="Inspect the model in its registry, without pulling it."),
    ] = False,
    security: Annotated[
        bool,
        Option(
            "--security", help="Report origin, license, chat template, file bounds and signatures."
        ),
    ] = False,
    keys: SignerKeys = None,
    ca: SignerAuthorities = None,
    identity: SignerIdentity = None,
    issuer: SignerIssuer = None,
    trusted_root: SignerRoot = None,
) -> None:
    """Print everything that is known about a model, as JSON."""
    catalog = Catalog.load()
    asked = (keys, ca, identity, issuer, trusted_root)
    if any(asked) and not security:
        raise UsageError(
            "--key, --ca, --identity, --issuer and --trusted-root need --security",
            hint="add --security",
        )
    if remote:
        name = Reference.parse(reference)
        source, card = context.source_for(name), catalog.get(name.short)
        if security:
            context.console.emit(_security_remote(context, source, name, card, asked))
        else:
            context.console.emit(inspect_remote(source, name, card))
        return
    model = file_model(context.store, reference) or context.store.resolve(reference)
    names = (catalog.get(entry.short) for entry in model.references)
    card = next((found for found in names if found is not None), None)
    if security and not model.is_stored:
        raise UsageError(
            "--security needs a model in the local store",
            hint=f"add it to the local store: `modelrunner import {sanitize_line(reference)}`",
        )
    if security:
        context.console.emit(_security(context, reference, model, card, asked))
        return
    configured = Configurations(context.settings.state, context.settings.own_state).of_any(
        model.references
    )
    value = inspect_stored(context.store, model, card)
    context.console.emit({**value, "configuration": to_dict(configured)})


def _security(
    context: Context, text: str, model: StoredModel, card: Card | None, asked: "_Asked"
) -> dict[str, object]:
    # few ask for it, and the others need not load what checks signatures
    from modelrunner.operations.trust.material import StoredMaterial

    named = next((name for name in model.references if name.short == text), None)
    name = named or next(iter(model.references), None)
    return _assessed(context, StoredMaterial(model), name, card, asked)


def _security_remote(
    context: Context, source: Source, name: Reference, card: Card | None, asked: "_Asked"
) -> dict[str, object]:
    # see `_security`
    from modelrunner.operations.trust.material import RemoteMaterial

    return _assessed(context, RemoteMaterial.at(source, name), name, card, asked)


def _assessed(
    context: Context, model: "Material", name: Reference | None, card: Card | None, asked: "_Asked"
) -> dict[str, object]:
    # see `_security`
    from modelrunner.cli.steps.trust import security
    from modelrunner.operations.trust.report import Security, assess
    from modelrunner.operations.trust.signatures import Signers

    keys, ca, identity, issuer, trusted_root = asked
    signers = Signers.named(keys, ca, None, identity, issuer, trusted_root)

    def found() -> Security:
        return security(context, name, model.artifact.manifest, signers)

    return assess(model, card, found)


@command(
    examples="  modelrunner tags ai/granite-4.0-micro\n  modelrunner tags ai/qwen3 --details --json"
)
def tags(
    context: Context,
    reference: Annotated[str, Argument(metavar="REF", help="Repository, such as ai/smollm2.")],
    details: Annotated[
        bool,
        Option(
            "--details", help=f"Show details from the manifests, of at most {DETAIL_LIMIT} tags."
        ),
    ] = False,
) -> None:
    """List the tags of a repository in its registry, with what is known about each."""
    # `inspect` does without the catalogue
    from modelrunner.cli.commands.card import card_source

    name = Reference.parse(reference)
    source = None
    if name.is_local:
        names = context.store.tags_of(name)
        if not names:
            raise context.store.not_found(reference)
    else:
        source = context.source_for(name)
        with about(name):
            names = source.tags(name)
    found = describe_tags(name, names, context.store, card_source(context).known(name))
    if details and source is not None:
        found = with_details(source, name, found)
    if context.console.json:
        rows = [tag.to_dict() for tag in found]
        context.console.emit({"repository": name.name, "tags": list(names), "details": rows})
    elif context.options.quiet:
        for tag in names:
            context.console.print(sanitize_line(tag, 128))
    else:
        headings = ("TAG", "SIZE", "QUANTIZATION", "PARAMETERS", "CONTEXT", "STORED")
        table = [_tag_row(tag) for tag in found]
        context.console.table(headings, table, drop=("PARAMETERS", "CONTEXT", "QUANTIZATION"))


def _tag_row(tag: Tag) -> tuple[str, ...]:
    return (
        tag.name,
        format_size(tag.size_bytes) if tag.size_bytes is not None else "",
        tag.quantization or "",
        tag.parameters or "",
        format_context(tag.context_length) if tag.context_length else "",
        "yes" if tag.here else "",
    )
