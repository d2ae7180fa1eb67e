"""How a package was made, as SLSA provenance 1.0.

`buildType` is `urn:modelrunner:package:v1`: files become an artifact, byte for byte, but for
weights that a step has converted. Source: https://slsa.dev/spec/v1.0/provenance.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from modelrunner.provenance.documents.facts import BUILDER, TOOL, PackageFacts
from modelrunner.version import __version__

PREDICATE_TYPE = "https://slsa.dev/provenance/v1"
BUILD_TYPE = "urn:modelrunner:package:v1"
_WEIGHTS = "weights"


def slsa(facts: PackageFacts) -> Mapping[str, Any]:
    """Return the predicate of the statement."""
    asked: dict[str, Any] = {"name": str(facts.name)}
    if facts.steps:
        asked["steps"] = [
            {"tool": step.tool} | ({} if step.option is None else {"option": step.option})
            for step in facts.steps
        ]
    if facts.settings:
        asked["settings"] = dict(facts.settings)
    # between two steps there is a file that is in no package
    between = [
        {"digest": {"sha256": digest.hex}} for step in facts.steps[1:] for digest in step.sources
    ]
    details: dict[str, Any] = {
        "builder": {"id": BUILDER, "version": {TOOL: __version__}},
        "metadata": {"finishedOn": facts.created},
    }
    if between:
        details["byproducts"] = between
    return {
        "buildDefinition": {
            "buildType": BUILD_TYPE,
            "externalParameters": asked,
            "internalParameters": {},
            "resolvedDependencies": list(_materials(facts)),
        },
        "runDetails": details,
    }


def _materials(facts: PackageFacts) -> Iterator[Mapping[str, Any]]:
    source = facts.source
    if source is not None:
        digests = {}
        if source.digest is not None:
            digests["sha256"] = source.digest.hex
        if source.commit is not None:
            digests["gitCommit"] = source.commit
        found = {"uri": source.purl or source.url, "digest": digests or None}
        yield {key: value for key, value in found.items() if value is not None}
    for digest in facts.made_of:
        yield {"digest": {"sha256": digest.hex}}
    for file in facts.files:
        if facts.steps and file.role == _WEIGHTS:
            # the product of the steps
            continue
        yield {"name": file.name, "digest": {"sha256": file.digest.hex}}
