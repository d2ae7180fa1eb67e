"""Whether a model fits, in one sentence."""

from modelrunner.memory.fit import Fit, Held
from modelrunner.operations.estimate.fit_sentence import fit_sentence, memory_of

GIB = 1024**3


def said(fit):
    place = memory_of(fit, None, has_gpu=True)
    return fit_sentence(fit, 20 * GIB, place, measured=False)


def test_experts_in_host_memory_are_counted_with_their_bytes():
    gpu = Held("RTX 4070", "gpu", 12 * GIB, 11 * GIB, 49)
    host = Held("host memory", "host", 64 * GIB, 9 * GIB, 0)
    assert said(Fit("partial", 49, 32768, 75 * GIB, 26, (gpu, host))) == (
        "fits partly on the GPU, the experts of 26 layers in host memory (9.00 GiB there):"
        " needs 20.00 GiB of 75.00 GiB memory"
    )


def test_other_verdicts_name_what_is_needed_and_of_what():
    assert said(Fit("fits", 33, 4096, 24 * GIB)) == (
        "fits, needs 20.00 GiB of 24.00 GiB GPU memory"
    )
    assert said(Fit("maybe", 33, 4096, 20 * GIB)) == (
        "may fit, needs 20.00 GiB of 20.00 GiB GPU memory"
    )
    assert said(Fit("partial", 12, 4096, 75 * GIB)) == (
        "fits partly on the GPU, 12 layers: needs 20.00 GiB of 75.00 GiB memory"
    )
    assert said(Fit("no", 0, None, 8 * GIB)) == "does not fit: needs 20.00 GiB of 8.00 GiB memory"
