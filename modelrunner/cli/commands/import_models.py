"""`modelrunner import`."""

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated

from modelrunner.cli.context import CommandEnd, Context, command
from modelrunner.cli.parser.declared import Argument, Option
from modelrunner.cli.progress.select import progress
from modelrunner.disk.files import disk_errors
from modelrunner.errors import ModelRunnerError, UnsupportedArtifactError, UsageError
from modelrunner.frozen import replace
from modelrunner.oci.reference import Reference
from modelrunner.operations.model.recommended import packaged_by
from modelrunner.operations.package.import_artifact import left_out_of
from modelrunner.operations.package.import_models import Imported, Importer
from modelrunner.other_stores import folder as plain_files
from modelrunner.other_stores.found import Found, Unusable
from modelrunner.other_stores.programs import PROGRAMS, pick
from modelrunner.store.adopt import Taken, Way
from modelrunner.units import counted, format_size

_HEADINGS = ("MODEL", "SIZE", "NEW NAME", "")
_SAID: dict[Taken, str] = {
    "here": "already stored",
    "reflink": "shared",
    "hardlink": "linked",
    "copy": "copied",
}


class From(StrEnum):
    """Programs whose models can be imported."""

    OLLAMA = "ollama"
    HF = "hf"
    LMSTUDIO = "lmstudio"
    DOCKER = "docker"


@command(
    examples="  modelrunner import granite-4.0-micro-Q4_K_M.gguf\n"
    "  modelrunner import granite-4.0-micro-Q4_K_M.gguf local/granite:micro\n"
    "  modelrunner import ~/models\n"
    "  modelrunner import --from ollama\n"
    "  modelrunner import --from ollama llama3.2:1b\n"
    "  modelrunner import --from hf --all"
)
def import_models(
    context: Context,
    names: Annotated[
        list[str] | None,
        Argument(
            metavar="[FILE|DIR|NAME...]",
            help="GGUF files or directories; with --from, names of the other program's models.",
        ),
    ] = None,
    from_: Annotated[From | None, Option("--from", help="Program to import models from.")] = None,
    all_: Annotated[bool, Option("--all", help="Import all models of the program.")] = False,
    dry_run: Annotated[bool, Option("--dry-run", help="Only list what would be imported.")] = False,
    name: Annotated[
        str | None,
        Option(metavar="REF", help="Name for the imported model, if there is only one."),
    ] = None,
    folder: Annotated[
        Path | None,
        Option(metavar="DIR", help="Directory in which the program keeps its models."),
    ] = None,
    link: Annotated[
        bool, Option("--link", help="Hard-link files; fail if that is impossible.")
    ] = False,
    copy: Annotated[
        bool, Option("--copy", help="Copy files, so that the originals can be modified.")
    ] = False,
) -> None:
    """Import GGUF files, or models of Ollama, LM Studio, Docker or the Hugging Face cache.

    Files share their blocks with the originals where the file system can, else they are
    hard-linked, else copied. The other program's files are never modified. Without names, its
    models are listed.
    """
    if link and copy:
        raise UsageError("--link and --copy cannot be combined", hint="use one of them")
    if from_ is None and name is None and _is_file_and_name(names or []):
        # as Docker Model Runner's `package FILE NAME`
        names, name = (names or [])[:1], (names or [])[1]
    found = _find(context, names or [], from_, folder, all_=all_)
    if from_ is not None and not names and not all_:
        _show(context, found, dry_run=dry_run)
        return
    wanted = None if name is None else Reference.parse(name)
    if wanted is not None and (len(found) != 1 or wanted.digest is not None):
        several = len(found) != 1
        raise UsageError(
            f"--name needs exactly one model, got {len(found)}"
            if several
            else "--name must have a tag, not a digest",
            hint="remove --name, or import one model"
            if several
            else "write it like local/granite:micro",
        )
    if dry_run:
        _show(context, [_named(model, wanted) for model in found], dry_run=True)
        return
    with progress(context.console, verb="hashing") as listener:
        way: Way = "link" if link else "copy" if copy else "auto"
        importer = Importer(context.store, way, listener)
        results = [(model, _take(importer, model, wanted)) for model in found]
    _show_results(context, results)


def _is_file_and_name(names: Sequence[str]) -> bool:
    """Whether the arguments are a file and its new name."""
    if len(names) != 2 or not Path(names[0]).expanduser().is_file():  # noqa: PLR2004
        return False
    second = Path(names[1]).expanduser()
    looks_like_a_path = names[1].startswith((".", "/", "~")) or names[1].endswith(".gguf")
    return not looks_like_a_path and not second.exists()


