"""`modelrunner login` and `modelrunner logout`."""

import sys
from contextlib import closing
from typing import Annotated

from modelrunner.cli.context import Context, command
from modelrunner.cli.parser.declared import Argument, Option
from modelrunner.errors import ConfigError, UsageError
from modelrunner.frozen import replace
from modelrunner.oci.reference import DOCKER_HUB, Reference
from modelrunner.registry.credentials import Credential, OneCredential
from modelrunner.registry.login import LoginStore, check_login


@command(
    examples="  modelrunner login\n"
    "  echo $TOKEN | modelrunner login ghcr.io -u octocat --password-stdin"
)
def login(
    context: Context,
    registry: Annotated[str, Argument(metavar="[REGISTRY]")] = DOCKER_HUB,
    username: Annotated[
        str | None,
        Option("--username", "-u", metavar="NAME", help="User name (default: prompt for it)."),
    ] = None,
    password_stdin: Annotated[
        bool, Option("--password-stdin", help="Read the password or token from stdin.")
    ] = False,
) -> None:
    """Log in to a registry. The login is stored where Docker stores it."""
    name = _registry(registry)
    credential = _ask(username, password_stdin=password_stdin)
    context.require_network("login")
    places = replace(context.registries, credentials=OneCredential(name, credential), known={})
    with closing(places.sink_for(Reference(name, "login", None))) as endpoint:
        asked = check_login(endpoint)
    place = _logins(context).save(name, credential)
    if context.console.json:
        context.console.emit({"registry": name, "username": credential.username, "stored": place})
    else:
        context.console.say(f"logged in to {name}; stored in {place}")
    if not asked:
        context.console.warn(
            f"{name} does not ask for a login: user name and password were not checked"
        )


@command(examples="  modelrunner logout ghcr.io")
def logout(
    context: Context, registry: Annotated[str, Argument(metavar="[REGISTRY]")] = DOCKER_HUB
) -> None:
    """Log out of a registry: remove the stored login."""
    name = _registry(registry)
    known = _logins(context).forget(name)
    if context.console.json:
        context.console.emit({"registry": name, "was_logged_in": known})
    else:
        context.console.say(f"logged out of {name}" if known else f"{name}: not logged in")


def _registry(text: str) -> str:
    """Return the registry's name as references spell it."""
    host = (text.partition("://")[2] or text).rstrip("/").removesuffix("/v1")
    if "." not in host and ":" not in host and host != "localhost":
        raise UsageError(
            f"{text[:200]!r} is not a valid registry", hint="name its host, such as ghcr.io"
        )
    return Reference.parse(f"{host}/login/check").registry


def _ask(username: str | None, *, password_stdin: bool) -> Credential:
    terminal = sys.stdin.isatty()
    if password_stdin:
        if username is None:
            raise UsageError("--password-stdin needs --username", hint="add -u USER")
        password = sys.stdin.read().rstrip("\r\n")
    elif terminal:
        from getpass import getpass

        username = username or input("Username: ").strip()
        password = getpass("Password or token: ")
    else:
        raise UsageError(
            "cannot prompt for a password: stdin is not a terminal",
            hint="pipe the password in: modelrunner login REGISTRY -u USER --password-stdin",
        )
    if not username or not password:
        raise UsageError(
            "empty user name or password", hint="type both, or use -u USER --password-stdin"
        )
    return Credential(username=username, password=password)


def _logins(context: Context) -> LoginStore:
    config = context.settings.docker_config
    if config is None:
        raise ConfigError(
            "cannot store the login: no home directory", hint="set DOCKER_CONFIG to a directory"
        )
    return LoginStore(config)
