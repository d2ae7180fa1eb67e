"""Manifests for Kubernetes: a Deployment, whose init container pulls, and a Service."""

from modelrunner.operations.export import pulling, yaml_text
from modelrunner.operations.export.plan import FOLDER, INSIDE, MIB, NOBODY, ExportPlan
from modelrunner.operations.export.yaml_text import Value

_TMP = "/tmp"  # noqa: S108 - the container's own


def files(plan: ExportPlan) -> dict[str, str]:
    """The files by their names."""
    labels: Value = {"app.kubernetes.io/name": plan.name}
    deployment: dict[str, Value] = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": plan.name, "labels": labels},
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": pod(plan, container="server")},
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
    how = plan.notes(
        "Start: kubectl apply -f FILE",
        "Each pod pulls the model again: use a PersistentVolumeClaim instead of emptyDir to "
        "keep it.",
    )
    text = f"{yaml_text.document(deployment, how)}---\n{yaml_text.document(service)}"
    return {"kubernetes.yaml": text}


def pod(plan: ExportPlan, *, container: str) -> dict[str, Value]:
    """The spec of a pod that downloads the model and serves it.

    Args:
        plan: The model.
        container: What the container that serves is called.
    """
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
        "initContainers": [_puller(plan)],
        "containers": [_server(plan, container)],
        "volumes": [{"name": "models", "emptyDir": {}}, {"name": "tmp", "emptyDir": {}}],
    }


def _puller(plan: ExportPlan) -> dict[str, Value]:
    return {
        "name": "model",
        "image": pulling.image(plan),
        "#": "pulls the model by digest and verifies it",
        "command": [_literal(word) for word in pulling.command(plan)],
        "env": _variables(pulling.environment()),
        "securityContext": _hardened(),
        "volumeMounts": [
            {"name": "models", "mountPath": str(FOLDER)},
            {"name": "tmp", "mountPath": _TMP},
        ],
    }


def _server(plan: ExportPlan, name: str) -> dict[str, Value]:
    line = plan.arguments(FOLDER, "0.0.0.0", INSIDE)  # noqa: S104 - of its own
    return {
        "name": name,
        "image": plan.image,
        "args": [_literal(word) for word in line],
        "env": _variables(plan.environment()),
        "ports": [{"name": "http", "containerPort": INSIDE, "protocol": "TCP"}],
        "resources": {
            "requests": {"memory": _quantity(plan.request)},
            "limits": {"memory": _quantity(plan.limit)},
        },
        "securityContext": _hardened(),
        "volumeMounts": [
            {"name": "models", "mountPath": str(FOLDER), "readOnly": True},
            {"name": "tmp", "mountPath": _TMP},
        ],
        "#": "reading large weights takes minutes: up to half an hour is allowed",
        "startupProbe": {**_probe(), "periodSeconds": 5, "failureThreshold": 360},
        "readinessProbe": {**_probe(), "periodSeconds": 10},
        "livenessProbe": {**_probe(), "periodSeconds": 30, "timeoutSeconds": 10},
    }


def _probe() -> dict[str, Value]:
    return {"httpGet": {"path": "/health", "port": "http"}}


def _hardened() -> dict[str, Value]:
    return {
        "runAsNonRoot": True,
        "readOnlyRootFilesystem": True,
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
    }


def _variables(found: dict[str, str]) -> list[Value]:
    return [{"name": name, "value": _literal(value)} for name, value in found.items()]


def _quantity(size: int) -> str:
    return f"{size // MIB}Mi"


def _literal(text: str) -> str:
    """Text in which Kubernetes looks up no `$(VARIABLE)`."""
    return text.replace("$", "$$")