def _find(
    context: Context, names: Sequence[str], program: From | None, folder: Path | None, *, all_: bool
) -> list[Found]:
    if program is None:
        if all_ or folder is not None:
            raise UsageError("--all and --folder need --from", hint="add --from PROGRAM")
        if not names:
            raise UsageError(
                "nothing to import: no file given",
                hint="name a GGUF file or a directory, or a program with --from",
            )
        places = [Path(name).expanduser() for name in names]
        return plain_files.with_own_names([model for place in places for model in _in_place(place)])
    if all_ and names:
        raise UsageError("--all and model names cannot be combined", hint="remove one of them")
    known = PROGRAMS[program.value]
    home = Path(context.environ.get("HOME") or "/")
    try:
        place = known.folder(home, context.environ) if folder is None else folder
    except UsageError as exc:
        # as where its folder is empty: there is nothing to import, and nothing is wrong
        context.console.say(f"{exc.message}; if its models are elsewhere, add --folder DIR")
        return pick([], names)
    if folder is not None and not place.is_dir():
        raise UsageError(
            f"--folder {place}: directory not found",
            hint=f"name the directory with {known.title} models",
        )
    with disk_errors(place):
        found = list(known.find(place))
    if not found:
        context.console.say(
            f"no {known.title} models in {place}; if they are elsewhere, add --folder DIR"
        )
    return pick(found, names) if names else found


def _in_place(place: Path) -> list[Found]:
    with disk_errors(place):
        return list(plain_files.find(place))


def _named(model: Found, name: Reference | None) -> Found:
    """Return a model with the name that it is to get."""
    if name is None or isinstance(model, Unusable):
        return model
    return replace(model, reference=name)


def _take(importer: Importer, model: Found, name: Reference | None) -> Imported | ModelRunnerError:
    if isinstance(model, Unusable):
        return UnsupportedArtifactError(f"{model.title}: {model.reason}")
    try:
        return importer.take(model, name)
    except ModelRunnerError as exc:
        return exc


def _show(context: Context, found: Sequence[Found], *, dry_run: bool) -> None:
    importer = Importer(context.store)
    if context.console.json:
        context.console.emit([_found_to_dict(importer, model) for model in found])
        return
    if context.console.quiet:
        for model in found:
            context.console.print(model.title)
        return
    rows = []
    for model in found:
        if isinstance(model, Unusable):
            rows.append((model.title, "", "", f"({model.reason})"))
        else:
            here = "stored" if importer.is_here(model) else ""
            rows.append((model.title, format_size(model.size), model.reference.short, here))
    context.console.table(_HEADINGS, rows, drop=("SIZE",), cut=("MODEL",))
    if found and not dry_run:
        context.console.say("import models by name, or all of them with --all")


def _found_to_dict(importer: Importer, model: Found) -> dict[str, object]:
    if isinstance(model, Unusable):
        return {"title": model.title, "status": "unusable", "reason": model.reason}
    return {
        "title": model.title,
        "status": "here" if importer.is_here(model) else "new",
        "reference": str(model.reference),
        "size_bytes": model.size,
        "left_out": list(left_out_of(model)),
    }


def _show_results(
    context: Context, results: Sequence[tuple[Found, Imported | ModelRunnerError]]
) -> None:
    console = context.console
    failed = [entry for _, entry in results if isinstance(entry, ModelRunnerError)]
    if len(results) == 1 and failed:
        raise failed[0]
    for _model, entry in results:
        if console.json:
            continue
        if isinstance(entry, ModelRunnerError):
            console.error(entry)
        elif console.quiet:
            console.print(str(entry.model.weights()))
        else:
            console.print(_line(entry))
            _explain(context, entry)
    if console.json and not failed:
        console.emit([_to_dict(entry) for _, entry in results if isinstance(entry, Imported)])
    if not failed:
        return
    if console.json:
        shown = [
            _to_dict(entry)
            if isinstance(entry, Imported)
            else {"title": model.title, "status": "failed", "error": entry.to_dict()}
            for model, entry in results
        ]
        worst = max(failed, key=lambda error: error.exit_code)
        error = {"error": {**worst.to_dict(), "results": shown}}
        console.emit_message(error)
    else:
        console.say(f"{counted(len(results), 'model')}: {len(failed)} failed")
    raise CommandEnd(max(error.exit_code for error in failed))


def _line(done: Imported) -> str:
    how = ", ".join(f"{format_size(size)} {_SAID[way]}" for way, size in done.bytes_by_way.items())
    said = "imported" if done.new else "up to date"
    return f"{done.reference.short}: {said} {done.model.digest.short} ({how})"


def _explain(context: Context, done: Imported) -> None:
    """Print the settings that were taken with a model, and what was not taken."""
    packaged = packaged_by(done.model)
    if packaged.values and done.new:
        context.console.say(f"{done.reference.short} sets {packaged.line()}")
    for what in done.left_out:
        context.console.warn(f"{done.found.title}: not imported: {what}")


def _packaged(done: Imported) -> dict[str, object]:
    packaged = packaged_by(done.model)
    return {"packaged": packaged.to_dict()} if packaged.values else {}


def _to_dict(done: Imported) -> dict[str, object]:
    return {
        "reference": str(done.reference),
        "digest": str(done.model.digest),
        "status": "imported" if done.new else "up-to-date",
        "path": str(done.model.weights()),
        "size_bytes": done.model.size,
        "bytes_by_way": dict(done.bytes_by_way),
        "left_out": list(done.left_out),
        **_packaged(done),
    }
