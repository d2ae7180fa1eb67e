"""`modelrunner export`."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from modelrunner.cli.context import Context, command
from modelrunner.cli.fitting import estimator_for
from modelrunner.cli.options import Rpc
from modelrunner.errors import UsageError
from modelrunner.installation import Installation
from modelrunner.memory.load import CACHE_TYPES
from modelrunner.operations.export.export import USUAL_CONTEXT, Exporter, ExportWish, Kind
from modelrunner.runtime.settings import RPC_WARNING, value_of
from modelrunner.store.files import disk_errors

_IMAGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@+-]{0,254}")
_PROGRAM = "llama-server"


@command(
    name="export",
    examples="  modelrunner export compose ai/smollm2 -o compose.yaml\n"
    "  modelrunner export k8s ai/granite-4.0-micro --context 32768 | kubectl apply -f -\n"
    "  modelrunner export quadlet ai/smollm2 --output ~/.config/containers/systemd\n"
    "  modelrunner export systemd ai/smollm2 --name chat -o chat.service",
)
def export_model(
    context: Context,
    kind: Annotated[Kind, typer.Argument(metavar="KIND", help=", ".join(Kind))],
    reference: Annotated[str, typer.Argument(metavar="REF")],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="FILE", help="Or a folder; default: print to stdout."
        ),
    ] = None,
    context_size: Annotated[
        int | None,
        typer.Option(
            "--context",
            min=1,
            max=2**31 - 1,
            metavar="TOKENS",
            help=f"Default: what it was trained for, at most {USUAL_CONTEXT}.",
        ),
    ] = None,
    kv_type: Annotated[str, typer.Option(metavar="TYPE", help="The type of the KV cache.")] = "f16",
    port: Annotated[
        int, typer.Option(min=1, max=65535, metavar="N", help="Where it is offered.")
    ] = 8080,
    name: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Of services and units; default: after the model."),
    ] = None,
    image: Annotated[
        str | None,
        typer.Option(metavar="IMAGE", help="What serves; default: llama.cpp's own, for the CPU."),
    ] = None,
    puller: Annotated[
        str | None,
        typer.Option(
            metavar="IMAGE", help="What pulls: has modelrunner; default: Python's, with pip."
        ),
    ] = None,
    program: Annotated[
        str | None,
        typer.Option(metavar="PATH", help="Of llama-server, for systemd; default: that on PATH."),
    ] = None,
    rpc: Rpc = None,
) -> None:
    """Hand a model over to what runs it elsewhere: by digest, with its memory, without rights.

    The model is not pulled; for llama-preset and systemd it has to be here.
    """
    if kv_type not in CACHE_TYPES:
        raise UsageError(
            f"{kv_type!r} is no type of cache", hint=f"there are {', '.join(CACHE_TYPES)}"
        )
    wish = ExportWish(
        context=context_size,
        kv_type=kv_type,
        port=port,
        name=name,
        image=_image("--image", image or context.settings.container_image or None),
        puller=_image("--puller", puller),
        rpc=None if rpc is None else str(value_of("rpc", rpc, "--rpc")),
        program=_program(context, program) if kind is Kind.SYSTEMD else None,
    )
    estimator = estimator_for(context)
    exporter = Exporter(context.store, context.source_for, estimator, Installation.current())
    made = exporter.export(kind, reference, wish)
    if not made.report.estimate.is_complete:
        context.console.warn("not all of the memory that it needs is known: the limit may be low")
    if wish.rpc is not None:
        context.console.warn(RPC_WARNING)
    if output is not None:
        for path in _written(output, made.files):
            context.console.say(f"wrote {path}")
    if context.console.json:
        context.console.emit(made.to_dict())
    elif output is None:
        context.console.print(_together(made.files).removesuffix("\n"))


def _image(option: str, text: str | None) -> str | None:
    if text is not None and not _IMAGE.fullmatch(text):
        raise UsageError(
            f"{option}: invalid image name {text[:80]!r}",
            hint="write it like ghcr.io/ggml-org/llama.cpp:server",
        )
    return text


def _program(context: Context, said: str | None) -> str | None:
    import shutil

    found = said or shutil.which(_PROGRAM, path=context.environ.get("PATH", ""))
    if found is not None and not (Path(found).is_absolute() and found.isprintable()):
        raise UsageError(
            f"--program {found[:200]!r} is not an absolute path",
            hint="systemd needs one, such as /usr/bin/llama-server",
        )
    return found


def _written(output: Path, files: Mapping[str, str]) -> list[Path]:
    """Writes files: one as it is called, or several into a folder."""
    single = len(files) == 1 and not output.is_dir()
    if single and not output.parent.is_dir():
        raise UsageError(
            f"{output.parent}: directory not found", hint="create it first, or write to another one"
        )
    if not single and output.exists() and not output.is_dir():
        raise UsageError(
            f"{output} is a file, and there are {len(files)} to write", hint="name a folder"
        )
    folder = output.parent if single else output
    written = []
    with disk_errors(folder):
        folder.mkdir(exist_ok=True)
        for name, text in files.items():
            path = output if single else output / name
            path.write_text(text, encoding="utf-8")
            written.append(path)
    return written


def _together(files: Mapping[str, str]) -> str:
    """One text: several units as Podman reads them from one file `NAME.quadlets`."""
    if len(files) == 1:
        return next(iter(files.values()))
    return "---\n".join(f"# FileName={name}\n{text}" for name, text in files.items())
