"""Every command: its name, its module, and its summary in `--help`.

A command's module is imported when the command is used, so that `list` does not wait for what
`run` needs. The one-line summaries are repeated in the table for the same reason; a test compares
them with the commands' own.
"""

import sys

from modelrunner.cli.parser.declared import Declaration
from modelrunner.errors import UsageError
from modelrunner.frozen import frozen
from modelrunner.text import closest, did_you_mean, sanitize_line


@frozen
class Entry:
    """One command; `place` is module and declaration in `modelrunner.cli.commands`."""

    place: str
    summary: str
    hidden: bool = False


COMPLETING = "_MODELRUNNER_COMPLETE"
"""The variable by which the script of a shell requests completions."""

COMMANDS = {
    "run": Entry("run:run", "Chat with a model; pull it if needed."),
    "pull": Entry("pull:pull", "Download models into the local store."),
    "outdated": Entry("outdated:outdated", "List local models whose tags have moved."),
    "update": Entry("outdated:update", "Update local models to what their tags point to now."),
    "list": Entry("list:list_models", "List local models."),
    "ls": Entry("list:list_models", "List local models.", hidden=True),
    "inspect": Entry("inspect:inspect", "Print everything about one model, as JSON."),
    "path": Entry("path:path", "Print the path of a model's weights file."),
    "rm": Entry("rm:rm", "Remove models."),
    "tag": Entry("tag:tag", "Add a name (tag) to a model."),
    "df": Entry("df:df", "Show the disk usage of the local store."),
    "prune": Entry("prune:prune", "Remove files that no model needs."),
    "verify": Entry("verify:verify", "Verify local models against their digests."),
    "package": Entry(
        "package:package_model", "Package a file, directory or model as an OCI artifact."
    ),
    "import": Entry(
        "import_models:import_models", "Import GGUF files, or models of other programs."
    ),
    "export": Entry("export:export_model", "Write a deployment file (Compose, Kubernetes, ...)."),
    "push": Entry("push:push", "Push a model to its registry."),
    "sign": Entry("sign:sign_model", "Sign a model with a key."),
    "attach": Entry("attach:attach", "Attach a file to a model: an SBOM, a license, a card."),
    "discover": Entry(
        "discover:discover_referrers", "List what refers to a model: signatures, SBOMs, ..."
    ),
    "copy": Entry("copy:copy_model", "Copy models between registries and archives."),
    "trust": Entry("trust:trust", "Show, change and test whose signatures models must have."),
    "mirror": Entry("mirror:mirror", "Copy all models of a lock or a list to a registry."),
    "delete": Entry("delete:delete_model", "Delete a tag or a manifest from a registry."),
    "save": Entry("save:save", "Save models to an archive."),
    "load": Entry("load:load", "Load models from an archive."),
    "serve": Entry("serve:serve_models", "Serve models through an OpenAI-compatible API."),
    "compose": Entry(
        "compose:compose", "Serve models for a service of Docker Compose.", hidden=True
    ),
    "docker-model": Entry(
        "docker_model:docker_model", "Answer Docker Compose as its plugin does.", hidden=True
    ),
    "launch": Entry("launch:launch", "Start a coding agent or app on a local model."),
    "ps": Entry("ps:ps", "List served models."),
    "stop": Entry("stop:stop", "Stop serving models."),
    "logs": Entry("logs:logs", "Print the log of a server."),
    "bench": Entry("bench:bench", "Measure how fast a model reads prompts and generates."),
    "share": Entry("share:share", "Serve the local store as a registry."),
    "estimate": Entry("estimate:estimate", "Estimate how much memory a model needs."),
    "devices": Entry("devices:show_devices", "List the GPUs and memory of this machine."),
    "runtimes": Entry("runtimes:runtimes", "List, install and update runtimes."),
    "card": Entry("card:card", "Show a model card."),
    "cards": Entry("card:cards", "List the built-in catalog of models."),
    "search": Entry("search:search", "Find models on Docker Hub and the Hugging Face Hub."),
    "tags": Entry("inspect:tags", "List the tags of a repository."),
    "lock": Entry("lock:lock", "Pin the models of modelrunner.toml in modelrunner.lock."),
    "cache-key": Entry(
        "cache_key:cache_key", "Print a CI cache key that changes exactly with the lock."
    ),
    "login": Entry("login:login", "Log in to a registry."),
    "logout": Entry("login:logout", "Log out of a registry."),
    "configure": Entry("configure:configure", "Save settings for a model."),
    "config": Entry("version:config", "Show every setting and where its value comes from."),
    "doctor": Entry("doctor:doctor", "Diagnose problems and suggest fixes."),
    "skill": Entry("skill:skill", "Print a SKILL.md for coding agents."),
    "completion": Entry("completion:completion", "Print the completion script of a shell."),
    "help": Entry("help:show_help", "Show help for modelrunner or one command."),
    "version": Entry("version:version", "Print the version of modelrunner."),
}

