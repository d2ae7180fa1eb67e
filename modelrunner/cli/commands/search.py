"""`modelrunner search`."""

from collections.abc import Sequence
from contextlib import closing
from enum import StrEnum
from typing import Annotated

from modelrunner.cards.catalog import Catalog
from modelrunner.cli.context import Context, command
from modelrunner.cli.parser.declared import Argument, Option
from modelrunner.errors import UsageError
from modelrunner.frozen import replace
from modelrunner.memory.fit import Budget
from modelrunner.oci.reference import parse_registry
from modelrunner.operations.catalog.repositories import named_repositories
from modelrunner.operations.catalog.search import NAMESPACE, Hit, Search
from modelrunner.registry.docker_hub import (
    DockerHubApi,
    DockerHubRepository,
    docker_hub_endpoint,
)
from modelrunner.registry.huggingface.hits import HubHit
from modelrunner.text import file_text, sanitize_line
from modelrunner.units import format_size

_HEADINGS = (
    "NAME",
    "PARAMETERS",
    "SIZE",
    "FITS",
    "DOWNLOADS",
    "STARS",
    "CAPABILITIES",
    "DESCRIPTION",
)
_FITS = {"fits": "yes", "no": "no"}
_WIDEST = 60


class Source(StrEnum):
    """Hubs that can be searched."""

    ALL = "all"
    DOCKERHUB = "dockerhub"
    HUGGINGFACE = "huggingface"


@command(
    examples="  modelrunner search granite\n"
    "  modelrunner search --source huggingface qwen3 embedding\n"
    "  modelrunner search --fits coder --json\n"
    "  modelrunner search --registry registry.example.com qwen"
)
def search(
    context: Context,
    words: Annotated[
        list[str] | None, Argument(metavar="[WORD...]", help="Words to search for.")
    ] = None,
    source: Annotated[Source, Option(help="Hub to search.")] = Source.ALL,
    limit: Annotated[
        int,
        Option(
            "--limit", "-n", min=1, max=100, metavar="N", help="Maximum number of results per hub."
        ),
    ] = 20,
    fits: Annotated[bool, Option("--fits", help="List only models that fit this machine.")] = False,
    registry: Annotated[
        str | None,
        Option(
            "--registry",
            metavar="HOST",
            help="List the repositories of this registry instead, if it lets you.",
        ),
    ] = None,
) -> None:
    """Find models on Docker Hub and the Hugging Face Hub, with their size and whether they fit."""
    # the locale may not know how they were typed
    text = file_text(" ".join(words or ()))
    context.require_network("search")
    if registry is not None:
        if source is not Source.ALL or fits:
            raise UsageError(
                "--registry cannot be combined with --source and --fits", hint="remove the others"
            )
        _search_registry(context, registry, text, limit)
        return
    place = Search(
        None if source is Source.HUGGINGFACE else lambda: _docker_hub(context),
        None
        if source is Source.DOCKERHUB
        else lambda text, most: _hugging_face(context, text, most),
        Catalog.load(),
        Budget.of(context.workspace.machine.devices).together,
    )
    hits, failures = place.find(text, limit)
    if failures and not hits:
        raise max(failures, key=lambda error: error.exit_code)
    for failure in failures:
        context.console.warn(failure.message)
    found = [hit for hit in hits if not fits or hit.verdict == "fits"]
    if context.console.json:
        context.console.emit([_to_dict(hit) for hit in found])
    elif context.console.quiet:
        for hit in found:
            context.console.print(hit.name)
    else:
        context.console.table(
            _HEADINGS,
            [_row(hit) for hit in found],
            drop=(
                *("STARS", "DOWNLOADS", "DESCRIPTION", "CAPABILITIES"),
                *("PARAMETERS", "FITS", "SIZE"),
            ),
        )
        if not found:
            context.console.say("no models found; `modelrunner cards` lists the built-in catalog")


def _search_registry(context: Context, registry: str, text: str, limit: int) -> None:
    with closing(context.registries.catalog_of(parse_registry(registry))) as catalog:
        found = named_repositories(catalog, text, limit)
    if context.console.json:
        context.console.emit([{"name": name, "source": catalog.name} for name in found])
        return
    for name in found:
        context.console.print(sanitize_line(name, 512))
    if not found:
        context.console.say(f"no repositories found on {catalog.name}")
    elif len(found) == limit:
        context.console.say(f"only the first {limit} are shown: --limit shows more")


def _docker_hub(context: Context) -> Sequence[DockerHubRepository]:
    settings = context.settings
    endpoint = docker_hub_endpoint(settings.hub_api, ca_file=settings.ca_file)
    return DockerHubApi(endpoint).repositories(NAMESPACE)


def _hugging_face(context: Context, text: str, limit: int) -> Sequence[HubHit]:
    # who searches Docker Hub alone waits for nothing of the other
    from modelrunner.registry.huggingface.api import HubApi

    places = context.registries
    # somebody waits for a page to read, as for Docker Hub's
    patience = replace(places.backoff, attempts=2, longest_retry_after_s=5.0)
    api = HubApi(places.hub, patience, places.ca_file)
    with closing(api):
        return api.search(text, limit)


def _row(hit: Hit) -> tuple[str, ...]:
    about = "" if hit.size is None else format_size(hit.size)
    gated = "(gated) " if hit.gated else ""
    return (
        hit.name,
        hit.parameters or "",
        f"~{about}" if about and hit.size_is_estimate else about,
        _FITS.get(hit.verdict, ""),
        _short(hit.downloads),
        _short(hit.stars),
        ", ".join(hit.capabilities or ()),
        f"{gated}{hit.description}"[:_WIDEST],
    )


def _short(count: int) -> str:
    for limit, unit in ((10**6, "M"), (10**3, "K")):
        if count >= limit:
            return f"{count / limit:.1f}{unit}"
    return str(count)


def _to_dict(hit: Hit) -> dict[str, object]:
    return {
        "name": hit.name,
        "source": hit.source,
        "description": hit.description,
        "parameters": hit.parameters,
        "size_bytes": hit.size,
        "size_is_estimate": hit.size_is_estimate,
        "quantizations": list(hit.quantizations),
        "downloads": hit.downloads,
        "stars": hit.stars,
        "gated": hit.gated,
        "fit": hit.verdict,
        "capabilities": None if hit.capabilities is None else list(hit.capabilities),
    }
