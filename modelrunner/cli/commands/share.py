"""`modelrunner share`."""

import json
from typing import Annotated

import typer

from modelrunner.cli.context import Context, command
from modelrunner.share.server import ShareServer


@command(
    examples="  modelrunner share --port 5001\n"
    "  MODELRUNNER_MIRRORS=docker.io=http://127.0.0.1:5001 modelrunner pull ai/smollm2"
)
def share(
    context: Context,
    port: Annotated[
        int, typer.Option(min=0, max=65535, metavar="N", help="0 takes any free one.")
    ] = 5001,
    host: Annotated[
        str,
        typer.Option(
            metavar="ADDRESS", help="The address to listen on; beyond loopback anybody can read."
        ),
    ] = "127.0.0.1",
) -> None:
    """Serve the store as a read-only OCI registry, until Ctrl-C."""
    with ShareServer(context.store, host, port) as server:
        if context.console.json:
            # one line: whoever starts this reads it while the server goes on
            value = {"address": server.address, "models": len(context.store.models())}
            context.console.print(json.dumps(value))
        else:
            context.console.print(server.address)
        context.console.out.flush()
        context.console.say(
            f"sharing {len(context.store.models())} models read-only; Ctrl-C ends it"
        )
        if not server.address.startswith(("http://127.", "http://localhost", "http://[::1]")):
            context.console.warn(f"everybody who reaches {server.address} can read every model")
        server.serve_forever()
