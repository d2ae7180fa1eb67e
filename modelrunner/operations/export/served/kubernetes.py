"""A Deployment and a Service for Kubernetes, with the key of a Secret that is there."""

from modelrunner.operations.export import yaml_text
from modelrunner.operations.export.kubernetes import (
    HARDENED,
    HARDENED_POD,
    TMP,
    deployment_of,
    labels_of,
    literal,
    probes,
    resources,
    service_of,
    variables,
)
from modelrunner.operations.export.served.plan import ENVIRONMENT, HOME, INSIDE, ServedPlan
from modelrunner.operations.export.yaml_text import Value

_SECRETS = "/run/secrets/modelrunner"
_ITEM = "api-key"


def files(plan: ServedPlan) -> dict[str, str]:
    """The files by their names."""
    deployment = deployment_of(plan.name, _pod(plan))
    service = service_of(plan.name, plan.port)
    secret = secret_of(plan)
    how = plan.notes(
        f"Key: kubectl create secret generic {secret}"
        f' --from-literal={_ITEM}="$(openssl rand -hex 32)"',
        "Start: kubectl apply -f FILE",
        "Each pod pulls the models again: use a PersistentVolumeClaim instead of emptyDir to keep"
        " them.",
    )
    monitor = yaml_text.document(_monitor(plan))
    comments = [
        "With the Prometheus Operator, this makes it read the metrics:",
        *(f"  {line}" for line in monitor.splitlines()),
    ]
    text = f"{yaml_text.document(deployment, how)}---\n{yaml_text.document(service, comments)}"
    return {"kubernetes.yaml": text}


def secret_of(plan: ServedPlan) -> str:
    """The name of the Secret with the API key."""
    return f"{plan.name}-api-key"


def _monitor(plan: ServedPlan) -> dict[str, Value]:
    labels = labels_of(plan.name)
    key: dict[str, Value] = {"name": secret_of(plan), "key": _ITEM}
    return {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "ServiceMonitor",
        "metadata": {"name": plan.name, "labels": labels},
        "spec": {
            "selector": {"matchLabels": labels},
            "endpoints": [
                {
                    "port": "http",
                    "path": "/metrics",
                    "authorization": {"type": "Bearer", "credentials": key},
                }
            ],
        },
    }


def _pod(plan: ServedPlan) -> dict[str, Value]:
    return {
        **HARDENED_POD,
        "containers": [_server(plan)],
        "volumes": [
            {"name": "models", "emptyDir": {}},
            {"name": "tmp", "emptyDir": {}},
            {
                "name": "api-key",
                "#": "440, in decimal: for the group that the pod runs as",
                "secret": {"secretName": secret_of(plan), "defaultMode": 0o440},
            },
        ],
    }


def _server(plan: ServedPlan) -> dict[str, Value]:
    return {
        "name": "server",
        "image": plan.container_image,
        "command": [literal(word) for word in plan.container(f"{_SECRETS}/{_ITEM}")],
        "env": variables(ENVIRONMENT),
        "ports": [{"name": "http", "containerPort": INSIDE, "protocol": "TCP"}],
        "resources": resources(plan.request, plan.limit),
        "securityContext": HARDENED,
        "volumeMounts": [
            {"name": "models", "mountPath": HOME},
            {"name": "tmp", "mountPath": TMP},
            {"name": "api-key", "mountPath": _SECRETS, "readOnly": True},
        ],
        "#": "models are downloaded first: up to an hour is allowed",
        **probes(720),
    }
