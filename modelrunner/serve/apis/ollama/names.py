"""How Ollama's clients call models: without the default registry and its namespace."""

from collections.abc import Iterator

from modelrunner.oci.reference import (
    DEFAULT_NAMESPACE,
    DOCKER_HUB,
    Reference,
    match_id,
)
from modelrunner.serve.client.errors import RefusalError
from modelrunner.serve.models import Served
from modelrunner.serve.pool import ModelPool
from modelrunner.text import sanitize_line

_PREFIX = f"{DEFAULT_NAMESPACE}/"


def shown(reference: Reference) -> str:
    """A name as Ollama writes it: `smollm2:latest`, `hf.co/org/repo:Q4_K_M`."""
    text = reference.short
    if reference.registry != DOCKER_HUB or not text.startswith(_PREFIX):
        return text
    bare = text.removeprefix(_PREFIX)
    # what could be read as something else keeps it
    if "/" in bare or match_id(bare):
        return text
    return bare


def names_of(model: Served) -> Iterator[str]:
    """All names of a model, the one that it is served by first."""
    tagged = [reference for reference in model.references if reference.digest is None]
    tagged.sort(key=lambda reference: (reference.short != model.name, reference.short))
    return iter([shown(reference) for reference in tagged] or [model.name])


def found(pool: ModelPool, text: str) -> Served:
    """The model that a client means.

    Raises:
        RefusalError: The model is not served: 404, in the words that Ollama's clients expect.
        ModelRunnerError: It is stored and cannot be served.
    """
    model = pool.find(text)
    if model is None:
        raise not_found(text)
    return model


def not_found(text: str) -> RefusalError:
    """The refusal of a name that nothing has."""
    return RefusalError(404, f"model '{sanitize_line(text, 200)}' not found", "model_not_found")
