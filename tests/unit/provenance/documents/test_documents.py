"""Lists of parts and provenance are valid by the validators of those who made the forms."""

from dataclasses import replace

import pytest

from modelrunner.oci.digest import Digest
from modelrunner.oci.reference import Reference
from modelrunner.provenance.documents.cyclonedx import cyclonedx
from modelrunner.provenance.documents.facts import (
    Conversion,
    PackageFacts,
    PackageFile,
    Source,
)
from modelrunner.provenance.documents.licenses import license_reference, spdx_license
from modelrunner.provenance.documents.slsa import slsa
from modelrunner.provenance.documents.spdx import spdx
from tests.support.documents import cyclonedx_faults, slsa_faults, spdx_faults

A, B, C = (Digest(letter * 64) for letter in "abc")
PLAIN = PackageFacts(
    Reference.parse("registry.example.com/team/m:1"),
    A,
    "2026-01-02T03:04:05Z",
    (PackageFile("m.gguf", B, 1000, "weights"), PackageFile("LICENSE", C, 5, "license")),
)
HUB = Source("https://huggingface.co/Org/Repo", commit="f" * 40)
BASE = Source("registry.example.com/team/base:1", B)
STEPS = (
    Conversion("convert_hf_to_gguf 0.1", (B, C)),
    Conversion("llama-quantize b9000", (A,), "Q4_K_M"),
)
ALL = {
    "plain": PLAIN,
    "local": replace(PLAIN, name=Reference.parse("local/m:1")),
    "by digest": replace(PLAIN, name=Reference.parse(f"registry.example.com/team/m@{A}")),
    "known license": replace(PLAIN, license="apache-2.0", license_text="text"),
    "other license": replace(PLAIN, license="Llama 3.1 (Community) & more!"),
    "text alone": replace(PLAIN, license_text="You may.\n"),
    "all": replace(
        PLAIN,
        title="Tiny",
        license="mit",
        architecture="llama",
        parameters="13K",
        quantization="Q4_K_M",
        context_length=2048,
        format="gguf",
        source=HUB,
        steps=STEPS,
        settings={"temperature": 0.5},
    ),
    "base": replace(PLAIN, source=BASE),
    "unnamed base": replace(PLAIN, source=Source(None, B)),
}


@pytest.mark.parametrize("facts", ALL.values(), ids=ALL)
def test_every_package_has_valid_documents(facts: PackageFacts) -> None:
    assert spdx_faults(spdx(facts)) == []
    assert cyclonedx_faults(cyclonedx(facts)) == []
    assert slsa_faults(slsa(facts)) == []


def test_the_validators_find_faults() -> None:
    assert spdx_faults({**spdx(PLAIN), "documentNamespace": "no uri"})
    assert cyclonedx_faults({**cyclonedx(PLAIN), "serialNumber": "no urn"})


def test_a_conversion_names_what_went_in_and_what_was_between() -> None:
    found = slsa(ALL["all"])

    assert found["buildDefinition"] == {
        "buildType": "urn:modelrunner:package:v1",
        "externalParameters": {
            "name": "registry.example.com/team/m:1",
            "steps": [
                {"tool": "convert_hf_to_gguf 0.1"},
                {"tool": "llama-quantize b9000", "option": "Q4_K_M"},
            ],
            "settings": {"temperature": 0.5},
        },
        "internalParameters": {},
        "resolvedDependencies": [
            {
                "uri": f"pkg:huggingface/org/repo@{'f' * 40}",
                "digest": {"gitCommit": "f" * 40},
            },
            {"digest": {"sha256": B.hex}},
            {"digest": {"sha256": C.hex}},
            {"name": "LICENSE", "digest": {"sha256": C.hex}},
        ],
    }
    assert found["runDetails"]["byproducts"] == [{"digest": {"sha256": A.hex}}]


def test_a_base_is_an_ancestor() -> None:
    (found,) = cyclonedx(ALL["base"])["metadata"]["component"]["pedigree"]["ancestors"]

    assert found["hashes"] == [{"alg": "SHA-256", "content": B.hex}]
    assert found["purl"] == (
        f"pkg:oci/base@sha256%3A{B.hex}?repository_url=registry.example.com/team/base&tag=1"
    )
    related = spdx(ALL["base"])["relationships"]
    assert {
        "spdxElementId": "SPDXRef-Model",
        "relationshipType": "GENERATED_FROM",
        "relatedSpdxElement": "SPDXRef-Source",
    } in related


@pytest.mark.parametrize(
    ("said", "known"),
    [
        ("apache-2.0", "Apache-2.0"),
        (" MIT ", "MIT"),
        ("cc-by-nc-4.0", "CC-BY-NC-4.0"),
        ("gpl-3.0", None),
        ("llama3.1", None),
        (None, None),
    ],
)
def test_licenses_of_the_list_are_known_by_the_words_of_makers(
    said: str | None, known: str | None
) -> None:
    assert spdx_license(said) == known


def test_other_licenses_get_a_name_of_their_own() -> None:
    assert license_reference("Llama 3.1 (Community) & more!") == (
        "LicenseRef-Llama-3.1-Community-more"
    )
    assert license_reference("\x1b" * 500) == "LicenseRef-model"


def test_every_license_of_the_table_is_one_of_the_list() -> None:
    from modelrunner.provenance.documents import licenses

    files = tuple(PackageFile(name, B, 1, "weights") for name in (*licenses._KNOWN, "No-Such-1.0"))
    document = spdx(replace(PLAIN, files=files))
    for package, file in zip(document["packages"][1:], files, strict=True):
        package["licenseDeclared"] = file.name

    (fault,) = spdx_faults(document)

    assert "No-Such-1.0" in fault
