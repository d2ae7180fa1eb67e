"""Which file of a repository a tag means, for the naming habits of real repositories."""

# ruff: noqa: E501 - one repository a line
import pytest

from modelrunner.errors import (
    ManifestNotFoundError,
    ModelRunnerError,
    UnsupportedArtifactError,
)
from modelrunner.huggingface.files import HubFile, choose, labels, quantizations
from modelrunner.huggingface.names import quantization_of
from modelrunner.oci.digest import Digest

NAME = "hf.co/Org/Repo-GGUF"


def files(*paths: str) -> list[HubFile]:
    return [HubFile(path, 1024, Digest.of(path.encode())) for path in paths]


def chosen(tag: str | None, *paths: str) -> str:
    return choose(files(*paths), tag, NAME).path


def projector(tag: str | None, *paths: str) -> str | None:
    found = choose(files(*paths), tag, NAME).projector
    return None if found is None else found.path


SIZES = ("7B/model-Q4_K_M.gguf", "13B/model-Q4_K_M.gguf")
DRAFT_BESIDE = (
    "Model-Q4_K_M.gguf",
    "Model-Q6_K.gguf",
    "mtp-Model-Q4_K_M.gguf",
    "mtp-Model-Q6_K.gguf",
    "imatrix.gguf",
)


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("Model-Q4_K_M.gguf", "Q4_K_M"),
        ("model-q4_k_m.gguf", "Q4_K_M"),
        ("Model.Q4_K_M.gguf", "Q4_K_M"),
        ("model_q4_k_m.gguf", "Q4_K_M"),
        ("Model-Q4_K_M-imat.gguf", "Q4_K_M"),
        ("Model-Q4_K_M-v2.gguf", "Q4_K_M"),
        ("Model-Q4_K_M_v2.gguf", "Q4_K_M"),
        ("Model.i1-Q4_K_M.gguf", "Q4_K_M"),
        ("Model-UD-Q4_K_XL.gguf", "UD-Q4_K_XL"),
        ("Model-UD_q4_k_xl.gguf", "UD-Q4_K_XL"),
        ("Model-fp16.gguf", "F16"),
        ("Model.FP32.gguf", "F32"),
        ("Model-bf16.gguf", "BF16"),
        ("Model-F16-Q8_0.gguf", "Q8_0"),
        ("Model-Q8_0-f16.gguf", "Q8_0"),
        ("Model-Q4_0_4_4.gguf", "Q4_0_4_4"),
        ("Model-IQ4_XS.gguf", "IQ4_XS"),
        ("Model-IQ4_KSS.gguf", "IQ4_KSS"),
        ("Model-IQ2_K_R4.gguf", "IQ2_K_R4"),
        ("Model-TQ1_0.gguf", "TQ1_0"),
        ("Model-MXFP4.gguf", "MXFP4"),
        ("Model-MXFP4_MOE.gguf", "MXFP4_MOE"),
        ("Model-NVFP4.gguf", "NVFP4"),
        ("Model-Q8_0_L.gguf", "Q8_0_L"),
        ("Model-Q4_K_M-00001-of-00003.gguf", "Q4_K_M"),
        ("Q4_K_M/model-00001-of-00002.gguf", "Q4_K_M"),
        ("Model-GGUF-Q4_K_M/model.gguf", "Q4_K_M"),
        ("Model-Q8.gguf", "Q8"),
        ("Q4_K_M.gguf", "Q4_K_M"),
        ("BTL-3-Compact-AVQ2.gguf", None),
        ("Model-7B.gguf", None),
    ],
)
def test_a_name_says_its_quantization(path: str, said: str | None) -> None:
    assert quantization_of(path) == said


