"""`modelrunner share`."""

from contextlib import ExitStack
from typing import Annotated

from modelrunner.cli.context import Context, command
from modelrunner.cli.parser.declared import Option
from modelrunner.share.server import ShareServer
from modelrunner.units import counted


@command(
    examples="  modelrunner share --port 5001\n"
    "  MODELRUNNER_MIRRORS=docker.io=http://127.0.0.1:5001 modelrunner pull ai/smollm2\n"
    "  modelrunner share --lan"
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
) -> None:
    """Serve the local store as a read-only OCI registry until Ctrl-C."""
    where = host or ("0.0.0.0" if lan else "127.0.0.1")  # noqa: S104 - asked for
    with ShareServer(context.store, where, port) as server, ExitStack() as stack:
        console = context.console
        if console.json:
            # one line: whoever starts this reads it while the server goes on
            value = {"address": server.address, "models": len(context.store.models())}
            console.emit_line(value)
        else:
            console.print(server.address)
        console.flush()
        if lan:
            # few ask for it
            from modelrunner.registry.lan import announced

            addresses = stack.enter_context(announced(where, server.server_address[1]))
            console.say(f"announced at {', '.join(addresses)}; `modelrunner pull --lan` finds it")
        shared = counted(len(context.store.models()), "model")
        console.say(f"sharing {shared} read-only; press Ctrl-C to stop")
        if not server.is_private:
            console.warn(f"anyone who can reach {server.address} can read all models")
        server.serve_forever()
