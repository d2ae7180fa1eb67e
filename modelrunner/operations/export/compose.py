"""A Compose file: one service downloads the model and ends, another serves it.

Nothing is built, so that it works with every builder and with none. A named volume belongs to root
where the image has no such directory: a third service gives it to nobody, and ends first.
"""

from modelrunner.operations.export import pulling, yaml_text
from modelrunner.operations.export.plan import FOLDER, INSIDE, NOBODY, ExportPlan
from modelrunner.operations.export.yaml_text import Value

_USER = f"{NOBODY}:{NOBODY}"
_HARDENED: dict[str, Value] = {
    "user": _USER,
    "read_only": True,
    "cap_drop": ["ALL"],
    "security_opt": ["no-new-privileges:true"],
}
_VOLUME: dict[str, Value] = {"type": "volume", "source": "models", "target": str(FOLDER)}


def files(plan: ExportPlan) -> dict[str, str]:
    """The files by their names."""
    value: dict[str, Value] = {
        "name": plan.name,
        "services": {"volume": _volume(plan), "model": _model(plan), "server": _server(plan)},
        "volumes": {"models": {}},
    }
    how = plan.notes("Start: docker compose up --detach --wait")
    return {"compose.yaml": yaml_text.document(value, how)}


def _model(plan: ExportPlan) -> dict[str, Value]:
    return {
        "#": "pulls the model by digest, verifies it, and exits; existing files are kept",
        "image": pulling.image(plan),
        "depends_on": {"volume": {"condition": "service_completed_successfully"}},
        "entrypoint": [_literal(word) for word in pulling.command(plan)],
        "environment": {name: _literal(each) for name, each in pulling.environment().items()},
        **_HARDENED,
        "##": "pip installs into this directory, and Python loads from it",
        "tmpfs": ["/tmp:exec,mode=1777"],  # noqa: S108 - the container's own
        "volumes": [_VOLUME],
        "restart": "on-failure:3",
    }


def _volume(plan: ExportPlan) -> dict[str, Value]:
    return {
        "#": "a new volume belongs to root: give it to the user that pulls",
        "image": pulling.image(plan),
        "entrypoint": ["chown", _USER, str(FOLDER)],
        **_HARDENED,
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
        "command": [_literal(word) for word in line],
        "environment": {name: _literal(each) for name, each in plan.environment().items()},
        **_HARDENED,
        "tmpfs": ["/tmp"],  # noqa: S108 - the container's own
        "volumes": [
            {"type": "volume", "source": "models", "target": str(FOLDER), "read_only": True}
        ],
        "#": "no swap: a model that is swapped out is too slow",
        "mem_limit": plan.limit,
        "memswap_limit": plan.limit,
        "pids_limit": 1024,
        "ports": [
            {
                "target": INSIDE,
                "published": str(plan.port),
                "host_ip": "127.0.0.1",
                "protocol": "tcp",
            }
        ],
        "healthcheck": {
            "test": ["CMD", "curl", "-fsS", f"http://127.0.0.1:{INSIDE}/health"],
            "interval": "10s",
            "timeout": "5s",
            "retries": 3,
            "##": "reading large weights from a slow disk takes minutes",
            "start_period": "10m",
            "start_interval": "2s",
        },
        "restart": "unless-stopped",
    }


def _literal(text: str) -> str:
    """Text in which Compose looks up no variable."""
    return text.replace("$", "$$")