@pytest.mark.parametrize(
    ("tag", "paths", "path"),
    [
        # a file by its whole path, by its directory, by both
        ("7B/model-Q4_K_M.gguf", SIZES, "7B/model-Q4_K_M.gguf"),
        ("13B/model-Q4_K_M.gguf", SIZES, "13B/model-Q4_K_M.gguf"),
        ("13B/model-Q4_K_M", SIZES, "13B/model-Q4_K_M.gguf"),
        ("13b/MODEL-q4_k_m.gguf", SIZES, "13B/model-Q4_K_M.gguf"),
        ("13B", SIZES, "13B/model-Q4_K_M.gguf"),
        ("13B/Q4_K_M", SIZES, "13B/model-Q4_K_M.gguf"),
        ("13b/q4_k_m", SIZES, "13B/model-Q4_K_M.gguf"),
        ("13B-Q4_K_M", SIZES, "13B/model-Q4_K_M.gguf"),
        ("13B", ("gguf/13B/m-Q8_0.gguf", "gguf/7B/m-Q8_0.gguf"), "gguf/13B/m-Q8_0.gguf"),
        ("m.gguf", ("m.gguf", "a/m.gguf"), "m.gguf"),
        ("a%20b/m.gguf", ("a b/m.gguf", "a/m.gguf"), "a b/m.gguf"),
        ("m-Q8_0.gguf", ("a/m-Q8_0.gguf", "b/n-Q8_0.gguf"), "a/m-Q8_0.gguf"),
        # what goes with a model is no model
        ("Q4_K_M", DRAFT_BESIDE, "Model-Q4_K_M.gguf"),
        (None, DRAFT_BESIDE, "Model-Q4_K_M.gguf"),
        ("mtp-Model-Q6_K.gguf", DRAFT_BESIDE, "mtp-Model-Q6_K.gguf"),
        (None, ("M-Q8_0.gguf", "MTP/M-Q8_0-MTP.gguf", "MTP/M-Q4_K_M-MTP.gguf"), "M-Q8_0.gguf"),
        (None, ("M-Q8_0.gguf", "M-Q4_K_M-MTP.gguf"), "M-Q8_0.gguf"),
        (None, ("M-Q8_0.gguf", "M-MTP-Q4_K_M.gguf"), "M-Q8_0.gguf"),
        (None, ("M-MTP-Q8_0.gguf", "M-MTP-Q4_K_M.gguf"), "M-MTP-Q4_K_M.gguf"),
        (None, ("M-Q8_0.gguf", "DFlash/M-DFlash2-Q4_K_M.gguf"), "M-Q8_0.gguf"),
        (None, ("M-Q8_0.gguf", "eagle3-M-Q4_K_M.gguf"), "M-Q8_0.gguf"),
        (None, ("M-Q8_0.gguf", "M-draft-0.5B-Q4_K_M.gguf"), "M-Q8_0.gguf"),
        (None, ("M-Q8_0.gguf", "M-assistant-Q4_K_M.gguf"), "M-Q8_0.gguf"),
        (None, ("open-assistant-Q8_0.gguf", "open-assistant-Q4_K_M.gguf"), "open-assistant-Q4_K_M.gguf"),
        (None, ("M-Q8_0.gguf", "M-imatrix.gguf", "M.imatrix.gguf"), "M-Q8_0.gguf"),
        (None, ("M-Q8_0.gguf", "imatrix-M-Q4_K_M.gguf"), "M-Q8_0.gguf"),
        (None, ("M-Q8_0.gguf", "M-BF16-imatrix.gguf"), "M-Q8_0.gguf"),
        (None, ("M-IQ2_XXS-imatrix.gguf", "M-Q4_K_M-imatrix.gguf"), "M-Q4_K_M-imatrix.gguf"),
        ("Q4_K_M", ("M-Q4_K_M.gguf", "M-Q4_K_M-imatrix.gguf"), "M-Q4_K_M.gguf"),
        (None, ("M-Q8_0.gguf", "M-LoRA-F16.gguf", "lora/x-Q4_K_M.gguf"), "M-Q8_0.gguf"),
        (None, ("M-Q8_0.gguf", "M-Q4_K_M-LoRA.gguf"), "M-Q8_0.gguf"),
        (None, ("alpaca-lora-7b-Q8_0.gguf", "alpaca-lora-7b-Q4_K_M.gguf"), "alpaca-lora-7b-Q4_K_M.gguf"),
        (None, ("M-Q8_0.gguf", "control_vector-happy-F16.gguf"), "M-Q8_0.gguf"),
        (None, ("M-Q8_0.gguf", "ggml-vocab-llama-bpe.gguf", "M-vocab.gguf"), "M-Q8_0.gguf"),
        (None, ("OuteTTS-Q8_0.gguf", "WavTokenizer-Large-75-F16.gguf"), "OuteTTS-Q8_0.gguf"),
        # where a quantization stands in a name
        ("Q4_K_M", ("M-Q4_K_M-imat.gguf", "M-Q8_0-imat.gguf"), "M-Q4_K_M-imat.gguf"),
        ("F16", ("m-fp16.gguf", "m-q8_0.gguf"), "m-fp16.gguf"),
        ("fp16", ("m-fp16.gguf", "m-q8_0.gguf"), "m-fp16.gguf"),
        ("f16", ("m-F16.gguf", "m-BF16.gguf"), "m-F16.gguf"),
        ("Q4_K_XL", ("M-UD-Q4_K_XL.gguf", "M-Q4_K_M.gguf"), "M-UD-Q4_K_XL.gguf"),
        ("Q4_K_M", ("M-UD-Q4_K_M.gguf", "M-Q4_K_M.gguf"), "M-Q4_K_M.gguf"),
        ("UD-Q4_K_M", ("M-UD-Q4_K_M.gguf", "M-Q4_K_M.gguf"), "M-UD-Q4_K_M.gguf"),
        ("i1-Q4_K_M", ("M.i1-Q4_K_M.gguf", "M.i1-Q4_0.gguf"), "M.i1-Q4_K_M.gguf"),
        ("i1-Q4_K_M", ("M.i1-Q4_K_M.gguf", "M.Q4_K_M.gguf"), "M.i1-Q4_K_M.gguf"),
        ("4b-q4_k_m", ("m-4b-q4_k_m.gguf", "m-12b-q4_k_m.gguf"), "m-4b-q4_k_m.gguf"),
        ("m-4b-q4_k_m", ("m-4b-q4_k_m.gguf", "m-12b-q4_k_m.gguf"), "m-4b-q4_k_m.gguf"),
        # shards
        ("Q4_K_M", ("Q4_K_M/m-00001-of-00002.gguf", "Q4_K_M/m-00002-of-00002.gguf", "Q8_0/m.gguf"), "Q4_K_M/m-00001-of-00002.gguf"),
        ("Q4_K_M/m-00002-of-00002.gguf", ("Q4_K_M/m-00001-of-00002.gguf", "Q4_K_M/m-00002-of-00002.gguf"), "Q4_K_M/m-00001-of-00002.gguf"),
        # nothing asked for
        (None, ("M-F16.gguf", "M-Q8_0.gguf"), "M-Q8_0.gguf"),
        ("latest", ("M-UD-Q4_K_XL.gguf", "M-UD-Q2_K_XL.gguf"), "M-UD-Q4_K_XL.gguf"),
        (None, ("anything.gguf",), "anything.gguf"),
        # a repository of drafts alone
        ("Q4_K_M", ("M-draft-Q4_K_M.gguf", "M-draft-Q8_0.gguf"), "M-draft-Q4_K_M.gguf"),
        ("M-draft-Q8_0.gguf", ("M-draft-Q4_K_M.gguf", "M-draft-Q8_0.gguf"), "M-draft-Q8_0.gguf"),
    ],
)  # fmt: skip
def test_a_tag_means_one_model(tag: str | None, paths: tuple[str, ...], path: str) -> None:
    assert chosen(tag, *paths) == path


