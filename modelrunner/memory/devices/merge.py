"""One device once, whatever reports it: a driver by its address, a runtime or two by name."""

import re
from collections.abc import Iterable, Iterator, Sequence

from modelrunner.frozen import replace
from modelrunner.memory.devices.device import Device

NAMELESS = {"cuda": "NVIDIA GPU", "rocm": "AMD GPU", "metal": "Apple GPU"}
"""What a GPU is called where its driver has no name for it."""

_MAKERS = {
    "nvidia": re.compile(r"nvidia|geforce|quadro|tesla|\brtx\b|\bgtx\b", re.IGNORECASE),
    "amd": re.compile(r"\bamd\b|radeon|instinct|\bgfx\d", re.IGNORECASE),
    "apple": re.compile(r"apple", re.IGNORECASE),
    "intel": re.compile(r"\bintel|\barc\b", re.IGNORECASE),
}
_MAKER_OF = {"cuda": "nvidia", "rocm": "amd", "metal": "apple"}
_BRANDS = r"(?i)\((?:r|tm|c)\)|\([^)]*\)|\b(?:nvidia|amd|radeon|geforce|intel|graphics)\b"
_NEAR = 0.1
"""Totals of one device differ by this part at most: drivers keep some for themselves."""


def merged(lists: Iterable[Sequence[Device]]) -> list[Device]:
    """The devices of all lists, each once.

    A list has a device once for each of its backends. The first report is the best: sizes and
    backend are theirs, and a later list adds what they did not know.
    """
    known: list[Device] = []
    for listed in lists:
        taken: set[tuple[str, int]] = set()
        for device in listed:
            place = _place(device, known, taken)
            if place is None:
                place = len(known)
                known.append(device)
            else:
                known[place] = _joined(known[place], device)
            taken.add((device.backend, place))
    return known


def matched(
    listed: Sequence[Device], known: Sequence[Device]
) -> Iterator[tuple[Device, Device | None]]:
    """Return each device of one list with the known one that it is, or None."""
    taken: set[tuple[str, int]] = set()
    for device in listed:
        place = _place(device, known, taken)
        if place is not None:
            taken.add((device.backend, place))
        yield device, None if place is None else known[place]


def _place(device: Device, known: Sequence[Device], taken: set[tuple[str, int]]) -> int | None:
    free = [i for i in range(len(known)) if (device.backend, i) not in taken]
    at_address = [i for i in free if device.pci and known[i].pci == device.pci]
    alike = [i for i in free if _alike(known[i], device)]
    # an RTX 4070 Ti is like an RTX 4070, and more like itself
    alike.sort(key=lambda i: _distance(known[i], device))
    return next(iter(at_address + alike), None)


def _alike(known: Device, other: Device) -> bool:
    """Whether both may be one, where addresses do not answer."""
    if known.pci and other.pci:
        return known.pci == other.pci
    if _is_nameless(known) or _is_nameless(other):
        return maker_of(known) == maker_of(other)
    a, b = _core(known.name), _core(other.name)
    if not a or not b:
        return maker_of(known) == maker_of(other) and _near(known, other)
    if known.shared or other.shared:
        return a == b  # what an integrated GPU has depends on who is asked
    return (a in b or b in a) and _near(known, other)


def _distance(known: Device, other: Device) -> tuple[bool, int]:
    return _core(known.name) != _core(other.name), abs(known.total_bytes - other.total_bytes)


def _is_nameless(device: Device) -> bool:
    return NAMELESS.get(device.backend) == device.name


def _near(one: Device, other: Device) -> bool:
    most = max(one.total_bytes, other.total_bytes)
    return abs(one.total_bytes - other.total_bytes) <= _NEAR * most


def maker_of(device: Device) -> str:
    """Return who has made a GPU: `nvidia`, `amd`, `intel`, `apple`, or nothing."""
    if device.backend in _MAKER_OF:
        return _MAKER_OF[device.backend]
    return next((maker for maker, sign in _MAKERS.items() if sign.search(device.name)), "")


def _core(name: str) -> str:
    """The name without brands, what stands in brackets, and case."""
    return " ".join(re.sub(_BRANDS, " ", name).casefold().split())


def _joined(known: Device, other: Device) -> Device:
    name = other.name if _is_nameless(known) else known.name
    sources = tuple(dict.fromkeys([*known.sources, *other.sources]))
    return replace(
        known,
        name=name,
        pci=known.pci or other.pci,
        shared=known.shared or other.shared,
        sources=sources,
    )