GROUPS = {
    "Models": (
        *("pull", "list", "inspect", "path", "tag", "rm", "outdated", "update"),
        *("search", "tags", "cards", "card"),
    ),
    "Running": ("run", "serve", "launch", "ps", "stop", "logs", "estimate", "bench", "configure"),
    "CI": ("lock", "verify", "cache-key"),
    "Moving": (
        *("import", "package", "push", "save", "load", "export", "share"),
        *("copy", "mirror", "delete"),
    ),
    "Trust": ("sign", "attach", "discover", "trust"),
    "Machine": ("devices", "runtimes", "df", "prune", "doctor", "config", "login", "logout"),
    "Help": ("help", "completion", "skill", "version"),
}
"""The commands by groups of `--help`; hidden ones are in none."""

ALIASES = {
    "chat": "run",
    "images": "list",
    "remove": "rm",
    "rmi": "rm",
    "show": "inspect",
    "status": "ps",
    "unload": "stop",
}
"""Aliases: names that Docker Model Runner, Docker and Ollama have for these commands."""

_ELSEWHERE = {
    "build": "package",
    "catalog": "cards",
    "catalogue": "cards",
    "convert": "package",
    "cp": "tag",
    "create": "package",
    "env": "config",
    "examples": "help",
    "find": "search",
    "info": "inspect",
    "install": "pull",
    "install-runner": "runtimes",
    "kill": "stop",
    "models": "list",
    "restart-runner": "serve",
    "settings": "config",
    "start": "serve",
    "start-runner": "serve",
    "stats": "ps",
    "stop-runner": "stop --all",
    "system": "doctor",
    "top": "ps",
    "unset": "configure",
    "upgrade": "update",
}
"""Commands of other programs, and the nearest command of this one."""


def load(name: str) -> Declaration | None:
    """Import a command, by its name or an alias; None if it does not exist."""
    entry = COMMANDS.get(ALIASES.get(name, name))
    if entry is None:
        return None
    module, _, attribute = entry.place.partition(":")
    name = f"modelrunner.cli.commands.{module}"
    # what `importlib` would do, which takes as long to load as a module of ours
    __import__(name)
    found: Declaration = getattr(sys.modules[name], attribute)
    return found


def unknown(wanted: str) -> UsageError:
    """Return the error for a command that does not exist; the hint names similar ones."""
    shown = [name for name, entry in COMMANDS.items() if not entry.hidden]
    if wanted in _ELSEWHERE:
        near = [_ELSEWHERE[wanted]]
    else:
        alike = closest(wanted, [*shown, *ALIASES])
        near = list(dict.fromkeys(ALIASES.get(name, name) for name in alike))
    return UsageError(
        f"unknown command `{sanitize_line(wanted, 100)}`",
        hint=did_you_mean([f"modelrunner {name}" for name in near])
        or "`modelrunner help` lists the commands",
    )
