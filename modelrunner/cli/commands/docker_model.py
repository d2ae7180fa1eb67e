"""`docker-model`: this program as a plugin of Docker, for the `models:` of Compose files.

Compose calls `ls --json`, `pull`, `configure` and `status --json` of the plugin; all ask a server
that runs. `docker-model compose` is the command `compose`.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from http.client import HTTPException
from typing import Annotated, Any

from modelrunner.cli.context import Context, command
from modelrunner.cli.parser.declared import Argument, Option
from modelrunner.errors import RuntimeFailedError, UsageError
from modelrunner.operations.serve.keys import KEY_VARIABLE
from modelrunner.operations.serve.provider import url_for_containers
from modelrunner.runtime.child import probe
from modelrunner.serve.process.records import running
from modelrunner.text import sanitize_line
from modelrunner.version import __version__
from modelrunner.wire import parse_object

_HOST_VARIABLE = "MODEL_RUNNER_HOST"
_METADATA = {
    "SchemaVersion": "0.1.0",
    "Vendor": "modelrunner",
    # Compose passes flags of models to plugins of this version and newer ones
    "Version": "v1.0.6",
    "ShortDescription": f"Models of modelrunner {__version__}",
}
_ASK_S = 30.0
_PULL_S = 3600.0
_OK, _ACCEPTED, _NO_KEY = 200, 202, 401


@dataclass(frozen=True, slots=True)
class _Server:
    """The server that is asked.

    Attributes:
        url: Where it is for us.
        outward: Where it is for containers.
        key: Its API key; empty where it has none.
        fingerprint: What its certificate is known by.
    """

    url: str
    outward: str
    key: str = field(repr=False)
    fingerprint: str | None = None

    @classmethod
    def found(cls, context: Context) -> "_Server":
        """Return the server that the environment names, or one that runs.

        Raises:
            RuntimeFailedError: No server is running.
        """
        key = context.environ.get(KEY_VARIABLE, "")
        said = context.environ.get(_HOST_VARIABLE, "").rstrip("/")
        if said:
            url = said if "://" in said else f"http://{said}"
            return cls(url, url, key)
        records = running(context.settings.servers)
        if not records:
            raise RuntimeFailedError(
                "no server is running", hint="start one: `modelrunner serve --all --detach`"
            )
        record = records[0]
        return cls(record.local_url, url_for_containers(record.url), key, record.fingerprint)

    def get(self, path: str) -> Any:  # noqa: ANN401 - it is whatever the server says
        """Return the JSON at an address.

        Raises:
            RuntimeFailedError: The server refuses, or does not answer.
        """
        answer = probe.get(
            f"{self.url}{path}",
            api_key=self.key,
            timeout_s=_ASK_S,
            fingerprint=self.fingerprint,
        )
        if answer is None:
            raise self._silent()
        if answer.status == _NO_KEY:
            raise RuntimeFailedError(
                f"the server at {self.url} needs an API key",
                hint=f"put it into the environment variable {KEY_VARIABLE}",
            )
        if answer.status != _OK:
            raise RuntimeFailedError(
                f"{self.url}{path}: HTTP status {answer.status}", hint="`modelrunner logs` has more"
            )
        return answer.body

    def post(self, path: str, value: Mapping[str, object], timeout_s: float) -> Iterator[bytes]:
        """Post JSON, and yield the lines of the answer.

        Raises:
            RuntimeFailedError: The server refuses, or does not answer.
        """
        connection = probe.connection_to(self.url, timeout_s, self.fingerprint)
        headers = {"Content-Type": "application/json"}
        if self.key:
            headers["Authorization"] = f"Bearer {self.key}"
        try:
            connection.request("POST", path, json.dumps(value), headers)
            reply = connection.getresponse()
            if reply.status not in {_OK, _ACCEPTED}:
                said = sanitize_line(reply.read(64 * 1024).decode(errors="replace"))
                raise RuntimeFailedError(said, hint="`modelrunner logs` has more")
            yield from reply
        except (OSError, HTTPException) as exc:
            raise self._silent() from exc
        finally:
            connection.close()

    def _silent(self) -> RuntimeFailedError:
        return RuntimeFailedError(
            f"no response from the server at {self.url}",
            hint=f"check {_HOST_VARIABLE}, or start one: `modelrunner serve --all --detach`",
        )


@command(
    examples='  ln -s "$(command -v modelrunner)" ~/.docker/cli-plugins/docker-model\n'
    "  modelrunner serve --all --detach\n"
    "  docker compose up",
    rest="--flag",
)
def docker_model(
    context: Context,
    words: Annotated[
        list[str],
        Argument(metavar="ACTION [REF]", help="status, ls, pull REF or configure REF."),
    ],
    tokens: Annotated[
        int | None, Option("--context-size", metavar="N", help="Context size in tokens.")
    ] = None,
    flags: Annotated[
        list[str] | None,
        Option("--flag", metavar="FLAG", help="Flag of llama-server.", hidden=True),
    ] = None,
) -> None:
    """Answer Docker Compose as its plugin does: for the `models:` of a Compose file."""
    console = context.console
    match words:
        case ["docker-cli-plugin-metadata"]:
            console.emit_line(_METADATA)
        case ["status"]:
            server = _Server.found(context)
            console.emit_line(
                {
                    "running": True,
                    "backends": server.get("/engines/status"),
                    "kind": "modelrunner",
                    "endpoint": f"{server.outward}/v1/",
                    "endpointHost": f"{server.url}/v1/",
                }
            )
        case ["ls" | "list"]:
            models = _Server.found(context).get("/models")
            console.emit([{**model, "tags": _spellings(model["tags"])} for model in models])
        case ["pull", reference]:
            _pull(context, reference)
        case ["configure", reference]:
            asked: dict[str, object] = {"model": reference, "runtime-flags": list(flags or ())}
            if tokens is not None:
                asked["context-size"] = tokens
            for _line in _Server.found(context).post("/engines/_configure", asked, _ASK_S):
                pass
        case _:
            raise UsageError(
                f"docker model {words[0]}: unsupported",
                hint=f"use `modelrunner {words[0]}`, or install Docker's own plugin",
            )


def _spellings(names: Iterable[str]) -> list[str]:
    """Return names in every way that a Compose file may have them: it pulls what is not listed."""
    found = []
    for name in names:
        spelled = [name]
        for prefix in ("docker.io/", "ai/"):
            if spelled[-1].startswith(prefix):
                spelled.append(spelled[-1].removeprefix(prefix))
        found += spelled
        found += [each.removesuffix(":latest") for each in spelled if each.endswith(":latest")]
    return found


def _pull(context: Context, reference: str) -> None:
    for line in _Server.found(context).post("/models/create", {"from": reference}, _PULL_S):
        try:
            step = parse_object(line)
        except ValueError:
            continue
        message = sanitize_line(str(step.get("message", "")))
        if step.get("type") == "error":
            raise RuntimeFailedError(message, hint="`modelrunner logs` has more")
        context.console.print(message)
