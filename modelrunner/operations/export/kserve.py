"""An InferenceService of KServe: a predictor of one's own, as no runtime of KServe is llama.cpp.

`storageUri: oci://` is for images of containers that have a directory `/models`. What is pulled
here is an artifact, which has no such layers: an init container downloads it, as with a Deployment.
An image that has the model is mounted as a volume, without KServe's help: its `oci://` would start
a shell in the image, which has none.
"""

from modelrunner.operations.export import kubernetes, yaml_text
from modelrunner.operations.export.plan import ExportPlan
from modelrunner.operations.export.yaml_text import Value


def files(plan: ExportPlan) -> dict[str, str]:
    """The files by their names."""
    value: dict[str, Value] = {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {
            "name": plan.name,
            "annotations": {
                "#": (
                    "Knative needs the feature kubernetes.podspec-init-containers for init "
                    "containers"
                    if plan.volume is None
                    else "Knative has no image volumes"
                ),
                "serving.kserve.io/deploymentMode": "RawDeployment",
            },
        },
        "spec": {
            "predictor": {
                "minReplicas": 1,
                **kubernetes.pod(plan, container="kserve-container"),
            }
        },
    }
    how = plan.notes(
        "Start: kubectl apply -f FILE",
        kubernetes.volume_note(plan)
        or "The model is an OCI artifact, not an image: `storageUri: oci://` cannot mount it, "
        "so an init container pulls it.",
    )
    return {"inference-service.yaml": yaml_text.document(value, how)}
