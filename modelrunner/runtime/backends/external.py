"""A runtime that runs already: the URL of any OpenAI-compatible server. Nothing is started."""

import time
from pathlib import Path
from urllib.parse import urlsplit

from modelrunner.errors import RuntimeFailedError, UsageError
from modelrunner.runtime.base import Ability, Availability, LaunchSpec, Progress, Server, unheard
from modelrunner.runtime.child import probe
from modelrunner.text import sanitize_line

_PATIENCE_S = 10.0
_TICK_S = 0.2
_PROBE_S = 5.0
_OK = 200
_KEY_WANTED = (401, 403)


class ExternalServer(Server):
    """Somebody else's server: used, not ended.

    Args:
        base_url: With the path that `/chat/completions` is under, mostly `/v1`.
        api_key: What it wants to see; empty where it wants none.
    """

    name = "url"

    def __init__(self, base_url: str, api_key: str) -> None:
        self._base_url = base_url
        self.api_key = api_key

    @property
    def base_url(self) -> str:
        """Where it speaks OpenAI HTTP."""
        return self._base_url

    @property
    def pid(self) -> None:
        """None: the process is not ours."""
        return None

    def wait_until_ready(self, deadline_s: float, on_progress: Progress = unheard) -> None:
        """Return when it lists its models; a server that is not there is not waited for long."""
        end = time.monotonic() + min(deadline_s, _PATIENCE_S)
        while True:
            answer = self._models()
            if answer is not None and answer.status == _OK:
                return
            if answer is not None and answer.status in _KEY_WANTED:
                raise RuntimeFailedError(
                    f"{self.base_url} rejected the API key", hint="use the API key of that server"
                )
            if time.monotonic() > end:
                said = f"returned HTTP {answer.status}" if answer else "does not answer"
                raise RuntimeFailedError(
                    f"{self.base_url} {said}",
                    hint="check that it is running and that the URL ends in /v1",
                )
            on_progress(None)
            time.sleep(_TICK_S)

    def alive(self) -> bool:
        """Whether it answers."""
        return self._models() is not None

    def stop(self) -> None:
        """Nothing: it was there before us."""

    def chat_template(self) -> str | None:
        """Return its chat template, as llama-server shows it; None where it shows none."""
        root = self._base_url.removesuffix("/v1")
        answer = probe.get(f"{root}/props", api_key=self.api_key, timeout_s=_PROBE_S)
        body = answer.body if answer is not None and answer.status == _OK else None
        template = body.get("chat_template") if isinstance(body, dict) else None
        return template if isinstance(template, str) and template else None

    def _models(self) -> probe.Answer | None:
        return probe.get(f"{self.base_url}/models", api_key=self.api_key, timeout_s=_PROBE_S)


class ExternalRuntime:
    """Uses the server behind a URL, whatever model it serves.

    Raises:
        UsageError: The text is not an HTTP URL, or holds a password.
    """

    name = "url"
    external = True
    # it may be able to, and its requests are passed on; how it is started is its own
    abilities = frozenset(
        {
            Ability.TOOLS,
            Ability.SCHEMA,
            Ability.PROJECTOR,
            Ability.EMBEDDING,
            Ability.PARALLEL,
            Ability.LIMITS_THOUGHTS,
            Ability.TEMPLATE_FIELDS,
        }
    )

    def __init__(self, url: str, api_key: str = "") -> None:
        self._base_url = _base_url(url)
        self._api_key = api_key

    def availability(self) -> Availability:
        """Yes: whether it answers shows when it is used."""
        return Availability(self.name, available=True, detail=self._base_url)

    def version(self) -> None:
        """None: such a server does not say."""
        return

    def build(self) -> None:
        """Return None: it may be another one each time."""
        return

    def image(self) -> None:
        """Return None: only its machine knows."""
        return

    def device_query(self) -> None:
        """Return None: its devices are those of its machine."""
        return

    def start(self, spec: LaunchSpec, log: Path) -> ExternalServer:  # noqa: ARG002 - not ours to say
        """The server as it is: it follows its own spec, and keeps its own log."""
        return ExternalServer(self._base_url, self._api_key)


def _base_url(url: str) -> str:
    shown = sanitize_line(url.rpartition("@")[2], 200)
    not_one = UsageError(
        f"{shown}: invalid server URL", hint="write it like http://127.0.0.1:8080/v1"
    )
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise not_one from error
    if parts.scheme not in {"http", "https"} or not parts.hostname or port == 0:
        raise not_one
    if parts.username is not None or parts.query or parts.fragment:
        raise UsageError(
            f"{shown}: a server URL must not have a user, query or fragment",
            hint="give the API key with --api-key or MODELRUNNER_API_KEY",
        )
    path = parts.path.rstrip("/") or "/v1"
    return f"{parts.scheme}://{parts.netloc}{path}"
