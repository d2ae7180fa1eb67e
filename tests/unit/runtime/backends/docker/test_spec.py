"""How a container is made: what it may use, and where it finds its files."""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from modelrunner.runtime.backends.docker.spec import IMAGES, Volume, given, mounted, options, vendor
from modelrunner.runtime.base import LaunchSpec

SPEC = LaunchSpec(
    model=Path("/store/view/m-00001-of-00002.gguf"), name="m", context=512, threads=1, api_key="k"
)


def test_files_of_one_folder_share_a_mount_and_keep_their_names():
    spec = replace(
        SPEC, mmproj=Path("/store/view/mmproj.gguf"), draft_model=Path("/elsewhere/draft.gguf")
    )
    inside, volumes = mounted(spec)
    assert inside.model == Path("/models/0/m-00001-of-00002.gguf")
    assert inside.mmproj == Path("/models/0/mmproj.gguf")
    assert inside.draft_model == Path("/models/1/draft.gguf")
    assert volumes == [
        Volume(Path("/store/view"), "/models/0"),
        Volume(Path("/elsewhere"), "/models/1"),
    ]


def test_every_mount_is_read_only_and_the_port_is_on_loopback():
    made = options(replace(SPEC, port=8123), "none")
    assert made["volumes"] == {"/store/view": {"bind": "/models/0", "mode": "ro"}}
    assert made["ports"] == {"8080/tcp": ("127.0.0.1", 8123)}
    assert "devices" not in made
    command = made["command"]
    assert command[command.index("--port") + 1] == "8080"


def test_only_who_computes_on_other_machines_reaches_any():
    alone, many = options(SPEC, "none"), options(replace(SPEC, rpc="gpu-1:50052"), "none")
    assert (alone["network"], alone["dns"]) == ("modelrunner", ["127.0.0.1"])
    assert many["network"] == "bridge"
    assert "dns" not in many
    assert many["cap_drop"] == ["ALL"]


def test_it_is_never_root_but_for_a_daemon_that_is_not():
    user = options(SPEC, "none")["user"]
    assert user == (f"{os.getuid()}:{os.getgid()}" if os.getuid() else "65534:65534")
    assert options(SPEC, "none", rootless=True)["user"] == "0:0"


@pytest.fixture
def dev(tmp_path):
    def make(*names):
        for name in names:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).touch()
        return tmp_path

    return make


@pytest.mark.parametrize(
    ("nodes", "found"),
    [
        ((), "none"),
        (("nvidiactl", "dri/renderD128"), "nvidia"),
        (("kfd", "dri/renderD128"), "amd"),
        (("dri/renderD128",), "other"),
        (("dri/card0",), "none"),
    ],
)
def test_gpu_is_told_by_its_device_nodes(dev, nodes, found):
    assert vendor(dev(*nodes)) == found


def test_amd_gets_its_nodes_and_the_groups_that_may_use_them(dev):
    folder = dev("kfd", "dri/renderD128")
    made = options(SPEC, "amd", dev=folder)
    assert made["devices"] == [f"{folder}/kfd:/dev/kfd:rw", f"{folder}/dri:/dev/dri:rw"]
    assert made["group_add"] == [str((folder / "kfd").stat().st_gid)]
    assert options(SPEC, "other", dev=folder)["devices"] == [f"{folder}/dri:/dev/dri:rw"]
    assert "devices" not in options(SPEC, "nvidia", dev=folder)


NVIDIA, AMD, OTHER = ("nvidiactl", "dri/renderD128"), ("kfd", "dri/renderD128"), ("dri/renderD128",)


@pytest.mark.parametrize(
    ("nodes", "image", "makers"),
    [
        ((), IMAGES["none"], set()),
        ((), "ghcr.io/ggml-org/llama.cpp:server-cuda", set()),
        (NVIDIA, IMAGES["nvidia"], {"nvidia"}),
        (NVIDIA, "ghcr.io/ggml-org/llama.cpp:server-cuda13-b6123", {"nvidia"}),
        (NVIDIA, "ghcr.io/ggml-org/llama.cpp:server", set()),
        (NVIDIA, "ghcr.io/ggml-org/llama.cpp:server-b6123", set()),
        (NVIDIA, f"ghcr.io/ggml-org/llama.cpp:server@sha256:{'0' * 64}", set()),
        (NVIDIA, "ghcr.io/ggml-org/llama.cpp:server-vulkan", set()),
        (AMD, IMAGES["amd"], {"amd"}),
        (AMD, "ghcr.io/ggml-org/llama.cpp:server-vulkan", {"amd"}),
        (AMD, "ghcr.io/ggml-org/llama.cpp:server-cuda", set()),
        (OTHER, IMAGES["other"], {"amd", "intel"}),
        # what is in another image only its maker knows
        (NVIDIA, "registry.example.com/team/llama:1", {"nvidia"}),
        ((), "registry.example.com/team/llama:1", set()),
    ],
)
def test_a_container_can_use_what_it_is_given_and_its_image_is_built_for(dev, nodes, image, makers):
    found = given(image, dev(*nodes))
    assert found.makers == makers
    wrong = bool(nodes) and not makers
    assert bool(found.remedy) == wrong
    if wrong:
        usual = IMAGES[vendor(dev(*nodes))]
        assert found.remedy.endswith(f"`export MODELRUNNER_CONTAINER_IMAGE={usual}`")
