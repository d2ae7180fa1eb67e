"""A list of a package's parts as SPDX 2.3, in JSON.

Files are packages with the purpose `FILE`: an SPDX file needs a SHA-1, and weights are known by
their SHA-256. Source: the SPDX specification 2.3.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from modelrunner.oci.digest import Digest
from modelrunner.provenance.documents.facts import TOOL, PackageFacts
from modelrunner.provenance.documents.licenses import license_reference, spdx_license
from modelrunner.version import __version__

MEDIA_TYPE = "application/spdx+json"
_DOCUMENT, _MODEL, _SOURCE = "SPDXRef-DOCUMENT", "SPDXRef-Model", "SPDXRef-Source"
_UNKNOWN = "NOASSERTION"
_LICENSE_ROLE = "license"


def spdx(facts: PackageFacts) -> Mapping[str, Any]:
    """Return the document."""
    packages = list(_packages(facts))
    described: dict[str, Any] = {
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": _DOCUMENT,
        "name": str(facts.name),
        "documentNamespace": f"https://spdx.org/spdxdocs/{TOOL}-{facts.digest.hex}",
        "creationInfo": {"created": facts.created, "creators": [f"Tool: {TOOL}-{__version__}"]},
        "packages": packages,
        "relationships": [
            _related(_DOCUMENT, "DESCRIBES", _MODEL),
            *(
                _related(_MODEL, "CONTAINS", package["SPDXID"])
                for package in packages
                if package.get("primaryPackagePurpose") == "FILE"
            ),
            *(
                _related(_MODEL, "GENERATED_FROM", package["SPDXID"])
                for package in packages
                if package["SPDXID"].startswith(_SOURCE)
            ),
        ],
    }
    texts = _texts(facts)
    return described | ({"hasExtractedLicensingInfos": texts} if texts else {})


def _packages(facts: PackageFacts) -> Iterator[dict[str, Any]]:
    model = _package(_MODEL, facts.repository, facts.digest)
    model |= {
        "versionInfo": facts.version,
        "licenseDeclared": _license(facts),
        "comment": "; ".join(f"{key}: {value}" for key, value in _said(facts).items()),
    }
    if facts.purl is not None:
        model["externalRefs"] = [_purl(facts.purl)]
    yield {key: value for key, value in model.items() if value != ""}
    for number, file in enumerate(facts.files, 1):
        yield {
            **_package(f"SPDXRef-File-{number}", file.name, file.digest),
            "packageFileName": file.name,
            "primaryPackagePurpose": "FILE",
            "licenseDeclared": _UNKNOWN if file.role == _LICENSE_ROLE else _license(facts),
            "comment": file.role,
        }
    source = facts.source
    if source is not None:
        found = _package(_SOURCE, source.name, source.digest)
        found["downloadLocation"] = source.url if "://" in (source.url or "") else _UNKNOWN
        if source.commit is not None:
            found["versionInfo"] = source.commit
        if source.purl is not None:
            found["externalRefs"] = [_purl(source.purl)]
        yield found
    for number, digest in enumerate(facts.made_of, 1):
        yield _package(f"{_SOURCE}-File-{number}", f"weights {digest.short}", digest)


def _package(identifier: str, name: str, digest: Digest | None) -> dict[str, Any]:
    found: dict[str, Any] = {
        "SPDXID": identifier,
        "name": name,
        "downloadLocation": _UNKNOWN,
        "filesAnalyzed": False,
        "licenseConcluded": _UNKNOWN,
        "licenseDeclared": _UNKNOWN,
        "copyrightText": _UNKNOWN,
    }
    if digest is not None:
        found["checksums"] = [{"algorithm": "SHA256", "checksumValue": digest.hex}]
    return found


def _said(facts: PackageFacts) -> Mapping[str, str]:
    said = {"architecture": facts.architecture, "title": facts.title}
    return {key: value for key, value in said.items() if value} | dict(facts.properties)


def _license(facts: PackageFacts) -> str:
    found = spdx_license(facts.license)
    if found is not None:
        return found
    if facts.license is None and facts.license_text is None:
        return _UNKNOWN
    return license_reference(facts.license)


def _texts(facts: PackageFacts) -> list[Mapping[str, str]]:
    name = _license(facts)
    if not name.startswith("LicenseRef-"):
        return []
    text = facts.license_text or f"The model says of its license: {facts.license}"
    return [{"licenseId": name, "name": facts.license or "model license", "extractedText": text}]


def _purl(locator: str) -> Mapping[str, str]:
    return {
        "referenceCategory": "PACKAGE-MANAGER",
        "referenceType": "purl",
        "referenceLocator": locator,
    }


def _related(one: str, kind: str, other: str) -> Mapping[str, str]:
    return {"spdxElementId": one, "relationshipType": kind, "relatedSpdxElement": other}
