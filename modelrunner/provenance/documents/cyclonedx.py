"""A list of a package's parts as CycloneDX 1.6, in JSON: a machine-learning model and its files.

Source: the CycloneDX specification 1.6, `bom-1.6.schema.json`.
"""

from collections.abc import Mapping
from typing import Any
from uuid import NAMESPACE_URL, uuid5

from modelrunner.oci.digest import Digest
from modelrunner.provenance.documents.facts import TOOL, PackageFacts, Source
from modelrunner.provenance.documents.licenses import spdx_license
from modelrunner.version import __version__

MEDIA_TYPE = "application/vnd.cyclonedx+json"
_MODEL = "machine-learning-model"


def cyclonedx(facts: PackageFacts) -> Mapping[str, Any]:
    """Return the document."""
    component: dict[str, Any] = {
        "type": _MODEL,
        "bom-ref": "model",
        "name": facts.repository,
        "version": facts.version,
        "hashes": _hashes(facts.digest),
    }
    if facts.title is not None:
        component["description"] = facts.title
    if facts.purl is not None:
        component["purl"] = facts.purl
    licenses = _licenses(facts)
    if licenses:
        component["licenses"] = licenses
    ancestors = _ancestors(facts)
    if ancestors:
        component["pedigree"] = {"ancestors": ancestors}
    component["modelCard"] = _card(facts)
    files = [
        {
            "type": "file",
            "bom-ref": f"file-{number}",
            "name": file.name,
            "hashes": _hashes(file.digest),
            "properties": [
                {"name": f"{TOOL}:role", "value": file.role},
                {"name": f"{TOOL}:size", "value": str(file.size)},
            ],
        }
        for number, file in enumerate(facts.files, 1)
    ]
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid5(NAMESPACE_URL, str(facts.digest))}",
        "version": 1,
        "metadata": {
            "timestamp": facts.created,
            "tools": {
                "components": [{"type": "application", "name": TOOL, "version": __version__}]
            },
            "component": component,
        },
        "components": files,
        "dependencies": [{"ref": "model", "dependsOn": [file["bom-ref"] for file in files]}],
    }


def _card(facts: PackageFacts) -> Mapping[str, Any]:
    found: dict[str, Any] = {}
    if facts.architecture is not None:
        found["modelParameters"] = {"modelArchitecture": facts.architecture}
    said = dict(facts.properties)
    said |= {f"converted_by_{number}": step.tool for number, step in enumerate(facts.steps, 1)}
    if said:
        found["properties"] = [
            {"name": f"{TOOL}:{key}", "value": value} for key, value in said.items()
        ]
    return found


def _licenses(facts: PackageFacts) -> list[Mapping[str, Any]]:
    known = spdx_license(facts.license)
    if known is not None:
        return [{"license": {"id": known}}]
    if facts.license is None and facts.license_text is None:
        return []
    found: dict[str, Any] = {"name": facts.license or "model license"}
    if facts.license_text is not None:
        found["text"] = {"contentType": "text/plain", "content": facts.license_text}
    return [{"license": found}]


def _ancestors(facts: PackageFacts) -> list[Mapping[str, Any]]:
    found = [] if facts.source is None else [_ancestor(facts.source)]
    files = [
        {"type": "file", "name": f"weights {digest.short}", "hashes": _hashes(digest)}
        for digest in facts.made_of
    ]
    return [*found, *files]


def _ancestor(source: Source) -> Mapping[str, Any]:
    found: dict[str, Any] = {"type": _MODEL, "name": source.name}
    if source.commit is not None:
        found["version"] = source.commit
    if source.digest is not None:
        found["hashes"] = _hashes(source.digest)
    if source.purl is not None:
        found["purl"] = source.purl
    if source.url is not None and "://" in source.url:
        found["externalReferences"] = [{"type": "distribution", "url": source.url}]
    return found


def _hashes(digest: Digest) -> list[Mapping[str, str]]:
    return [{"alg": "SHA-256", "content": digest.hex}]
