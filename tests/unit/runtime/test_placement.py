"""Where a runtime has put a model, read back from its log."""

import pytest

from modelrunner.runtime.placement import placement_of

MIB = 1024 * 1024
CPU = """\
0.00.097.060 I load_tensors:   CPU_Mapped model buffer size =    92.50 MiB
0.00.097.245 I llama_context:        CPU  output buffer size =     0.25 MiB
0.00.097.284 I llama_kv_cache:        CPU KV buffer size =    45.00 MiB
0.00.098.674 I sched_reserve:        CPU compute buffer size =    16.00 MiB
"""
GPUS = """\
I common_params_fit_impl:   - CUDA0 (NVIDIA GeForce RTX 4070): 20 layers ( 5 overflowing), 9000 MiB used, 1024 MiB free
I common_params_fit_impl:   - CUDA1 (NVIDIA GeForce RTX 3060): 13 layers ( 7 overflowing), 9000 MiB used, 1024 MiB free
I llama_prepare_model_devices: using device CUDA0 (NVIDIA GeForce RTX 4070) (0000:01:00.0) - 11000 MiB free
I llama_prepare_model_devices: using device CUDA1 (NVIDIA GeForce RTX 3060) (unknown id) - 12000 MiB free
I load_tensors: offloading output layer to GPU
I load_tensors: offloading 32 repeating layers to GPU
I load_tensors: offloaded 33/33 layers to GPU
I load_tensors:   CPU_Mapped model buffer size =  1000.00 MiB
I load_tensors:        CUDA0 model buffer size =  4000.00 MiB
I load_tensors:        CUDA1 model buffer size =  3000.00 MiB
I llama_context:  CUDA_Host  output buffer size =     1.00 MiB
I llama_kv_cache:      CUDA0 KV buffer size =   200.00 MiB
I llama_kv_cache:      CUDA1 KV buffer size =   100.00 MiB
I llama_memory_recurrent:      CUDA1 RS buffer size =    50.00 MiB
I sched_reserve:      CUDA0 compute buffer size =   300.00 MiB
I sched_reserve:      CUDA1 compute buffer size =   200.00 MiB
I sched_reserve:  CUDA_Host compute buffer size =    20.00 MiB
"""  # noqa: E501 - as they are printed


def test_a_runtime_without_a_gpu_holds_all_in_host_memory():
    found = placement_of(CPU)
    assert found.line() == "all layers on the CPU; host 153.75 MiB"
    assert not found.uses_gpu
    assert found.to_dict() == {
        "gpu_layers": 0,
        "layers": None,
        "expert_layers_on_host": 0,
        "devices": [
            {
                "name": "host",
                "description": None,
                "weights_bytes": 92.5 * MIB,
                "cache_bytes": 45 * MIB,
                "compute_bytes": 16 * MIB,
                "output_bytes": 0.25 * MIB,
                "total_bytes": 153.75 * MIB,
            }
        ],
    }


def test_what_each_of_two_gpus_holds_is_told_apart_and_pinned_memory_is_the_hosts():
    found = placement_of(GPUS)
    assert found.line() == (
        "33 of 33 layers on CUDA0 (NVIDIA GeForce RTX 4070) and CUDA1 (NVIDIA GeForce RTX 3060),"
        " experts of 12 layers on the CPU; CUDA0 4.39 GiB, CUDA1 3.27 GiB, host 1021.00 MiB"
    )
    assert found.uses_gpu
    assert {held.name: dict(held.bytes) for held in found.held} == {
        "CUDA0": {"weights": 4000 * MIB, "cache": 200 * MIB, "compute": 300 * MIB},
        "CUDA1": {"weights": 3000 * MIB, "cache": 150 * MIB, "compute": 200 * MIB},
        "host": {"weights": 1000 * MIB, "output": 1 * MIB, "compute": 20 * MIB},
    }


def test_experts_that_it_was_told_to_keep_on_the_host_count():
    assert placement_of(GPUS, 30).expert_layers == 30


@pytest.mark.parametrize(
    ("buffer", "name"),
    [
        *(("CPU_REPACK", "host"), ("Vulkan_Host", "host"), ("ROCm0", "ROCm0")),
        *(("MTL0_Mapped", "MTL0"), ("MTL0_Private", "MTL0"), ("CUDA0_Split", "CUDA0")),
        ("RPC[10.0.0.7:50052]", "RPC[10.0.0.7:50052]"),
    ],
)
def test_a_buffer_belongs_to_its_device(buffer, name):
    (held,) = placement_of(f"load_tensors: {buffer} model buffer size = 1.00 MiB").held
    assert held.name == name


@pytest.mark.parametrize("log", ["", "garbage", CPU.partition("\n")[2]])
def test_a_log_that_does_not_say_where_the_weights_are_says_nothing(log):
    assert placement_of(log) is None
