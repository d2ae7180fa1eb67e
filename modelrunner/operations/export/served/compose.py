"""A Compose file: one service prepares the volumes and ends, one serves.

A secret is a file of the host with the rights that it has there, so the user that serves could
rarely read it: the service that prepares, which may, gives that user a copy in a volume.
"""

from modelrunner.operations.export import yaml_text
from modelrunner.operations.export.compose import (
    HARDENED,
    INSTALLS,
    START,
    USER,
    healthcheck,
    limits,
    literal,
    ports,
)
from modelrunner.operations.export.plan import NOBODY
from modelrunner.operations.export.served.plan import (
    ENVIRONMENT,
    HEALTH,
    HOME,
    INSIDE,
    ServedPlan,
)
from modelrunner.operations.export.yaml_text import Value

_KEYS = "/keys"
_KEY = f"{_KEYS}/api-key"
_PREPARE = (
    f"chown {USER} {HOME} {_KEYS}"
    f" && install -m 0400 -o {NOBODY} -g {NOBODY} /run/secrets/api-key {_KEY}"
)
_ASK = f"import urllib.request; urllib.request.urlopen('http://127.0.0.1:{INSIDE}{HEALTH}')"


def files(plan: ServedPlan) -> dict[str, str]:
    """The files by their names."""
    value: dict[str, Value] = {
        "name": plan.name,
        "services": {"prepare": _prepare(plan), "server": _server(plan)},
        "volumes": {"models": {}, "keys": {}},
        "secrets": {"api-key": {"file": literal(plan.key_file)}},
    }
    how = plan.notes(
        f"Key: write one to {plan.key_file}, such as `openssl rand -hex 32`; only its owner needs"
        " to be able to read it.",
        START,
    )
    return {"compose.yaml": yaml_text.document(value, how)}


def _prepare(plan: ServedPlan) -> dict[str, Value]:
    return {
        "#": "new volumes belong to root: the user that serves gets them, and a copy of the key",
        "image": plan.container_image,
        "entrypoint": ["sh", "-ec", _PREPARE],
        **HARDENED,
        "user": "0:0",
        "cap_add": ["CHOWN", "DAC_OVERRIDE", "FOWNER"],
        "network_mode": "none",
        "secrets": ["api-key"],
        "volumes": [_volume("models", HOME), _volume("keys", _KEYS)],
    }


def _server(plan: ServedPlan) -> dict[str, Value]:
    return {
        "image": plan.container_image,
        "depends_on": {"prepare": {"condition": "service_completed_successfully"}},
        "entrypoint": [literal(word) for word in plan.container(_KEY)],
        "environment": dict(ENVIRONMENT),
        **HARDENED,
        **INSTALLS,
        "volumes": [_volume("models", HOME), {**_volume("keys", _KEYS), "read_only": True}],
        **limits(plan.limit),
        "ports": ports(plan.port, INSIDE),
        "healthcheck": {
            **healthcheck("python3", "-c", _ASK),
            "###": "models are downloaded first",
            "start_period": "1h",
            "start_interval": "2s",
        },
        "stop_grace_period": "15s",
        "restart": "unless-stopped",
    }


def _volume(name: str, target: str) -> dict[str, Value]:
    return {"type": "volume", "source": name, "target": target}