@pytest.mark.parametrize(
    ("tag", "paths", "message", "choices"),
    [
        ("Q4_K_M", SIZES, "has several models for Q4_K_M", ["13B/Q4_K_M", "7B/Q4_K_M"]),
        (None, SIZES, "has several models", ["13B/Q4_K_M", "7B/Q4_K_M"]),
        ("model-Q4_K_M.gguf", SIZES, "has several files named", ["13B/Q4_K_M", "7B/Q4_K_M"]),
        ("a", ("a/m-Q8_0.gguf", "a/m-Q4_0.gguf", "b/m-Q8_0.gguf"), "several models for a", ["Q4_0", "a/Q8_0"]),
        ("Q2", ("model/BTL-AVQ2.gguf",), "has no model Q2", ["model/BTL-AVQ2.gguf"]),
        ("Q8", ("R-Q8_0.gguf",), "has no model Q8", ["Q8_0"]),
        ("Q6_K", ("M-Q4_K_M.gguf", "mtp-M-Q6_K.gguf"), "has no model Q6_K", ["Q4_K_M"]),
        ("K_M", ("M-Q4_K_M.gguf",), "has no model K_M", ["Q4_K_M"]),
        ("7B/m.gguf", ("13B/m.gguf",), "has no model 7B/m.gguf", ["13B/m.gguf"]),
        ("Q4_K_M", ("One-Q4_K_M.gguf", "Two-Q4_K_M.gguf"), "several models for Q4_K_M", ["One-Q4_K_M.gguf", "Two-Q4_K_M.gguf"]),
        ("Q4_K_XL", ("a/UD-Q4_K_XL.gguf", "b/UD-Q4_K_XL.gguf"), "several", ["a/UD-Q4_K_XL", "b/UD-Q4_K_XL"]),
        (None, ("M-draft-Q4_K_M.gguf",), "has no model, only a draft model", ["Q4_K_M"]),
        (None, ("eagle3-M-Q4_K_M.gguf", "imatrix.gguf"), "only a draft model, an importance matrix", ["Q4_K_M"]),
    ],
)  # fmt: skip
def test_what_is_not_certain_is_refused_with_the_choices(
    tag: str | None, paths: tuple[str, ...], message: str, choices: list[str]
) -> None:
    with pytest.raises(ManifestNotFoundError) as caught:
        chosen(tag, *paths)
    assert message in caught.value.message
    assert caught.value.facts["near"] == choices
    # each of them can be pasted, and means one model
    assert caught.value.hint is not None
    for choice in choices:
        assert f"{NAME}:{choice} (1.00 KiB)" in caught.value.hint
        assert chosen(choice, *paths)


