"""Manifests for Kubernetes: a Deployment, and a Service.

The model is pulled by an init container, or is the image that a volume mounts.
"""

from collections.abc import Mapping
from pathlib import PurePosixPath

from modelrunner.oci.modelcar.layer import FOLDER as IN_IMAGE
from modelrunner.operations.export import pulling, yaml_text
from modelrunner.operations.export.plan import FOLDER, INSIDE, MIB, NOBODY, ExportPlan
from modelrunner.operations.export.yaml_text import Value

MOUNTED = PurePosixPath("/mnt/model")
"""Where the image of a model is mounted: one may not be mounted at a directory that it has itself,
and parts of it only in later versions of Kubernetes."""

_PULLED = (
    "Each pod pulls the model again: use a PersistentVolumeClaim instead of emptyDir to keep it."
)
_VOLUME = (
    "The model is an image volume: a node pulls it once, for all pods. Kubernetes 1.31 to 1.34 "
    "need the feature gate ImageVolume for it."
)
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
    how = plan.notes("Start: kubectl apply -f FILE", volume_note(plan) or _PULLED)
    text = f"{yaml_text.document(deployment, how)}---\n{yaml_text.document(service)}"
    return {"kubernetes.yaml": text}


def volume_note(plan: ExportPlan) -> str | None:
    """What a cluster needs for a volume that is an image; None where there is none."""
    return None if plan.volume is None else _VOLUME


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
    """The spec of a pod that downloads or mounts the model, and serves it.

    Args:
        plan: The model.
        container: What the container that serves is called.
    """
    models: dict[str, Value] = {"name": "models", "emptyDir": {}}
    before: dict[str, Value] = {}
    if plan.volume is None:
        before = {"initContainers": [_puller(plan)]}
    else:
        models = {
            "name": "models",
            "image": {"reference": plan.volume, "pullPolicy": "IfNotPresent"},
        }
    return {
        **HARDENED_POD,
        **before,
        "containers": [_server(plan, container)],
        "volumes": [models, {"name": "tmp", "emptyDir": {}}],
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
    folder = FOLDER if plan.volume is None else MOUNTED / IN_IMAGE
    line = plan.arguments(folder, "0.0.0.0", INSIDE)  # noqa: S104 - of its own
    return {
        "name": name,
        "image": plan.image,
        "args": [literal(word) for word in line],
        "env": variables(plan.environment()),
        "ports": [{"name": "http", "containerPort": INSIDE, "protocol": "TCP"}],
        "resources": resources(plan.request, plan.limit),
        "securityContext": HARDENED,
        "volumeMounts": [
            {
                "name": "models",
                "mountPath": str(FOLDER if plan.volume is None else MOUNTED),
                "readOnly": True,
            },
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
