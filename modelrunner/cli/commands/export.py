"""`modelrunner export`."""

import re
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

from modelrunner.cli.context import Context, command
from modelrunner.cli.options import Rpc
from modelrunner.cli.parser.declared import Argument, Option
from modelrunner.disk.files import disk_errors, flush, lasting, sync_directory
from modelrunner.errors import UsageError
from modelrunner.lockfile.project import Project
from modelrunner.memory.plan.load import CACHE_TYPES
from modelrunner.operations.export.export import USUAL_CONTEXT, Exporter, ExportRequest, Kind
from modelrunner.operations.export.served.export import ServedRequest, export_served
from modelrunner.operations.runtimes.server_image import ServerImage, server_image
from modelrunner.runtime.images.library import Library
from modelrunner.runtime.settings import RPC_WARNING, value_of
from modelrunner.system.installation import Installation
from modelrunner.text import suggest

_IMAGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@+-]{0,254}")
_PROGRAM = "llama-server"


@command(
    name="export",
    examples="  modelrunner export compose ai/smollm2 -o compose.yaml\n"
    "  modelrunner export k8s ai/granite-4.0-micro --context 32768 | kubectl apply -f -\n"
    "  modelrunner export k8s ai/smollm2 --image-volume registry.example.com/team/smollm2:image\n"
    "  modelrunner export quadlet ai/smollm2 --output ~/.config/containers/systemd\n"
    "  modelrunner export systemd ai/smollm2 --name chat -o chat.service\n"
    "  modelrunner export compose --serve ai/smollm2 ai/granite-4.0-micro -o compose.yaml\n"
    "  modelrunner export launchd ai/smollm2 -o ~/Library/LaunchAgents",
)
def export_model(
    context: Context,
    kind: Annotated[Kind, Argument(metavar="KIND", help=", ".join(Kind))],
    references: Annotated[
        list[str],
        Argument(metavar="REF...", help="Model to deploy; several with --serve."),
    ],
    serve: Annotated[
        bool,
        Option(
            "--serve",
            help="Deploy `modelrunner serve` with the models instead of llama-server with one;"
            " always so for launchd.",
        ),
    ] = False,
    output: Annotated[
        Path | None,
        Option(
            "--output",
            "-o",
            metavar="FILE",
            help="File or directory to write to (default: print to stdout).",
        ),
    ] = None,
    context_size: Annotated[
        int | None,
        Option(
            "--context",
            min=1,
            max=2**31 - 1,
            metavar="TOKENS",
            help=f"Context size in tokens (default: the trained size, at most {USUAL_CONTEXT}).",
        ),
    ] = None,
    kv_type: Annotated[
        str | None,
        Option(metavar="TYPE", help="Data type of the KV cache (default: f16)."),
    ] = None,
    port: Annotated[int, Option(min=1, max=65535, metavar="N", help="Port to publish.")] = 8080,
    name: Annotated[
        str | None,
        Option(
            metavar="NAME", help="Name of the service or unit (default: derived from the model)."
        ),
    ] = None,
    image: Annotated[
        str | None,
        Option(
            metavar="IMAGE",
            help="Server image (default: that of the project's or the installed runtime, else"
            " llama.cpp's CPU image).",
        ),
    ] = None,
    puller: Annotated[
        str | None,
        Option(
            metavar="IMAGE",
            help="Image that pulls the model; must contain modelrunner (default:"
            " a Python image that installs it with pip).",
        ),
    ] = None,
    program: Annotated[
        str | None,
        Option(
            metavar="PATH",
            help="Path of llama-server, for systemd (default: found on PATH); with --serve,"
            " of modelrunner (default: this one).",
        ),
    ] = None,
    api_key_file: Annotated[
        str | None,
        Option(
            metavar="PATH",
            help="File with the API key where it runs, with --serve (default: ./api-key for"
            " compose, /etc/modelrunner/api-key for systemd).",
        ),
    ] = None,
    rpc: Rpc = None,
    image_volume: Annotated[
        str | None,
        Option(
            metavar="IMAGE",
            help="Mount this image, made by `push --as image`, as a volume instead of pulling the"
            " model, for k8s and kserve.",
        ),
    ] = None,
) -> None:
    """Write a deployment file for a model: pinned by digest, with a memory limit, unprivileged.

    The model is not pulled; llama-preset and systemd without --serve need it in the local store.
    """
    serves = serve or kind is Kind.LAUNCHD
    _check_combination(references, serves=serves, puller=puller, rpc=rpc, key_file=api_key_file)
    if image_volume is not None:
        _check_volume(kind, serves=serves, puller=puller)
    if kv_type is not None and kv_type not in CACHE_TYPES:
        raise UsageError(
            f"--kv-type: invalid KV cache type {kv_type[:40]!r}",
            hint=suggest(kv_type, CACHE_TYPES) or f"use one of {', '.join(CACHE_TYPES)}",
        )
    if not serves:
        image = image or context.settings.container_image or None
    found = None if serves or image is not None else _server_image(context, kind)
    request = ExportRequest(
        context=context_size,
        kv_type=kv_type,
        port=port,
        name=name,
        image=_image("--image", image if found is None else found.text),
        image_note=None if found is None else found.note,
        puller=_image("--puller", puller),
        rpc=None if rpc is None else str(value_of("rpc", rpc, "--rpc")),
        program=_program(context, program) if kind is Kind.SYSTEMD and not serves else None,
        volume=image_volume,
    )
    estimator = context.workspace.estimator()
    exporter = Exporter(context.store, context.source_for, estimator, Installation.current())
    if serves:
        served = ServedRequest(
            program=_own_program(program),
            key_file=_key_file(kind, api_key_file),
            home=str(context.settings.home),
        )
        both = export_served(exporter, kind, references, request, served)
        for warning in both.warnings:
            context.console.warn(warning)
        _deliver(context, output, both.files, both.to_dict())
        return
    made = exporter.export(kind, references[0], request)
    if not made.report.estimate.is_complete:
        context.console.warn("the memory estimate is incomplete: the limit may be too low")
    for warning in made.warnings:
        context.console.warn(f"{made.plan.alias}: {warning}")
    if request.rpc is not None:
        context.console.warn(RPC_WARNING)
    _deliver(context, output, made.files, made.to_dict())


