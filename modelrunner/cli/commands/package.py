"""`modelrunner package`."""

from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated

from modelrunner.cli.context import Context, command
from modelrunner.cli.options import (
    KvType,
    RepeatPenalty,
    System,
    Temperature,
    Think,
    TopP,
)
from modelrunner.cli.parser.declared import Argument, Option
from modelrunner.cli.steps.pushing import push_model, pushed_line, pushed_to_dict
from modelrunner.errors import UsageError
from modelrunner.oci.reference import Reference
from modelrunner.operations.launch.precedence import LaunchOptions
from modelrunner.operations.package.package import Ingredients, package
from modelrunner.units import format_size


class Format(StrEnum):
    """Families (formats) of artifacts."""

    DOCKER = "docker"
    MODELPACK = "modelpack"


@command(
    examples="  modelrunner package granite.gguf ai/my-granite:3B --license LICENSE\n"
    "  modelrunner package model-00001-of-00003.gguf registry.example.com/team/model:1\n"
    "  modelrunner package granite.gguf registry.example.com/team/granite:1 --push\n"
    '  modelrunner package granite.gguf team/pirate:1 --system "You are a pirate." --set top-k=40'
)
def package_model(
    context: Context,
    file: Annotated[
        Path, Argument(metavar="FILE.gguf", help="GGUF file; any shard of a split model.")
    ],
    reference: Annotated[str, Argument(metavar="REF", help="Name for the model.")],
    licenses: Annotated[
        list[Path] | None,
        Option("--license", "-l", metavar="FILE", help="License text to include; can be repeated."),
    ] = None,
    mmproj: Annotated[
        Path | None, Option(metavar="FILE", help="Projector (mmproj) to include.")
    ] = None,
    chat_template: Annotated[
        Path | None,
        Option(metavar="FILE", help="Jinja chat template to include, instead of the model's own."),
    ] = None,
    context_size: Annotated[
        int | None,
        Option(min=1, metavar="TOKENS", help="Context size to write into the config."),
    ] = None,
    system: System = None,
    think: Think = None,
    temperature: Temperature = None,
    top_p: TopP = None,
    repeat_penalty: RepeatPenalty = None,
    kv_type: KvType = None,
    assignments: Annotated[
        list[str] | None,
        Option(
            "--set",
            metavar="KEY=VALUE",
            help="Set a setting of the model in the config (`configure --help` lists them);"
            " can be repeated.",
        ),
    ] = None,
    format_: Annotated[
        Format, Option("--format", help="Family (format) of the artifact.")
    ] = Format.DOCKER,
    link: Annotated[
        bool,
        Option(
            "--link",
            help="Hard-link the files into the local store instead of copying them; fail if that"
            " is impossible. A linked file must not be modified afterwards.",
        ),
    ] = False,
    push_: Annotated[
        bool, Option("--push", help="Push the model to its registry afterwards.")
    ] = False,
) -> None:
    """Package a GGUF file as an OCI artifact in the local store.

    Settings in the artifact's config are defaults wherever it runs: `configure` and the options
    of a command take precedence.
    """
    advised = LaunchOptions(
        context=context_size,
        kv_type=kv_type,
        assignments=assignments or (),
        think=think,
        system=system,
        temperature=temperature,
        top_p=top_p,
        repeat_penalty=repeat_penalty,
    ).settings()
    tokens = advised.pop("context", None)
    ingredients = Ingredients(
        file,
        licenses or (),
        mmproj,
        chat_template,
        tokens if isinstance(tokens, int) else None,
        advised,
    )
    name = Reference.parse(reference)
    if push_:
        # nothing is made that cannot be sent
        if name.is_local:
            raise context.store.unregistered(name)
        context.require_network("push")
    model = package(
        context.store,
        ingredients,
        name,
        family="docker" if format_ is Format.DOCKER else "modelpack",
        created=_created(context.environ.get("SOURCE_DATE_EPOCH", "")),
        way="link" if link else "copy",
    )
    path = model.weights()
    value: dict[str, object] = {
        "reference": str(name),
        "digest": str(model.digest),
        "path": str(path),
        "size_bytes": model.size,
    }
    if not context.console.json:
        context.console.print(f"{name.short}: {model.digest} ({format_size(model.size)})")
    if push_:
        pushed = push_model(context, model, name)
        value |= pushed_to_dict(pushed)
        if not context.console.json:
            context.console.print(pushed_line(name, pushed))
    if context.console.json:
        context.console.emit(value)


def _created(epoch: str) -> datetime:
    """Return the current time, or SOURCE_DATE_EPOCH for reproducible builds."""
    if not epoch:
        return datetime.now(UTC)
    try:
        return datetime.fromtimestamp(int(epoch), UTC)
    except (ValueError, OverflowError, OSError) as exc:
        raise UsageError(
            f"invalid SOURCE_DATE_EPOCH {epoch[:40]!r}",
            hint="set it to seconds since 1970, as in `git log -1 --format=%ct`, or unset it",
        ) from exc
