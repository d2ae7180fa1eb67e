"""`modelrunner compose`: what Docker Compose calls for `provider: type: modelrunner`."""

from enum import StrEnum
from typing import Annotated

from modelrunner.cli.context import Context, command
from modelrunner.cli.parser.declared import Argument, Option
from modelrunner.errors import ModelRunnerError, UsageError
from modelrunner.operations.serve.provider import Provider
from modelrunner.serve.apis.docker.flags import flags_of, settings_of
from modelrunner.serve.client.errors import RefusalError

_PARAMETERS = (
    ("model", "Models to serve", True, "array"),
    ("context-size", "Context size of one conversation in tokens", False, "integer"),
    ("runtime-flags", "Flags of llama-server, such as `--threads 4`", False, "string"),
    ("host", "Address to listen on (default: the one of Docker's bridge)", False, "string"),
    ("port", "Port to listen on (default: a free one)", False, "integer"),
)
_METADATA = {
    "description": "Serve local models with modelrunner",
    "up": {
        "parameters": [
            {"name": name, "description": about, "required": required, "type": kind}
            for name, about, required, kind in _PARAMETERS
        ]
    },
    "down": {"parameters": []},
}


class Event(StrEnum):
    """What Compose wants."""

    UP = "up"
    DOWN = "down"
    METADATA = "metadata"


@command(
    examples="  modelrunner compose metadata\n"
    "  modelrunner compose --project-name demo up --model ai/smollm2 llm\n"
    "  modelrunner compose --project-name demo down llm"
)
def compose(
    context: Context,
    event: Annotated[
        Event, Argument(metavar="EVENT", help="up, down, or metadata for the parameters.")
    ],
    service: Annotated[
        str | None, Argument(metavar="[SERVICE]", help="Name of the service.")
    ] = None,
    project: Annotated[
        str, Option("--project-name", metavar="NAME", help="Name of the project.")
    ] = "default",
    models: Annotated[
        list[str] | None,
        Option("--model", metavar="REF", help="Model to serve; can be repeated."),
    ] = None,
    tokens: Annotated[
        int | None,
        Option("--context-size", min=1, metavar="N", help="Context size in tokens."),
    ] = None,
    flags: Annotated[
        str, Option("--runtime-flags", metavar="FLAGS", help="Flags of llama-server.")
    ] = "",
    host: Annotated[str | None, Option(metavar="ADDRESS", help="Address to listen on.")] = None,
    port: Annotated[int, Option(min=0, max=65535, metavar="N", help="Port to listen on.")] = 0,
) -> None:
    """Serve models for a service of Docker Compose; prints the messages of its protocol."""
    console = context.console
    if event is Event.METADATA:
        console.emit_line(_METADATA)
        return

    def tell(kind: str, message: str) -> None:
        console.emit_line({"type": kind, "message": message})
        console.flush()

    settings = context.settings
    provider = Provider(settings.state / "compose", settings.servers, context.environ)
    try:
        if service is None:
            raise UsageError("no service given", hint="name it: `compose up SERVICE`")
        if event is Event.DOWN:
            provider.down(project, service)
            return
        options = ["--port", str(port), *_settings(flags)]
        if tokens is not None:
            options += ["--context", str(tokens)]
        found = provider.up(
            project,
            service,
            models or [],
            options,
            lambda line: tell("info", line),
            host=host,
        )
    except ModelRunnerError as exc:
        tell("error", f"{exc.message}; {exc.hint}" if exc.hint else exc.message)
        raise
    for name, value in found.variables().items():
        tell("setenv", f"{name}={value}")


def _settings(flags: str) -> list[str]:
    try:
        found = settings_of(flags_of({"raw-runtime-flags": flags}))
    except RefusalError as exc:
        raise UsageError(
            exc.message, hint="use `runtime-flags` such as `--threads 4 --temp 0`"
        ) from exc
    return [word for key, value in found.items() for word in ("--set", f"{key}={value}")]
