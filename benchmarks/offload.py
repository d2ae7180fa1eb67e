"""How far the plan of each device is from llama.cpp's own, for GPUs that only its planner sees.

    python benchmarks/offload.py [FOLDER]

FOLDER has `offload_models.json` and the rows of `offload_one_gpu.json`, `offload_several_gpus.json`
and `offload_fit.json`: bytes or MiB by device. Exit status 1 where a target is missed.
"""

import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.accuracy import DATA, Finding  # noqa: E402
from benchmarks.model_headers import header  # noqa: E402
from modelrunner.memory.devices.device import Device  # noqa: E402
from modelrunner.memory.fit import GPU_RESERVE, fit  # noqa: E402
from modelrunner.memory.model.shape import ModelShape  # noqa: E402
from modelrunner.memory.plan.load import Load  # noqa: E402
from modelrunner.memory.split import placement, shares_of  # noqa: E402

MIB = 1024 * 1024
NEAR = 64 * MIB
HOST = Device("host", "host", 512 << 30, 512 << 30, "cpu")


def gpus(free: list[int]) -> list[Device]:
    """GPUs with so many MiB free."""
    return [Device("GPU", "gpu", size * MIB, size * MIB, "cuda") for size in free]


def one_gpu(shapes: dict[str, ModelShape], rows: list[dict[str, Any]]) -> Iterator[Finding]:
    """The part of one GPU and of the host."""
    yield Finding("| one GPU | rows | within 64 MiB or 1 % | worst under | worst over |")
    yield Finding("|---|---|---|---|---|")
    whole = [row for row in rows if row["gpu_layers"] == row["layers"]]
    partly = [row for row in rows if row["gpu_layers"] < row["layers"]]
    for label, some in (("all layers on it", whole), ("none or half of them", partly)):
        found = [gpu_difference(shapes[row["model"]], row) for row in some]
        near = sum(
            abs(each) <= max(NEAR, row["gpu_bytes"] / 100)
            for each, row in zip(found, some, strict=True)
        )
        under, over = round(min(found) / MIB), round(max(found) / MIB)
        text = f"| {label} | {len(some)} | {near} | {under} MiB | {over} MiB |"
        yield Finding(text, near == len(some))


def gpu_difference(shape: ModelShape, row: dict[str, Any]) -> int:
    """Bytes on the GPU by the estimate, less those of the plan."""
    load = Load(row["context"], row["kv_type"], row["sequences"], row["ubatch"])
    placed = placement(shape, [1], layers=row["gpu_layers"], experts=0, shares=())
    held: int = shares_of(shape, load, placed)[0].total
    return held - int(row["gpu_bytes"])


def several_gpus(shapes: dict[str, ModelShape], rows: list[dict[str, Any]]) -> Iterator[Finding]:
    """What each of several GPUs holds, and verdicts at these sizes."""
    worst, over, refused, fitting, devices = 0.0, 0, 0, 0, 0
    for row in rows:
        shape, load, free = shapes[row["model"]], Load(row["context"]), row["memory_mib"]
        placed = placement(shape, free, layers=row["layers"], experts=0, shares=())
        for share, used in zip(shares_of(shape, load, placed), row["use_mib"], strict=False):
            worst = max(worst, abs(share.total / MIB / used - 1))
            devices += 1
        verdict = fit(shape, load, [*gpus(free), HOST], reserve=0).verdict
        really = all(used <= room for used, room in zip(row["use_mib"], free, strict=True))
        fitting += verdict == "fits"
        over += verdict == "fits" and not really
        roomy = [round(used * 1.1) + 1 for used in row["use_mib"]]
        shares = tuple(float(count) for count in layers_of(placed.layers, len(free)))
        split = replace(load, tensor_split=shares)
        refused += fit(shape, split, [*gpus(roomy), HOST], reserve=0).verdict != "fits"
    yield Finding(
        f"- several GPUs: {devices} devices of {len(rows)} rows, worst {100 * worst:.1f} %; "
        f'{over} of {fitting} "fits" overflow a device (target 0); '
        f"{refused} refused at 10 % headroom (target 0)",
        over == 0 and refused == 0,
    )


def layers_of(layers: tuple[int, ...], count: int) -> list[int]:
    """How many layers each GPU has."""
    return [layers.count(device) for device in range(count)]


def own_fit(shapes: dict[str, ModelShape], rows: list[dict[str, Any]]) -> Iterator[Finding]:
    """Verdicts after which llama.cpp's own fit, with the same margin, would move layers."""
    moved = fitting = 0
    for row in rows:
        devices = [*gpus([row["free_mib"]]), HOST]
        if fit(shapes[row["model"]], Load(row["context"]), devices).verdict == "fits":
            fitting += 1
            moved += row["free_mib"] - row["all_on_gpu_mib"] < GPU_RESERVE // MIB
    yield Finding(
        f'- {fitting} "fits" of {len(rows)} whole cards: llama.cpp\'s own fit moves layers of '
        f"{moved} (target 0)",
        moved == 0,
    )


def findings(folder: Path = DATA) -> Iterator[Finding]:
    """The table and the lines below it."""
    shapes = {
        model["name"]: ModelShape.from_header(header(model))
        for model in json.loads((folder / "offload_models.json").read_text())
    }

    def rows(name: str) -> list[dict[str, Any]]:
        found = json.loads((folder / f"offload_{name}.json").read_text())
        return [row for row in found if row["model"] in shapes]

    yield from one_gpu(shapes, rows("one_gpu"))
    yield Finding("")
    yield from several_gpus(shapes, rows("several_gpus"))
    yield from own_fit(shapes, rows("fit"))


def main() -> int:
    """Shows the table; 1 where a target is missed."""
    found = list(findings(Path(sys.argv[1]) if len(sys.argv) > 1 else DATA))
    print("\n".join(finding.text for finding in found))
    return 0 if all(finding.good for finding in found) else 1


if __name__ == "__main__":
    sys.exit(main())
