"""A header as a document, and back."""

import pytest

from modelrunner.gguf.header import Array, Header, TensorInfo
from modelrunner.gguf.kept import dump_header, load_header

HEADER = Header(
    3,
    {
        "general.architecture": "llama",
        "llama.block_count": 2,
        "llama.rope.freq_base": 10000.0,
        "tokenizer.ggml.add_bos_token": True,
        "tokenizer.ggml.tokens": Array("string", 49152, None),
        "llama.attention.head_count_kv": Array("uint32", 2, (3, 0)),
    },
    (TensorInfo("token_embd.weight", (32, 64), 2, 0), TensorInfo("scale", (), 0, 1152)),
    32,
    2048,
    None,
)


def test_a_header_comes_back_as_it_was() -> None:
    assert load_header(dump_header(HEADER)) == HEADER


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"[]",
        b"{}",
        b'{"form": 1}',
        dump_header(HEADER).replace(b'"form":1', b'"form":0'),
        dump_header(HEADER).replace(b'"data_offset":2048', b'"data_offset":-1'),
        dump_header(HEADER).replace(b"[32,64]", b'["32",64]'),
        dump_header(HEADER).replace(b'"llama"', b"null"),
    ],
)
def test_what_is_not_such_a_document_is_refused(raw: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        load_header(raw)
