"""What schemas say of documents: ours, in `docs/schemas`, and those of Kubernetes.

Their packages make a grammar of addresses when they are imported. That takes a second, and every
worker collects all tests: it is left to those that hold something against a schema.
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import jsonschema

_FOLDER = Path(__file__).parents[2] / "docs" / "schemas"
_KUBERNETES = "1.34"


def validator(name: str) -> "jsonschema.Draft202012Validator":
    """What checks documents by one of our schemas, which is valid itself."""
    from jsonschema import Draft202012Validator

    schema = json.loads((_FOLDER / f"{name}.schema.json").read_text())
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)


def is_valid(name: str, document: object) -> None:
    """Fails where a document is not what one of our schemas says."""
    validator(name).validate(document)


def is_of_kubernetes(document: object) -> None:
    """Fails where an object is not one of Kubernetes, or has a field that is none of its."""
    import kubernetes_validate

    kubernetes_validate.validate(document, _KUBERNETES, strict=True)


def kubernetes_refuses(document: object) -> bool:
    """Whether an object is not one of Kubernetes."""
    import kubernetes_validate

    try:
        is_of_kubernetes(document)
    except kubernetes_validate.ValidationError:
        return True
    return False