def _deliver(
    context: Context, output: Path | None, files: Mapping[str, str], value: Mapping[str, object]
) -> None:
    if output is not None:
        for path in _written(output, files):
            context.console.say(f"wrote {path}")
    if context.console.json:
        context.console.emit(value)
    elif output is None:
        context.console.print(_together(files).removesuffix("\n"))


def _check_combination(
    references: Sequence[str],
    *,
    serves: bool,
    puller: str | None,
    rpc: str | None,
    key_file: str | None,
) -> None:
    """Refuse options that would do nothing.

    Raises:
        UsageError: There is one.
    """
    if not serves:
        if len(references) > 1:
            raise UsageError(
                f"one model can be exported at a time, got {len(references)}",
                hint="use --serve to deploy `modelrunner serve` with several models",
            )
        if key_file is not None:
            raise UsageError(
                "--api-key-file needs --serve",
                hint="add --serve, or set LLAMA_API_KEY for the llama-server that is exported",
            )
        return
    if puller is not None:
        raise UsageError(
            "--puller cannot be combined with --serve: serve pulls its models itself",
            hint="name an image that contains modelrunner and a runtime with --image IMAGE",
        )
    if rpc is not None:
        raise UsageError(
            "--rpc cannot be combined with --serve",
            hint="set it where serve runs: `modelrunner configure REF --set rpc=HOST:PORT`",
        )


def _check_volume(kind: Kind, *, serves: bool, puller: str | None) -> None:
    """Refuse an image volume where none can be mounted, or nothing is left to pull.

    Raises:
        UsageError: It is so.
    """
    if serves or kind not in (Kind.K8S, Kind.KUBERNETES, Kind.KSERVE):
        raise UsageError(
            "--image-volume is for k8s and kserve without --serve",
            hint="leave it out: the model is pulled where it runs",
        )
    if puller is not None:
        raise UsageError(
            "--puller cannot be combined with --image-volume: nothing is pulled",
            hint="use one of them",
        )


def _own_program(said: str | None) -> tuple[str, ...]:
    """Return the command of this program, or of another copy of it."""
    if said is None:
        return (sys.executable, "-m", "modelrunner")
    return (_absolute("--program", said, "/opt/modelrunner/bin/modelrunner"),)


def _key_file(kind: Kind, said: str | None) -> str | None:
    if said is None:
        return None
    if kind in (Kind.K8S, Kind.KUBERNETES):
        raise UsageError(
            "--api-key-file is for compose, systemd and launchd: Kubernetes has a Secret",
            hint="the file that is written says how to create the Secret",
        )
    return said if kind is Kind.COMPOSE else _absolute("--api-key-file", said, "/etc/api-key")


def _absolute(option: str, said: str, example: str) -> str:
    if not (Path(said).is_absolute() and said.isprintable()):
        raise UsageError(
            f"{option} {said[:200]!r} is not an absolute path", hint=f"use a path such as {example}"
        )
    return said


def _server_image(context: Context, kind: Kind) -> ServerImage | None:
    """Return the image of the project's or the installed runtime, for what runs in containers."""
    project = Project.at(None)
    if kind is Kind.LLAMA_PRESET:
        return None
    warn = context.console.warn
    library = Library(context.settings.runtimes)
    found = server_image(project, library, context.settings.runtime, warn)
    if kind is Kind.SYSTEMD:
        if found is not None and project.intent_path.exists():
            warn("a unit for systemd starts the llama-server of the machine, not an image")
        return None
    return found


def _image(option: str, text: str | None) -> str | None:
    if text is not None and not _IMAGE.fullmatch(text):
        raise UsageError(
            f"{option}: invalid image name {text[:80]!r}",
            hint="write it like ghcr.io/ggml-org/llama.cpp:server",
        )
    return text


def _program(context: Context, said: str | None) -> str | None:
    found = said or shutil.which(_PROGRAM, path=context.environ.get("PATH", ""))
    return None if found is None else _absolute("--program", found, "/usr/bin/llama-server")


def _written(output: Path, files: Mapping[str, str]) -> list[Path]:
    """Write one file to a path, or several files into a directory."""
    single = len(files) == 1 and not output.is_dir()
    if single and not output.parent.is_dir():
        raise UsageError(
            f"{output.parent}: directory not found", hint="create it first, or write to another one"
        )
    if not single and output.exists() and not output.is_dir():
        raise UsageError(
            f"{output} is a file, but there are {len(files)} files to write",
            hint="name a directory",
        )
    folder = output.parent if single else output
    written = []
    with disk_errors(folder):
        with lasting(folder):
            folder.mkdir(exist_ok=True)
        for name, text in files.items():
            path = output if single else output / name
            # outside: a file that a person names
            with path.open("w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                # a pipe or a terminal has nothing to be flushed
                flush(file.fileno())
            written.append(path)
        sync_directory(folder)
    return written


def _together(files: Mapping[str, str]) -> str:
    """Join several units as Podman reads them from one file `NAME.quadlets`."""
    if len(files) == 1:
        return next(iter(files.values()))
    return "---\n".join(f"# FileName={name}\n{text}" for name, text in files.items())
