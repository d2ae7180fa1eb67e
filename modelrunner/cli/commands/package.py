"""`modelrunner package`."""

from collections.abc import Mapping
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated

from modelrunner.cli.context import Context, command
from modelrunner.cli.options import (
    KvType,
    RepeatPenalty,
    Shape,
    System,
    Temperature,
    Think,
    TopP,
)
from modelrunner.cli.parser.declared import Argument, Option
from modelrunner.cli.steps.packaging import make_package
from modelrunner.cli.steps.signing import documents_wanted
from modelrunner.errors import UsageError
from modelrunner.oci.model.config import Family
from modelrunner.oci.reference import Reference
from modelrunner.operations.launch.precedence import LaunchOptions
from modelrunner.operations.package.request import PackageRequest, source_of


class Sbom(StrEnum):
    """Forms of a list of parts."""

    SPDX = "spdx"
    CYCLONEDX = "cyclonedx"


class Format(StrEnum):
    """Families (formats) of artifacts."""

    DOCKER = "docker"
    MODELPACK = "modelpack"


_FAMILIES: Mapping[Format, Family] = {Format.DOCKER: "docker", Format.MODELPACK: "modelpack"}


@command(
    examples="  modelrunner package granite.gguf ai/my-granite:3B --license LICENSE\n"
    "  modelrunner package ~/models/Qwen3-0.6B registry.example.com/team/qwen3:0.6B --push\n"
    "  modelrunner package model-00001-of-00003.gguf registry.example.com/team/model:1\n"
    "  modelrunner package granite.gguf registry.example.com/team/granite:1 --push\n"
    '  modelrunner package granite.gguf team/pirate:1 --system "You are a pirate." --set top-k=40\n'
    "  modelrunner package --from ai/smollm2 registry.example.com/team/smollm2:8k"
    " --context-size 8192 --push\n"
    "  modelrunner package granite-F16.gguf team/granite:Q4_K_M --quantize Q4_K_M\n"
    "  modelrunner package granite.gguf registry.example.com/team/granite:image --as image --push\n"
    "  modelrunner package granite.gguf team/granite:1 --sbom spdx --provenance\n"
    "  modelrunner package --from-hf ORG/REPO:Q4_K_M registry.example.com/team/model:1"
)
def package_model(
    context: Context,
    file: Annotated[
        str,
        Argument(
            metavar="[FILE|DIR]",
            help="GGUF file, or any shard of a split model; or a directory or file of another"
            " format. Left out with --from and --from-hf.",
        ),
    ],
    reference: Annotated[str | None, Argument(metavar="REF", help="Name for the model.")] = None,
    from_: Annotated[
        str | None,
        Option(
            "--from",
            metavar="REF",
            help="Make the model of this one, in the local store or in a registry, with the same"
            " weights; with --push to the same registry, they are not downloaded.",
        ),
    ] = None,
    from_hf: Annotated[
        str | None,
        Option(
            "--from-hf",
            metavar="ORG/REPO",
            help="Make the model of this repository of the Hugging Face Hub: ORG/REPO[@REVISION]"
            "[:QUANT].",
        ),
    ] = None,
    quantize: Annotated[
        str | None,
        Option(
            metavar="TYPE",
            help="Quantize the weights first, with llama.cpp's quantizer: Q4_K_M, Q8_0, ...",
        ),
    ] = None,
    imatrix: Annotated[
        Path | None,
        Option(metavar="FILE", help="Importance matrix for --quantize, as `llama-imatrix` makes."),
    ] = None,
    to_gguf: Annotated[
        bool,
        Option(
            "--to-gguf",
            help="Convert a directory of safetensors to GGUF first, with llama.cpp's converter;"
            " --quantize does so, too.",
        ),
    ] = False,
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
        Format | None,
        Option(
            "--format",
            help="Family (format) of the artifact (default: docker, or that of the model of"
            " --from).",
        ),
    ] = None,
    as_: Annotated[
        Shape,
        Option(
            "--as",
            help="What to make: an artifact, or a container image that has the files under /models"
            " (a modelcar).",
        ),
    ] = Shape.ARTIFACT,
    link: Annotated[
        bool,
        Option(
            "--link",
            help="Hard-link the files into the local store instead of copying them; fail if that"
            " is impossible. A linked file must not be modified afterwards.",
        ),
    ] = False,
    sbom: Annotated[
        list[Sbom] | None,
        Option(help="Attach an SBOM in SPDX or CycloneDX format; can be repeated."),
    ] = None,
    provenance: Annotated[
        bool,
        Option(
            "--provenance", help="Attach SLSA provenance: what the package was made from, and how."
        ),
    ] = False,
    sign_key: Annotated[
        str | None,
        Option(
            metavar="FILE|env:NAME|exec:PROGRAM",
            help="Sign the SBOMs and the provenance with this key, as `sign --key` does.",
        ),
    ] = None,
    push_: Annotated[
        bool, Option("--push", help="Push the model to its registry afterwards.")
    ] = False,
) -> None:
    """Package a GGUF file, a directory, or another model with other settings.

    The OCI artifact is added to the local store.

    Settings in the artifact's config are defaults wherever it runs: `configure` and the options
    of a command take precedence.
    """
    kind, source, name = source_of(file, reference, from_, from_hf)
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
    request = PackageRequest(
        kind=kind,
        source=source,
        name=Reference.parse(name),
        licenses=licenses or (),
        projector=mmproj,
        template=chat_template,
        settings=advised,
        family=None if format_ is None else _FAMILIES[format_],
        created=_created(context.environ.get("SOURCE_DATE_EPOCH", "")),
        link=link,
        push=push_,
        image=as_ is Shape.IMAGE,
        quantize=quantize,
        to_gguf=to_gguf,
        matrix=imatrix,
        documented=bool(sbom or provenance),
    )
    make_package(
        context, request, documents_wanted(context, sbom or (), sign_key, provenance=provenance)
    )


def _created(epoch: str) -> datetime | None:
    """Return SOURCE_DATE_EPOCH, for reproducible builds."""
    if not epoch:
        return None
    try:
        return datetime.fromtimestamp(int(epoch), UTC)
    except (ValueError, OverflowError, OSError) as exc:
        raise UsageError(
            f"invalid SOURCE_DATE_EPOCH {epoch[:40]!r}",
            hint="set it to seconds since 1970, as in `git log -1 --format=%ct`, or unset it",
        ) from exc
