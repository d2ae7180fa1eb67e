"""Documents of packages, compared with what the makers of their forms validate them by.

What is imported for that takes a second: it is left to the tests that call this.
"""

import json
import warnings
from collections.abc import Mapping
from typing import Any


def spdx_faults(document: Mapping[str, Any]) -> list[str]:
    """What is wrong with an SPDX document: nothing, of a valid one."""
    with warnings.catch_warnings():
        # of what these packages use, not of them
        warnings.simplefilter("ignore")
        from spdx_tools.spdx.parser.jsonlikedict.json_like_dict_parser import JsonLikeDictParser
        from spdx_tools.spdx.validation.document_validator import validate_full_spdx_document

        parsed = JsonLikeDictParser().parse(dict(document))
        return [str(each.validation_message) for each in validate_full_spdx_document(parsed)]


def cyclonedx_faults(document: Mapping[str, Any]) -> list[str]:
    """What is wrong with a CycloneDX document, by the schema of version 1.6."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from cyclonedx.schema import SchemaVersion
        from cyclonedx.validation.json import JsonStrictValidator

        found = JsonStrictValidator(SchemaVersion.V1_6).validate_str(json.dumps(document))
        return [] if found is None else [str(found)]


def slsa_faults(predicate: Mapping[str, Any]) -> list[str]:
    """What SLSA's specification asks for, and a predicate lacks; there is no schema of it."""
    built, run = predicate["buildDefinition"], predicate["runDetails"]
    faults = [key for key in ("buildType", "externalParameters") if not built.get(key)]
    faults += [] if ":" in run["builder"]["id"] else ["builder.id is no URI"]
    for each in built["resolvedDependencies"]:
        if not any(each.get(key) for key in ("uri", "digest", "content")):
            faults.append(f"{each} says nothing of what it is")
    return faults
