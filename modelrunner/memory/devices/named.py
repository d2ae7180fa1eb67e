"""Devices in words: names, counts and sizes, such as `2x RTX 4090 + ram:64GiB`."""

import re
from collections.abc import Iterator

from modelrunner.frozen import replace
from modelrunner.memory.devices.device import Device, metal_share
from modelrunner.memory.devices.gpus import FAMILIES, SEEN_OF_SHARED, SHARED, TWO_DEVICES
from modelrunner.text import suggest
from modelrunner.units import parse_size

HOST = "host memory"
"""What host memory that was named is called."""

MOST = 64
"""GPUs that can be named at once."""

_GIB, _MIB = 1024**3, 1024**2
_NEAR = 0.13
"""How far the size in a name may be from what a driver shows, as a fraction."""

_COUNT = r"(?i)(\d{1,2}) ?[x*] ?(.{2,})"
_COUNT_BEHIND = r"(?i)(.{2,}) [x*] ?(\d{1,2})"
_SIZE = r"(?i)\d+(?:\.\d+)? ?[kmgt]i?b?"
_HOST = r"(?i)(?:ram|host|cpu|memory) ?[:=] ?(.+)"
_IN_NAME = r"(\d+)g(?:i?b)?"
_ASIDE = r"\([^)]*\)|[®™]| w/.*| / .*"
_BRANDS = (
    r"nvidia|geforce|amd|radeon|instinct|tesla|intel|apple|jetson|graphics|gpu|generation|edition"
    r"|workstation|server|max-q|sxm\d?|pcie|hbm\w*|data|center|series|with|oem|processor"
)
_KNOWN: dict[str, tuple[str, str, int, bool]] = {
    **{
        name.casefold().replace(" ", ""): (name, backend, size, False)
        for backend, sizes in FAMILIES
        for name, size in sizes.items()
    },
    **{
        name.casefold().replace(" ", ""): (name, backend, size, True)
        for backend, sizes in SHARED
        for name, size in sizes.items()
    },
}
_SOURCES = ("the vendors' table",)


class UnknownDeviceError(ValueError):
    """A part of the text that is neither a known name nor a size; `near` are known names."""

    def __init__(self, part: str, near: str | None) -> None:
        super().__init__(part)
        self.part = part
        self.near = near


def known_gpus() -> tuple[str, ...]:
    """The names that `devices_by_name` understands."""
    return tuple(name for name, *_ in _KNOWN.values())


def devices_by_name(text: str) -> list[Device]:
    """Devices with nothing on them: GPUs in the order of the text, then the host.

    Names, sizes of GPUs and `ram:SIZE` are joined by `+`; `2x` before one of them stands for two.
    The host is left out if its memory is not named and no GPU shares it.

    Raises:
        UnknownDeviceError: A part is neither a known name nor a size.
    """
    gpus: list[Device] = []
    host = shared = 0
    for part in _parts(text):
        matched = re.fullmatch(_HOST, part)
        if matched:
            host += _size(matched[1], part)
            continue
        count, name = _counted(part)
        found, memory = _named(name)
        gpus += found * count
        shared = max(shared, memory)
        if len(gpus) > MOST:
            raise UnknownDeviceError(part, f"name at most {MOST} GPUs")
    host = host or shared
    own = [Device(HOST, "host", host, host, "cpu")] if host else []
    return [*(_within(gpu, host) for gpu in gpus), *own]


def gpu_by_name(name: str) -> Device | None:
    """One GPU with all of its memory free, or None for a name that is not known.

    Brands, case and spaces do not matter, nor do the words that drivers add: `rtx4070`,
    `NVIDIA GeForce RTX 4070`, `A100-SXM4-40GB`, `Tesla V100-PCIE-16GB`.
    """
    try:
        found, _ = _named(name)
    except UnknownDeviceError:
        return None
    return found[0]


def _within(gpu: Device, host: int) -> Device:
    """A GPU that shares the host's memory cannot have more of it than there is."""
    if not gpu.shared:
        return gpu
    size = min(gpu.total_bytes, host)
    return replace(gpu, total_bytes=size, free_bytes=size)


def _parts(text: str) -> Iterator[str]:
    # the one name with a plus in it: Ryzen AI Max+ 395
    for part in re.sub(r"(?i)(ai max)\+", r"\1", text).split("+"):
        cleaned = " ".join(part.split())
        if not cleaned:
            raise UnknownDeviceError(part, None)
        yield cleaned


def _counted(part: str) -> tuple[int, str]:
    before = re.fullmatch(_COUNT, part)
    if before and int(before[1]) and _key(part) not in _KNOWN:
        return int(before[1]), before[2]
    behind = re.fullmatch(_COUNT_BEHIND, part)
    if behind and int(behind[2]) and _key(part) not in _KNOWN:
        return int(behind[2]), behind[1]
    return 1, part


def _size(text: str, part: str) -> int:
    if not re.fullmatch(_SIZE, text):
        raise UnknownDeviceError(part, None)
    size = parse_size(text)
    if not size:
        raise UnknownDeviceError(part, None)
    return size


def _words(name: str) -> list[str]:
    words = re.split(r"[\s/_,-]+", re.sub(_ASIDE, " ", name.casefold().replace("max-q", " ")))
    return [word for word in words if word and not re.fullmatch(_BRANDS, word)]


def _key(name: str) -> str:
    return "".join(_words(name))


def _named(name: str) -> tuple[list[Device], int]:
    """The GPUs of a name or a size, and the bytes of the host's memory that they share."""
    if re.fullmatch(_SIZE, name) and _key(name) not in _KNOWN:
        size = _size(name, name)
        return [Device(f"GPU of {name}", "gpu", size, size, "cuda")], 0
    words = _words(name)
    key = "".join(words)
    sizes = [int(part[1]) for word in words if (part := re.fullmatch(_IN_NAME, word))]
    plain = "".join(word for word in words if not re.fullmatch(_IN_NAME, word))
    found = next(filter(None, map(_KNOWN.get, _spellings(key))), None)
    if found is not None:
        shown, backend, size, shared = found
        return _devices(shown, backend, size, shared=shared)
    found = next(filter(None, map(_KNOWN.get, _spellings(plain))), None)
    if found is None:
        raise UnknownDeviceError(name, suggest(name, known_gpus()))
    shown, backend, size, shared = found
    printed = sizes[0] if sizes else 0
    whole = 1 if shared else 1024
    if printed and abs(size / whole / printed - 1) > _NEAR:
        size = printed * whole
    return _devices(shown, backend, size, shared=shared)


def _spellings(key: str) -> Iterator[str]:
    """A name without the word before its number, and without that of its generation."""
    for start in ("", "rtx", "rx", "gtx", "arc", "arcpro", "rtxpro", "quadro", "ryzenai"):
        yield start + key
        yield f"{start}{key}blackwell"
        yield start + key.removesuffix("blackwell").removesuffix("founders")


def _devices(name: str, backend: str, size: int, *, shared: bool) -> tuple[list[Device], int]:
    if not shared:
        found = Device(name, "gpu", size * _MIB, size * _MIB, backend, sources=_SOURCES)
        return [found] * (2 if name in TWO_DEVICES else 1), 0
    memory = SEEN_OF_SHARED[name] * _MIB if name in SEEN_OF_SHARED else size * _GIB
    usable = metal_share(memory) if backend == "metal" else memory
    gpu = Device(name, "gpu", usable, usable, backend, shared=True, sources=_SOURCES)
    return [gpu], memory
