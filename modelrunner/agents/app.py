"""What is known of an app: its program, how it is installed, and how it finds a model.

An app's own configuration stays as it is: an app gets variables, arguments and files in a directory
that is gone after it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

KEY_VARIABLE = "MODELRUNNER_LAUNCH_KEY"
"""The variable with the key, for apps that are told in which variable it is."""

PATIENCE_S = 3600
"""Seconds that an app waits for an answer: a long prompt may take minutes on a CPU."""

_SHORTEST_ANSWER, _LONGEST_ANSWER = 1024, 16384


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """A model as an app reaches it.

    Attributes:
        url: The address of the gateway, without a path.
        key: The API key.
        model: The name of the model in requests.
        context: Tokens of one conversation, as the model runs.
        images: Whether the model takes images.
        thinks: Whether the model thinks before it answers.
    """

    url: str
    key: str = field(repr=False)
    model: str
    context: int
    images: bool = False
    thinks: bool = False

    @property
    def openai(self) -> str:
        """The address of OpenAI's API."""
        return f"{self.url}/v1"

    @property
    def answer(self) -> int:
        """Tokens that are kept free for one answer."""
        return min(max(self.context // 8, _SHORTEST_ANSWER), _LONGEST_ANSWER)


@dataclass(frozen=True, slots=True)
class Place:
    """Where an app is started.

    Attributes:
        folder: A private directory, removed after the app.
        data: A directory of the app's own data, which stays.
        arguments: What the user wants passed on.
        environ: The environment.
        servers: MCP servers, as files name them: by name, with `command` or `url`.
    """

    folder: Path
    data: Path
    arguments: tuple[str, ...] = ()
    environ: Mapping[str, str] = field(default_factory=dict)
    servers: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Setup:
    """How an app is started.

    Attributes:
        command: The program and its arguments.
        environment: Variables to set.
        removed: Variables that would lead it elsewhere.
        files: Files in the private directory, by name.
    """

    command: tuple[str, ...]
    environment: Mapping[str, str]
    removed: tuple[str, ...] = ()
    files: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class App:
    """An app that `launch` knows.

    Attributes:
        name: What it is called on the command line.
        title: What people call it.
        program: Its executable; empty where the arguments name one.
        install: The command that installs it.
        setup: Returns how it is started.
        prompt: Tokens that it sends before the first word of the user, as measured; 0 for those
            that send what was typed, or were not measured.
        agent: Whether it works by calling tools.
        mcp: Whether it can be given MCP servers without a change of its configuration.
        elsewhere: Where installers put the executable, below the home directory.
    """

    name: str
    title: str
    program: str
    install: str
    setup: Callable[[Endpoint, Place], Setup]
    prompt: int = 0
    agent: bool = True
    mcp: bool = False
    elsewhere: tuple[str, ...] = ()
