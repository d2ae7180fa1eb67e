"""Manifests for Kubernetes: a Deployment, whose init container pulls, and a Service."""

from collections.abc import Mapping

from modelrunner.operations.export import pulling, yaml_text
from modelrunner.operations.export.plan import FOLDER, INSIDE, MIB, NOBODY, ExportPlan
from modelrunner.operations.export.yaml_text import Value

TMP = "/tmp"  # noqa: S108 - the container's own
HARDENED_POD: dict[str, Value] = {
    "automountServiceAccountToken": False,
    "enableServiceLinks": False,
    "securityContext": {
        "runAsNonRoot": True,
        "runAsUser": NOBODY,
        "runAsGroup": NOBODY,
        "fsGroup": NOBODY,
        "seccompProfile": {"type": "RuntimeDefault"},
    },
}
HARDENED: dict[str, Value] = {
    "runAsNonRoot": True,
    "readOnlyRootFilesystem": True,
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
}
"""What takes from a container all that it does not need."""


def files(plan: ExportPlan) -> dict[str, str]:
    """The files by their names."""
    deployment = deployment_of(plan.name, pod(plan, container="server"))
    service = service_of(plan.name, plan.port)
    how = plan.notes(
        "Start: kubectl apply -f FILE",
        "Each pod pulls the model again: use a PersistentVolumeClaim instead of emptyDir to "
        "keep it.",
    )
    text = f"{yaml_text.document(deployment, how)}---\n{yaml_text.document(service)}"
    return {"kubernetes.yaml": text}


def labels_of(name: str) -> dict[str, Value]:
    """The labels by which a deployment, its service, and who watches them find each other."""
    return {"app.kubernetes.io/name": name}


def deployment_of(name: str, spec: dict[str, Value]) -> dict[str, Value]:
    """A Deployment of one pod."""
    labels = labels_of(name)
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "labels": labels},
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": spec},
        },
    }


def service_of(name: str, port: int) -> dict[str, Value]:
    """A Service at a port of the cluster."""
    labels = labels_of(name)
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "labels": labels},
        "spec": {
            "selector": labels,
            "ports": [{"name": "http", "port": port, "targetPort": "http"}],
        },
    }


def pod(plan: ExportPlan, *, container: str) -> dict[str, Value]:
    """The spec of a pod that downloads the model and serves it.

    Args:
        plan: The model.
        container: What the container that serves is called.
    """
    return {
        **HARDENED_POD,
        "initContainers": [_puller(plan)],
        "containers": [_server(plan, container)],
        "volumes": [{"name": "models", "emptyDir": {}}, {"name": "tmp", "emptyDir": {}}],
    }


def _puller(plan: ExportPlan) -> dict[str, Value]:
    return {
        "name": "model",
        "image": pulling.image(plan),
        "#": "pulls the model by digest and verifies it",
        "command": [literal(word) for word in pulling.command(plan)],
        "env": variables(pulling.environment()),
        "securityContext": HARDENED,
        "volumeMounts": [
            {"name": "models", "mountPath": str(FOLDER)},
            {"name": "tmp", "mountPath": TMP},
        ],
    }


def _server(plan: ExportPlan, name: str) -> dict[str, Value]:
    line = plan.arguments(FOLDER, "0.0.0.0", INSIDE)  # noqa: S104 - of its own
    return {
        "name": name,
        "image": plan.image,
        "args": [literal(word) for word in line],
        "env": variables(plan.environment()),
        "ports": [{"name": "http", "containerPort": INSIDE, "protocol": "TCP"}],
        "resources": resources(plan.request, plan.limit),
        "securityContext": HARDENED,
        "volumeMounts": [
            {"name": "models", "mountPath": str(FOLDER), "readOnly": True},
            {"name": "tmp", "mountPath": TMP},
        ],
        "#": "reading large weights takes minutes: up to half an hour is allowed",
        **probes(360),
    }


def probes(failures: int) -> dict[str, Value]:
    """How a container is asked whether it answers.

    Args:
        failures: How often it may not answer at its start, where it is asked every five seconds.
    """
    probe: dict[str, Value] = {"httpGet": {"path": "/health", "port": "http"}}
    return {
        "startupProbe": {**probe, "periodSeconds": 5, "failureThreshold": failures},
        "readinessProbe": {**probe, "periodSeconds": 10},
        "livenessProbe": {**probe, "periodSeconds": 30, "timeoutSeconds": 10},
    }


def resources(request: int, limit: int) -> dict[str, Value]:
    """The memory of a container.

    Args:
        request: Bytes to set aside.
        limit: Bytes that are not to be exceeded.
    """
    return {
        "requests": {"memory": f"{request // MIB}Mi"},
        "limits": {"memory": f"{limit // MIB}Mi"},
    }


def variables(found: Mapping[str, str]) -> list[Value]:
    """The variables of a container."""
    return [{"name": name, "value": literal(value)} for name, value in found.items()]


def literal(text: str) -> str:
    """Text in which Kubernetes looks up no `$(VARIABLE)`."""
    return text.replace("$", "$$")
