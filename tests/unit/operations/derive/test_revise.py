"""Another artifact made of one: what is different, and that nothing else is."""

import json

from modelrunner.oci.descriptor import Descriptor
from modelrunner.oci.digest import Digest
from modelrunner.oci.manifest import Manifest
from modelrunner.operations.derive.revise import Revision, go_json, revised
from tests.support.artifacts import docker_artifact, modelpack_artifact

NEW = Descriptor("application/vnd.docker.ai.license", Digest.of(b"new"), 3)


def test_nothing_but_the_context_differs_in_what_go_has_written() -> None:
    # as Docker Model Runner writes it: no spaces, escapes of its own, texts in UTF-8
    config = (
        b'{"config":{"format":"gguf","gguf":{"a":"\\u003cs\\u003e \\u0026 \xc3\xa9 \\u2028"},'
        b'"context_size":8192},"descriptor":{"created":"2026-01-02T03:04:05.678Z"},'
        b'"rootfs":{"type":"rootfs","diff_ids":["sha256:%s"]}}'
    )
    base = docker_artifact(b"GGUF")
    config %= json.loads(base.manifest)["layers"][0]["digest"].removeprefix("sha256:").encode()
    manifest = Manifest.from_bytes(base.manifest)
    made, raw = revised(manifest, config, Revision(context=512))
    assert raw == config.replace(b"8192", b"512")
    assert (made.config.digest, made.config.size) == (Digest.of(raw), len(raw))
    assert json.loads(made.raw)["layers"] == json.loads(base.manifest)["layers"]


def test_unknown_fields_of_the_manifest_stay_and_old_content_of_the_config_does_not() -> None:
    value = json.loads(docker_artifact(b"GGUF").manifest)
    value["config"]["data"] = "e30="
    value["layers"][0]["urls"] = ["https://example.com/weights"]
    value |= {"annotations": {"a": "1"}, "later": {"b": 2}}
    manifest = Manifest.from_bytes(json.dumps(value).encode())
    revision = Revision(added=[NEW], annotations={"c": "3"})
    made, _ = revised(manifest, b"{}", revision)
    found = json.loads(made.raw)
    assert found["layers"] == [value["layers"][0], NEW.to_dict()]
    assert found["annotations"] == {"a": "1", "c": "3"}
    assert found["later"] == {"b": 2}
    assert sorted(found["config"]) == ["digest", "mediaType", "size"]


def test_a_setting_replaces_the_same_one_in_another_spelling() -> None:
    manifest = Manifest.from_bytes(docker_artifact(b"GGUF").manifest)
    before = {"config": {"settings": {"kv-type": "f16", "future": [1], "top_k": 1}}}
    _, raw = revised(manifest, json.dumps(before).encode(), Revision(settings={"kv_type": "q8_0"}))
    settings = json.loads(raw)["config"]["settings"]
    assert settings == {"future": [1], "top_k": 1, "kv_type": "q8_0"}


def test_contents_before_compression_are_kept_where_they_are_known() -> None:
    base = modelpack_artifact(b"GGUF")
    manifest = Manifest.from_bytes(base.manifest)
    config = {"modelfs": {"type": "layers", "diffIds": ["sha256:" + "0" * 64]}, "config": {}}
    made, raw = revised(
        manifest, json.dumps(config).encode(), Revision(created="2026-01-02T03:04:05Z")
    )
    value = json.loads(raw)
    assert value["modelfs"] == config["modelfs"]
    assert value["descriptor"] == {"createdAt": "2026-01-02T03:04:05Z"}
    assert made.artifact_type == manifest.artifact_type


def test_json_is_spelled_as_go_spells_it() -> None:
    assert go_json({"b": "<\u2028\u2029&>é\x7f\n", "a": 1.5}) == (
        b'{"b":"\\u003c\\u2028\\u2029\\u0026\\u003e\xc3\xa9\x7f\\n","a":1.5}'
    )
