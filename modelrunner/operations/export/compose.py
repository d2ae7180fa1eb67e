"""A Compose file: one service downloads the model and ends, another serves it.

Nothing is built, so that it works with every builder and with none. A named volume belongs to root
where the image has no such directory: a third service gives it to nobody, and ends first.
"""

from modelrunner.operations.export import pulling, yaml_text
from modelrunner.operations.export.plan import FOLDER, INSIDE, NOBODY, ExportPlan
from modelrunner.operations.export.yaml_text import Value

START = "Start: docker compose up --detach --wait"
USER = f"{NOBODY}:{NOBODY}"
HARDENED: dict[str, Value] = {
    "user": USER,
    "read_only": True,
    "cap_drop": ["ALL"],
    "security_opt": ["no-new-privileges:true"],
}
"""What takes from a container all that it does not need."""

INSTALLS: dict[str, Value] = {
    "##": "pip installs into this directory, and Python loads from it",
    "tmpfs": ["/tmp:exec,mode=1777"],  # noqa: S108 - the container's own
}
"""What a container needs that installs this program."""

_VOLUME: dict[str, Value] = {"type": "volume", "source": "models", "target": str(FOLDER)}


def files(plan: ExportPlan) -> dict[str, str]:
    """The files by their names."""
    value: dict[str, Value] = {
        "name": plan.name,
        "services": {"volume": _volume(plan), "model": _model(plan), "server": _server(plan)},
        "volumes": {"models": {}},
    }
    how = plan.notes(START)
    return {"compose.yaml": yaml_text.document(value, how)}


def _model(plan: ExportPlan) -> dict[str, Value]:
    return {
        "#": "pulls the model by digest, verifies it, and exits; existing files are kept",
        "image": pulling.image(plan),
        "depends_on": {"volume": {"condition": "service_completed_successfully"}},
        "entrypoint": [literal(word) for word in pulling.command(plan)],
        "environment": {name: literal(each) for name, each in pulling.environment().items()},
        **HARDENED,
        **INSTALLS,
        "volumes": [_VOLUME],
        "restart": "on-failure:3",
    }


def _volume(plan: ExportPlan) -> dict[str, Value]:
    return {
        "#": "a new volume belongs to root: give it to the user that pulls",
        "image": pulling.image(plan),
        "entrypoint": ["chown", USER, str(FOLDER)],
        **HARDENED,
        "user": "0:0",
        "cap_add": ["CHOWN"],
        "network_mode": "none",
        "volumes": [_VOLUME],
    }


def _server(plan: ExportPlan) -> dict[str, Value]:
    line = plan.arguments(FOLDER, "0.0.0.0", INSIDE)  # noqa: S104 - of its own
    return {
        "image": plan.image,
        "depends_on": {"model": {"condition": "service_completed_successfully"}},
        "command": [literal(word) for word in line],
        "environment": {name: literal(each) for name, each in plan.environment().items()},
        **HARDENED,
        "tmpfs": ["/tmp"],  # noqa: S108 - the container's own
        "volumes": [
            {"type": "volume", "source": "models", "target": str(FOLDER), "read_only": True}
        ],
        **limits(plan.limit),
        "ports": ports(plan.port, INSIDE),
        "healthcheck": {
            **healthcheck("curl", "-fsS", f"http://127.0.0.1:{INSIDE}/health"),
            "##": "reading large weights from a slow disk takes minutes",
            "start_period": "10m",
            "start_interval": "2s",
        },
        "restart": "unless-stopped",
    }


def limits(memory: int) -> dict[str, Value]:
    """What a service may use.

    Args:
        memory: Bytes.
    """
    return {
        "#": "no swap: a model that is swapped out is too slow",
        "mem_limit": memory,
        "memswap_limit": memory,
        "pids_limit": 1024,
    }


def ports(port: int, inside: int) -> list[Value]:
    """The port of a service, on loopback of the host."""
    published: dict[str, Value] = {"target": inside, "published": str(port), "host_ip": "127.0.0.1"}
    return [{**published, "protocol": "tcp"}]


def healthcheck(*command: str) -> dict[str, Value]:
    """A command that says whether a service answers, and how often it is asked."""
    return {"test": ["CMD", *command], "interval": "10s", "timeout": "5s", "retries": 3}


def literal(text: str) -> str:
    """Text in which Compose looks up no variable."""
    return text.replace("$", "$$")
