"""Names of files in another quantization."""

import pytest

from modelrunner.operations.convert.quantize import new_name


@pytest.mark.parametrize(
    ("name", "made"),
    [
        ("Granite-4.0-F16.gguf", "Granite-4.0-Q4_K_M.gguf"),
        ("smol.Q4_1.gguf", "smol.Q4_K_M.gguf"),
        ("granite.gguf", "granite-Q4_K_M.gguf"),
        ("granite-Q4_K_M.gguf", "granite-Q4_K_M.gguf"),
        ("granite-bf16-00001-of-00003.gguf", "granite-Q4_K_M.gguf"),
        ("no ending", "no ending-Q4_K_M.gguf"),
    ],
)
def test_the_name_says_the_new_quantization(name: str, made: str) -> None:
    assert new_name(name, "Q4_K_M") == made
