"""`modelrunner share`."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Annotated

from modelrunner.cli.context import Context, command
from modelrunner.cli.parser.declared import Option
from modelrunner.errors import UsageError
from modelrunner.share.server import ShareServer
from modelrunner.units import counted

# late imports: few shares have registries behind them, and few are announced
if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from modelrunner.share.upstream import Upstream
    from modelrunner.share.writing.requests import Writing


@command(
    examples="  modelrunner share --port 5001\n"
    "  MODELRUNNER_MIRRORS=docker.io=http://127.0.0.1:5001 modelrunner pull ai/smollm2\n"
    "  modelrunner share --lan\n"
    "  modelrunner share --upstream docker.io --cache-size 500GiB --host 10.0.0.5\n"
    "  modelrunner share --writable"
)
def share(
    context: Context,
    port: Annotated[
        int,
        Option(min=0, max=65535, metavar="N", help="Port to listen on; 0 chooses a free one."),
    ] = 5001,
    host: Annotated[
        str | None,
        Option(
            metavar="ADDRESS",
            help="Address to listen on; beyond loopback, anyone can read the models (default:"
            " 127.0.0.1, or all addresses with --lan).",
        ),
    ] = None,
    lan: Annotated[
        bool,
        Option("--lan", help="Announce the registry on the local network, for `pull --lan`."),
    ] = False,
    upstream: Annotated[
        list[str] | None,
        Option(
            metavar="REGISTRY[=URL]",
            help="Download what the store lacks of this registry, and cache it; can be repeated.",
        ),
    ] = None,
    upstream_login: Annotated[
        bool,
        Option(
            "--upstream-login",
            help="Use this machine's logins for --upstream; anyone who can reach the share can"
            " then read what they can.",
        ),
    ] = False,
    cache_size: Annotated[
        str,
        Option(metavar="SIZE", help="Size limit of the cache of --upstream."),
    ] = "200GiB",
    writable: Annotated[
        bool,
        Option(
            "--writable",
            help="Accept pushes, under names that the store does not have; beyond loopback, with"
            " the key in MODELRUNNER_API_KEY as the password.",
        ),
    ] = False,
    max_upload: Annotated[
        str | None,
        Option(metavar="SIZE", help="Largest blob that --writable accepts (default: any)."),
    ] = None,
    pushed_size: Annotated[
        str | None,
        Option(
            metavar="SIZE",
            help="Maximum total size of pushed content (default: the free disk space).",
        ),
    ] = None,
) -> None:
    """Serve the local store as an OCI registry until Ctrl-C, read-only without --writable."""
    where = host or ("0.0.0.0" if lan else "127.0.0.1")  # noqa: S104 - asked for
    if upstream_login and not upstream:
        raise UsageError(
            "--upstream-login needs --upstream", hint="add --upstream REGISTRY, such as docker.io"
        )
    if (max_upload or pushed_size) and not writable:
        raise UsageError("--max-upload and --pushed-size need --writable", hint="add --writable")
    with ExitStack() as stack:
        behind = None
        if upstream:
            found = _behind(context, upstream, cache_size, login=upstream_login)
            behind = stack.enter_context(found)
        limits = (max_upload, pushed_size)
        writing = None
        if writable:
            writing = stack.enter_context(_writing(context, where, behind, limits))
        server = stack.enter_context(ShareServer(context.store, where, port, behind, writing))
        console = context.console
        if console.json:
            # one line: whoever starts this reads it while the server goes on
            value = {"address": server.address, "models": len(context.store.models())}
            console.emit_line(value)
        else:
            console.print(server.address)
        console.flush()
        if lan:
            from modelrunner.registry.lan import announced

            registries = [] if behind is None else behind.registries()
            announcement = announced(where, server.server_address[1], registries)
            addresses = stack.enter_context(announcement)
            console.say(f"announced at {', '.join(addresses)}; `modelrunner pull --lan` finds it")
        if upstream:
            console.say(f"downloading from {', '.join(upstream)}, cached up to {cache_size}")
        shared = counted(len(context.store.models()), "model")
        manner = "and accepting pushes" if writable else "read-only"
        console.say(f"sharing {shared} {manner}; press Ctrl-C to stop")
        if not server.is_private:
            more = ", and whatever its logins can read upstream" if upstream_login else ""
            console.warn(f"anyone who can reach {server.address} can read all models{more}")
        server.serve_forever()


@contextmanager
def _behind(
    context: Context, upstream: list[str], cache_size: str, *, login: bool
) -> "Iterator[Upstream]":
    from modelrunner.operations.share.open import UpstreamRequest, upstream_of

    request = UpstreamRequest.of(upstream, cache_size, login=login)
    context.require_network("--upstream")
    folder = context.settings.shared_cache
    found = upstream_of(request, context.store, context.registries, folder, context.console.warn)
    with found as behind:
        yield behind


def _writing(
    context: Context,
    host: str,
    behind: "Upstream | None",
    limits: tuple[str | None, str | None],
) -> "AbstractContextManager[Writing]":
    from modelrunner.operations.share.writable import writing_to

    serves = None if behind is None else behind.serves
    place = context.settings.pushed
    return writing_to(place, context.store, serves, host, context.environ, limits)
