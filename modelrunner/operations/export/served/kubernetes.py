"""A Deployment and a Service for Kubernetes, with the key of a Secret that is there."""

from modelrunner.operations.export import yaml_text
from modelrunner.operations.export.plan import MIB, NOBODY
from modelrunner.operations.export.served.plan import HEALTH, HOME, INSIDE, ServedPlan, environment
from modelrunner.operations.export.yaml_text import Value

_SECRETS = "/run/secrets/modelrunner"
_ITEM = "api-key"
_TMP = "/tmp"  # noqa: S108 - the container's own


def files(plan: ServedPlan) -> dict[str, str]:
    """The files by their names."""
    labels: dict[str, Value] = {"app.kubernetes.io/name": plan.name}
    deployment: dict[str, Value] = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": plan.name, "labels": labels},
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": _pod(plan)},
        },
    }
    service: dict[str, Value] = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": plan.name, "labels": labels},
        "spec": {
            "selector": labels,
            "ports": [{"name": "http", "port": plan.port, "targetPort": "http"}],
        },
    }
    secret = secret_of(plan)
    how = plan.notes(
        f"Key: kubectl create secret generic {secret}"
        f' --from-literal={_ITEM}="$(openssl rand -hex 32)"',
        "Start: kubectl apply -f FILE",
        "Each pod pulls the models again: use a PersistentVolumeClaim instead of emptyDir to keep"
        " them.",
    )
    monitor = yaml_text.document(_monitor(plan, labels))
    comments = [
        "With the Prometheus Operator, this makes it read the metrics:",
        *(f"  {line}" for line in monitor.splitlines()),
    ]
    text = f"{yaml_text.document(deployment, how)}---\n{yaml_text.document(service, comments)}"
    return {"kubernetes.yaml": text}


def secret_of(plan: ServedPlan) -> str:
    """The name of the Secret with the API key."""
    return f"{plan.name}-api-key"


def _monitor(plan: ServedPlan, labels: dict[str, Value]) -> dict[str, Value]:
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
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": NOBODY,
            "runAsGroup": NOBODY,
            "fsGroup": NOBODY,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
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
    variables: list[Value] = [
        {"name": name, "value": value} for name, value in environment(HOME).items()
    ]
    return {
        "name": "server",
        "image": plan.container_image,
        "command": [_literal(word) for word in plan.container(f"{_SECRETS}/{_ITEM}")],
        "env": variables,
        "ports": [{"name": "http", "containerPort": INSIDE, "protocol": "TCP"}],
        "resources": {
            "requests": {"memory": f"{plan.request // MIB}Mi"},
            "limits": {"memory": f"{plan.limit // MIB}Mi"},
        },
        "securityContext": {
            "runAsNonRoot": True,
            "readOnlyRootFilesystem": True,
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [
            {"name": "models", "mountPath": HOME},
            {"name": "tmp", "mountPath": _TMP},
            {"name": "api-key", "mountPath": _SECRETS, "readOnly": True},
        ],
        "#": "models are downloaded first: up to an hour is allowed",
        "startupProbe": {**_probe(), "periodSeconds": 5, "failureThreshold": 720},
        "readinessProbe": {**_probe(), "periodSeconds": 10},
        "livenessProbe": {**_probe(), "periodSeconds": 30, "timeoutSeconds": 10},
    }


def _probe() -> dict[str, Value]:
    return {"httpGet": {"path": HEALTH, "port": "http"}}


def _literal(text: str) -> str:
    """Text in which Kubernetes looks up no `$(VARIABLE)`."""
    return text.replace("$", "$$")
