"""What a server inherits."""

from modelrunner.runtime.child.environment import for_child


def test_server_inherits_what_finds_libraries_and_gpus_and_no_secrets():
    inherited = {
        "PATH": "/usr/bin",
        "HOME": "/home/me",
        "LD_LIBRARY_PATH": "/opt/cuda/lib",
        "LC_ALL": "C.UTF-8",
        "CUDA_VISIBLE_DEVICES": "1",
        "HIP_VISIBLE_DEVICES": "0",
        "GGML_CUDA_ENABLE_UNIFIED_MEMORY": "1",
    }
    kept_back = {
        "HF_TOKEN": "hf_secret",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "DOCKER_AUTH_CONFIG": "{}",
        "MODELRUNNER_HOME": "/tmp",
    }
    assert for_child({**inherited, **kept_back}) == inherited


def test_somebodys_llama_settings_do_not_reach_the_server():
    assert for_child({"LLAMA_ARG_HOST": "0.0.0.0", "LLAMA_API_KEY": "x"}) == {}
