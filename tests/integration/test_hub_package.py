"""What the Hub's package is used for, and what it is kept from."""

import socket

import httpx2
import huggingface_hub
import pytest

from modelrunner.errors import TransferError
from modelrunner.huggingface.repository import HubEntry
from modelrunner.oci.reference import Reference
from modelrunner.registry.http.retry import NO_RETRY
from modelrunner.registry.huggingface.api import HubApi
from modelrunner.registry.huggingface.hub_package import files_in, matching, token_of
from modelrunner.registry.settings import HubAccess
from tests.support.hugging_face import Repository, hugging_face


def test_the_client_of_a_program_that_uses_the_package_is_left_alone():
    asked = []

    def answer(request):
        asked.append(str(request.url))
        return httpx2.Response(200, json=[{"id": "theirs"}])

    def client():
        return httpx2.Client(transport=httpx2.MockTransport(answer))

    huggingface_hub.set_client_factory(client)
    try:
        with hugging_face() as hub:
            hub.repositories["Org/M"] = Repository({"m-Q8_0.gguf": b"GGUF"})
            api = HubApi(HubAccess(hub.url), NO_RETRY, None)
            found = api.listing(Reference.parse("hf.co/Org/M"))
            api.close()
            assert [file.path for file in found.files] == ["m-Q8_0.gguf"]
            assert asked == []
        answered = huggingface_hub.get_session().get("https://hub.invalid/api/models")
        assert answered.json() == [{"id": "theirs"}]
    finally:
        huggingface_hub.set_client_factory(httpx2.Client)


@pytest.mark.parametrize("kind", ["answer_timeout_s", "read_timeout_s"])
def test_a_hub_that_is_silent_is_left_after_the_time_that_its_variable_says(kind):
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        api = HubApi(HubAccess(url, **{kind: 1}), NO_RETRY, None)
        name = Reference.parse("hf.co/org/m")
        ask = {
            "answer_timeout_s": lambda: api.listing(name),
            "read_timeout_s": lambda: api.open(name, "c0ffee", "m.gguf", {}),
        }[kind]
        with pytest.raises(TransferError, match="timed out"):
            ask()
        api.close()


def test_the_package_is_not_asked_for_a_token_of_another_environment(tmp_path):
    access = HubAccess("http://127.0.0.1:1", "hf_read")
    assert token_of(access, str(tmp_path / "token")) == "hf_read"


@pytest.mark.parametrize(
    ("include", "exclude", "found"),
    [
        ([], [], ["a.json", "onnx/model.onnx", "onnx/model.onnx_data"]),
        (["*.onnx"], [], ["onnx/model.onnx"]),
        (["onnx/"], ["*_data"], ["onnx/model.onnx"]),
        ([], ["onnx/*"], ["a.json"]),
    ],
)
def test_globs_mean_what_they_mean_to_the_hubs_tools(include, exclude, found):
    paths = ["a.json", "onnx/model.onnx", "onnx/model.onnx_data"]
    assert list(matching(paths, include, exclude, str)) == found


def test_what_a_listing_leaves_out_or_gets_wrong():
    digest = "ab" * 32
    entries = [
        {"type": "directory", "path": "onnx", "oid": "0" * 40, "size": 0},
        {"path": "bare.gguf", "size": 3, "lfs": {"oid": digest}},
        {"path": "small.json", "size": 2, "oid": "1" * 40, "type": "file"},
        *({"path": path, "size": 1, "oid": ""} for path in (1, None, ["a"])),
        *({"path": "a", "size": size, "oid": ""} for size in (-1, True, "1", 2**63, None)),
        {"path": "a", "size": 1, "oid": "", "lfs": {"size": 1}},
        {"path": "a"},
        {},
        "a",
        None,
    ]
    assert list(files_in(entries)) == [
        HubEntry("bare.gguf", 3, "", digest),
        HubEntry("small.json", 2, "1" * 40),
    ]
    assert list(files_in({"error": "no"})) == []
