"""A server that is our child: wait until it is ready, say why it is not, end it.

How one finds out that it is ready is all that differs between runtimes: `AnnouncedServer` is for
the programs that are ours; for the one that is not see `modelrunner.runtime.backends.llama_server`.
"""

import time
from abc import abstractmethod
from pathlib import Path

from modelrunner.errors import RuntimeFailedError
from modelrunner.runtime.base import LaunchSpec, Progress, Server, unheard
from modelrunner.runtime.child import failure, handshake, probe
from modelrunner.runtime.child.ports import port_in_use
from modelrunner.runtime.child.process import Child, Command

TICK_S = 0.1
PROBE_S = 5.0


class ChildServer(Server):
    """A child process that serves one model, started with the object."""

    def __init__(self, name: str, spec: LaunchSpec, command: Command, log: Path) -> None:
        self.name = name
        self.api_key = spec.api_key
        self.expert_layers = spec.cpu_moe_layers or 0
        self.log: Path = log
        self._spec = spec
        self._url: str | None = None
        self._child = Child(command, log)

    @property
    def base_url(self) -> str:
        """Where it speaks OpenAI HTTP, once it is ready."""
        if self._url is None:
            raise RuntimeFailedError(f"{self.name} is not ready yet", log=str(self.log))
        return f"{self._url}/v1"

    @property
    def pid(self) -> int:
        """The process whose end is the server's end."""
        return self._child.pid

    def wait_until_ready(self, deadline_s: float, on_progress: Progress = unheard) -> None:
        """Return when the model answers; a server that does not get there is stopped."""
        try:
            self._wait(deadline_s, on_progress)
        except BaseException:
            self.stop()
            raise

    def alive(self) -> bool:
        """Whether the process runs."""
        return self._child.alive()

    def stop(self) -> None:
        """End the server and everything that it started."""
        self._child.stop()

    def _wait(self, deadline_s: float, on_progress: Progress) -> None:
        end = time.monotonic() + deadline_s
        while self._url is None and not self._became_ready():
            if not self._child.alive():
                self._ended()
            elif time.monotonic() > end:
                raise RuntimeFailedError(
                    f"{self.name} did not load {self._spec.name} within {deadline_s:g} s",
                    hint=f"see the log: {self.log}",
                    log=str(self.log),
                )
            on_progress(None)

    @abstractmethod
    def _became_ready(self) -> bool:
        """Take about `TICK_S` to find out; where it is ready, settle `_url` and `context`."""

    def _ended(self) -> None:
        """Say why the child ended before it was ready."""
        if failure.failed_to_bind(self.log):
            raise port_in_use(self._spec.port)
        raise failure.runtime_failure(
            self.name,
            self._spec.name,
            self.log,
            self._child.exit_code or 0,
            self._spec.raw_flags,
        )


class AnnouncedServer(ChildServer):
    """A child that says where it listens; see `modelrunner.runtime.child.handshake`."""

    def _became_ready(self) -> bool:
        line = self._child.listen(TICK_S)
        if line is None:
            return False
        announcement = handshake.parse_line(line)
        self._url = announcement.url
        self.context = announcement.context or context_of(announcement.url, self.api_key)
        return True


def context_of(url: str, api_key: str) -> int | None:
    """Tokens of one conversation, as llama.cpp's server has them."""
    answer = probe.get(f"{url}/props", api_key=api_key, timeout_s=PROBE_S)
    return answer.number("default_generation_settings", "n_ctx") if answer else None
