"""Whether a model fits, in one sentence: the same before a run, after a pull and in an estimate."""

from modelrunner.memory.fit import Fit
from modelrunner.units import counted, format_size

MEASURED = "measured earlier on this machine"


def fit_sentence(fit: Fit, needed: int, place: str | None, *, measured: bool) -> str:
    """Say whether it fits, how much it needs, and of what.

    Args:
        fit: The verdict.
        needed: Bytes that it takes.
        place: What it has to fit into, such as `8.00 GiB memory`; None where that is not known.
        measured: Whether a runtime reported these bytes when the model ran here.
    """
    size = format_size(needed)
    of = f" of {place}" if place else ""
    match fit.verdict:
        case "fits":
            said = f"fits, needs {size}{of}"
        case "maybe":
            said = f"may fit, needs {size}{of}"
        case "partial" if fit.cpu_moe_layers:
            host = sum(held.need_bytes for held in fit.devices if held.kind == "host")
            experts = f"the experts of {counted(fit.cpu_moe_layers, 'layer')} in host memory"
            there = f" ({format_size(host)} there)" if host else ""
            said = f"fits partly on the GPU, {experts}{there}: needs {size}{of}"
        case "partial" if fit.host_only:
            said = f"fits into host memory alone, the GPU has too little free: needs {size}{of}"
        case "partial":
            said = f"fits partly on the GPU, {fit.gpu_layers} layers: needs {size}{of}"
        case "no":
            said = f"does not fit: needs {size}{of}"
        case _:
            said = f"needs at least {size}{of}, the rest is unknown"
    return f"{said} ({MEASURED})" if measured else said


def memory_of(fit: Fit, budget: int | None, *, has_gpu: bool) -> str | None:
    """What a model has to fit into, in words; None where nothing is known of it.

    Args:
        fit: The verdict.
        budget: Bytes, where the fit names none.
        has_gpu: Whether a GPU is among the devices.
    """
    size = fit.budget_bytes or budget
    if size is None:
        return None
    # what is partly on the GPU has the host's memory too
    on_gpu = has_gpu and fit.gpu_layers and fit.verdict != "partial"
    return f"{format_size(size)} {'GPU memory' if on_gpu else 'memory'}"