@pytest.mark.parametrize(
    ("tag", "paths", "message"),
    [
        ("mmproj-F16.gguf", ("M-Q8_0.gguf", "mmproj-F16.gguf"), "mmproj-F16.gguf is a projector (mmproj) by its name, not a model"),
        ("imatrix.gguf", ("M-Q8_0.gguf", "imatrix.gguf"), "imatrix.gguf is an importance matrix by its name, not a model"),
        ("M-LoRA.gguf", ("M-Q8_0.gguf", "M-LoRA.gguf"), "M-LoRA.gguf is a LoRA adapter by its name, not a model"),
        ("Q8_0", ("M-Q4_0.gguf", "M-Q8_0.gguf.part1of2", "M-Q8_0.gguf.part2of2"), "M-Q8_0.gguf is split into 2 raw parts"),
        ("M-Q8_0.gguf", ("M-Q8_0.gguf-split-a", "M-Q8_0.gguf-split-b"), "M-Q8_0.gguf is split into 2 raw parts"),
        (None, ("M-Q8_0-split-a", "M-Q8_0-split-b"), "M-Q8_0.gguf is split into 2 raw parts"),
    ],
)  # fmt: skip
def test_what_is_no_model_is_refused_by_what_it_is(
    tag: str | None, paths: tuple[str, ...], message: str
) -> None:
    with pytest.raises(UnsupportedArtifactError, match=r"not a model|raw parts") as caught:
        chosen(tag, *paths)
    assert message in caught.value.message
    assert caught.value.hint


def test_raw_parts_can_be_joined_by_the_hint() -> None:
    with pytest.raises(UnsupportedArtifactError) as caught:
        chosen(None, "a/M-Q8_0.gguf.part1of2", "a/M-Q8_0.gguf.part2of2")
    assert caught.value.hint == (
        "download the parts and join them: cat M-Q8_0.gguf.part1of2 M-Q8_0.gguf.part2of2 >"
        " M-Q8_0.gguf && modelrunner import M-Q8_0.gguf"
    )


