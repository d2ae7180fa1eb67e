"""What documents of a package say that other models' annotations have brought."""

import json
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from modelrunner.oci.reference import Reference
from modelrunner.operations.documents import facts_of
from modelrunner.store.store import Store
from tests.support.artifacts import docker_artifact
from tests.support.stores import put

MODEL = docker_artifact(b"GGUF")


@pytest.mark.parametrize(
    ("url", "is_named"),
    [
        ("https://huggingface.co/Org/Model-1.5_x", True),
        ("http://models.example.com:8080/a%20b/~c@main", True),
        ("https://models.example.com", True),
        ("https://me:hunter2@models.example.com/x", False),
        ("https://token@models.example.com/x", False),
        ("https://models.example.com/%zz", False),
        ("https://models.example.com/a b", False),
        ("https://models..example.com/", False),
        ("https://models.example.com/x\n", False),
        ("https://models.example.com:port/", False),
        ("https://models.example.com/" + "x" * 500, False),
        ("file:///home/me/model", False),
    ],
)
def test_a_source_is_named_by_an_address_that_every_form_takes(
    store: Store, url: str, is_named: bool
) -> None:
    annotations = {"org.opencontainers.image.source": url}
    raw = json.dumps({**json.loads(MODEL.manifest), "annotations": annotations}).encode()
    model = put(store, replace(MODEL, manifest=raw), "local/m:1")

    name, moment = Reference.parse("local/m:1"), datetime(2026, 1, 1, tzinfo=UTC)
    found = facts_of(store, model, name, model.digest, moment).source

    assert (found and found.url) == (url if is_named else None)
