"""The media types that models come in.

Docker's family is known by the type of its config, the CNCF ModelPack family by its config and
artifact type. Sources: docker/model-runner `pkg/distribution/types/config.go`, the CNCF
model-spec `specs-go/v1/mediatype.go`, the OCI image spec.
"""

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_IMAGE_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"
KITOPS_PREFIX = "application/vnd.kitops.modelkit."
OCI_EMPTY = "application/vnd.oci.empty.v1+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_MANIFEST_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_IMAGE_CONFIG = "application/vnd.docker.container.image.v1+json"
HELM_CONFIG = "application/vnd.cncf.helm.config.v1+json"

IMAGE_CONFIGS = (OCI_IMAGE_CONFIG, DOCKER_IMAGE_CONFIG)
MANIFESTS = (OCI_MANIFEST, DOCKER_MANIFEST)
INDEXES = (OCI_INDEX, DOCKER_MANIFEST_LIST)

DOCKER_CONFIG_V01 = "application/vnd.docker.ai.model.config.v0.1+json"
DOCKER_CONFIG_V02 = "application/vnd.docker.ai.model.config.v0.2+json"
DOCKER_CONFIG_PREFIX = "application/vnd.docker.ai.model.config."
DOCKER_PREFIX = "application/vnd.docker.ai."
DOCKER_GGUF = "application/vnd.docker.ai.gguf.v3"
DOCKER_SAFETENSORS = "application/vnd.docker.ai.safetensors"
DOCKER_DDUF = "application/vnd.docker.ai.dduf"
DOCKER_VLLM_CONFIG = "application/vnd.docker.ai.vllm.config.tar"
DOCKER_DIRECTORY = "application/vnd.docker.ai.dir.tar"
DOCKER_LICENSE = "application/vnd.docker.ai.license"
DOCKER_PROJECTOR = "application/vnd.docker.ai.mmproj"
DOCKER_PROJECTOR_SPEC = "application/vnd.docker.ai.gguf.v3.mmproj"
DOCKER_TEMPLATE = "application/vnd.docker.ai.chat.template.jinja"
DOCKER_FILE = "application/vnd.docker.ai.model.file"

MODELPACK_ARTIFACT = "application/vnd.cncf.model.manifest.v1+json"
MODELPACK_CONFIG = "application/vnd.cncf.model.config.v1+json"
MODELPACK_CONFIG_PREFIX = "application/vnd.cncf.model.config."
MODELPACK_PREFIX = "application/vnd.cncf.model."
CNAI_PREFIX = "application/vnd.cnai.model."
"""Of the format that preceded ModelPack; older versions of `modctl` write it."""

CNAI_CONFIG = "application/vnd.cnai.model.config.v1+json"
CNAI_WEIGHT = "application/vnd.cnai.model.weight.v1.raw"
CNAI_ARTIFACT = "application/vnd.cnai.model.manifest.v1+json"
MODELPACK_WEIGHT = "application/vnd.cncf.model.weight.v1.raw"
MODELPACK_WEIGHT_CONFIG = "application/vnd.cncf.model.weight.config.v1.raw"
MODELPACK_CODE = "application/vnd.cncf.model.code.v1.raw"
MODELPACK_DOC = "application/vnd.cncf.model.doc.v1.raw"

OLLAMA_PREFIX = "application/vnd.ollama.image."

FILES_ARTIFACT = "application/vnd.modelrunner.files.v1"
"""The type of an artifact of files as they are."""

ANNOTATION_PATH = "org.cncf.model.filepath"
ANNOTATION_FILE = "org.cncf.model.file.metadata+json"
ANNOTATION_CNAI_PATH = "org.cnai.model.filepath"
ANNOTATION_UNTESTED = "org.cncf.model.file.mediatype.untested"
ANNOTATION_ALIAS = "io.github.modelrunner.alias-of"
"""In an index: the name that this one is another spelling of."""
ANNOTATION_UNPACK = "io.deis.oras.content.unpack"
"""Of a layer that `oras push` made of a directory: "true"."""
ANNOTATION_TITLE = "org.opencontainers.image.title"
ANNOTATION_CREATED = "org.opencontainers.image.created"
ANNOTATION_REFERENCE = "org.opencontainers.image.ref.name"
ANNOTATION_CONTAINERD_NAME = "io.containerd.image.name"
ANNOTATION_BASE_NAME = "org.opencontainers.image.base.name"
ANNOTATION_BASE_DIGEST = "org.opencontainers.image.base.digest"
ANNOTATION_SOURCE = "org.opencontainers.image.source"
ANNOTATION_REVISION = "org.opencontainers.image.revision"
ANNOTATION_PUBLISHED = "vnd.modelrunner.published"
MODEL_LABELS = "vnd.modelrunner.model."
"""How the labels begin by which an image of ours says what model is in it."""

ANNOTATION_KIND = "vnd.modelrunner.kind"
"""In an index: what an entry is where it is not a model."""
ANNOTATION_REFERRERS = "vnd.modelrunner.referrers"
"""In an index: the digest of the list of what refers to an entry."""
RUNTIME = "runtime"
ANNOTATION_ATTESTATION = "vnd.docker.reference.type"

HEADER_ARRIVING = "Modelrunner-Arriving"
"""The header by which a share says that it is still downloading the blob that it sends."""