@pytest.mark.parametrize("paths", [("imatrix.gguf",), ("mmproj-F16.gguf",), ("x.safetensors",), ()])
def test_a_repository_without_a_model_says_so(paths: tuple[str, ...]) -> None:
    with pytest.raises(ModelRunnerError) as caught:
        chosen(None, *paths)
    assert (caught.value.exit_code, bool(caught.value.hint)) == (3, True)


@pytest.mark.parametrize(
    ("tag", "paths", "path"),
    [
        ("7B", (*SIZES, "7B/mmproj-f16.gguf", "13B/mmproj-f16.gguf"), "7B/mmproj-f16.gguf"),
        ("13B", (*SIZES, "7B/mmproj-f16.gguf", "13B/mmproj-f16.gguf"), "13B/mmproj-f16.gguf"),
        ("13B", (*SIZES, "7B/mmproj-f16.gguf"), None),
        ("13B", (*SIZES, "mmproj-f16.gguf"), "mmproj-f16.gguf"),
        ("13B", (*SIZES, "mmproj-f16.gguf", "13B/mmproj-Q8_0.gguf"), "13B/mmproj-Q8_0.gguf"),
        ("13B", (*SIZES, "mmproj/model-7B-f16.gguf", "mmproj/model-13B-f16.gguf"), "mmproj/model-13B-f16.gguf"),
        ("7B", (*SIZES, "mmproj-model-13B-f16.gguf"), None),
        (None, ("V-Q4_K_M.gguf", "V.mmproj-Q8_0.gguf", "mmproj/vision-f16.gguf"), "mmproj/vision-f16.gguf"),
        ("UD-Q4_K_XL", ("UD-Q4_K_XL/M-00001-of-00001.gguf", "mmproj-BF16.gguf", "mmproj-F16.gguf"), "mmproj-F16.gguf"),
        (None, ("V-Q8_0.gguf", "mmproj-F32.gguf", "mmproj-BF16.gguf"), "mmproj-BF16.gguf"),
        ("m-4b-Q8_0", ("m-4b-Q8_0.gguf", "m-12b-Q8_0.gguf", "mmproj-m-4b.gguf", "mmproj-m-12b.gguf"), "mmproj-m-4b.gguf"),
        ("m-12b-Q8_0", ("m-4b-Q8_0.gguf", "m-12b-Q8_0.gguf", "mmproj-m-4b.gguf", "mmproj-m-12b.gguf"), "mmproj-m-12b.gguf"),
        (None, ("V-Q8_0.gguf", "mmproj-W-F16.gguf", "mmproj-V-Q8_0.gguf"), "mmproj-V-Q8_0.gguf"),
        ("mtp-M-Q8_0.gguf", ("M-Q8_0.gguf", "mtp-M-Q8_0.gguf", "mmproj-F16.gguf"), None),
    ],
)  # fmt: skip
def test_a_projector_comes_from_the_nearest_directory_and_is_of_no_other_model(
    tag: str | None, paths: tuple[str, ...], path: str | None
) -> None:
    assert projector(tag, *paths) == path


def test_labels_are_the_shortest_that_mean_one_model() -> None:
    assert labels(files(*SIZES, "7B/model-Q8_0.gguf")) == ("13B/Q4_K_M", "7B/Q4_K_M", "Q8_0")
    assert labels(files("a/One-Q4_0.gguf", "a/Two-Q4_0.gguf")) == (
        "a/One-Q4_0.gguf",
        "a/Two-Q4_0.gguf",
    )
    assert labels(files(*DRAFT_BESIDE)) == ("Q4_K_M", "Q6_K")
    assert labels(files("a b/One.gguf", "Two.gguf")) == ("Two.gguf", "a%20b/One.gguf")


def test_a_search_counts_the_quantizations_of_models_alone() -> None:
    assert quantizations([*DRAFT_BESIDE, "mmproj-F16.gguf", "README.md"]) == ("Q4_K_M", "Q6_K")
