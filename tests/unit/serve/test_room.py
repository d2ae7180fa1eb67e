"""Which models are loaded at the same time, and what is said of it before any is."""

import pytest

from modelrunner.serve.models import Room
from tests.support.serving import model

GIB = 1024**3
GPU = (("CUDA0", 8 * GIB),)
ONE = model("ai/one:1", memory=5 * GIB, on_gpus=(("CUDA0", 4 * GIB),))
TWO = model("ai/two:1", memory=6 * GIB, on_gpus=(("CUDA0", 4 * GIB),))
BIG = model("ai/big:1", memory=7 * GIB, on_gpus=(("CUDA0", 7 * GIB),))
HOST = model("ai/host:1", memory=2 * GIB)


@pytest.mark.parametrize(
    ("room", "models", "line"),
    [
        (
            Room(16 * GIB, GPU),
            [ONE, TWO, HOST],
            "together: 13.00 GiB of 16.00 GiB memory; all models can be loaded at the same time",
        ),
        (
            Room(None),
            [ONE, TWO],
            "together: 11.00 GiB; all models can be loaded at the same time",
        ),
        (
            Room(8 * GIB),
            [ONE, TWO, HOST],
            (
                "together: 13.00 GiB of 8.00 GiB memory; ai/one:1 and ai/host:1 fit at once, the"
                " least recently used is unloaded for another"
            ),
        ),
        (
            Room(6 * GIB),
            [ONE, TWO],
            (
                "together: 11.00 GiB of 6.00 GiB memory; one model fits at a time, the least"
                " recently used is unloaded for another"
            ),
        ),
        (
            Room(32 * GIB, GPU),
            [ONE, BIG, HOST],
            (
                "together: 14.00 GiB of 32.00 GiB memory, and 11.00 GiB of 8.00 GiB on CUDA0;"
                " ai/one:1 and ai/host:1 fit at once, the least recently used is unloaded"
                " for another"
            ),
        ),
        (
            Room(1 * GIB),
            [ONE, TWO],
            (
                "together: 11.00 GiB of 1.00 GiB memory; one model fits at a time, the least"
                " recently used is unloaded for another"
            ),
        ),
    ],
)
def test_what_fits_at_once_is_said(room, models, line):
    assert room.line(models) == line


def test_each_gpu_has_to_hold_the_models_whatever_there_is_in_all():
    two_gpus = (("CUDA0", 8 * GIB), ("CUDA1", 8 * GIB))
    other = model("ai/other:1", memory=7 * GIB, on_gpus=(("CUDA1", 7 * GIB),))
    assert Room(64 * GIB, two_gpus).holds([BIG, other])
    assert not Room(64 * GIB, two_gpus).holds([BIG, ONE])
    assert not Room(9 * GIB, two_gpus).holds([BIG, other])
