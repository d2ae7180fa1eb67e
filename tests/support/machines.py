"""Machines that are not this one: the kernel's files, drivers' tools and runtimes, as scripts."""

import json
from dataclasses import dataclass
from pathlib import Path

GIB = 1024**3
MIB = 1024**2


@dataclass(frozen=True)
class Machine:
    """A folder with `dev`, `proc`, `sys` and `bin`.

    Attributes:
        root: The folder; commands take it from `TESTED_MACHINE`, see `forked_parent`.
    """

    root: Path

    @classmethod
    def at(cls, root: Path, *, memory: int = 64) -> "Machine":
        """One without a GPU, with so many GiB, half of them free."""
        kib = memory << 20
        write(root / "proc/meminfo", f"MemTotal: {kib} kB\nMemAvailable: {kib // 2} kB\n")
        (root / "bin").mkdir(parents=True)
        return cls(root)

    @property
    def bin(self) -> Path:
        """Where its programs are."""
        return self.root / "bin"

    def nvidia(self, *gpus: tuple[str, int, str]) -> "Machine":
        """With NVIDIA's driver, and GPUs of a name, so many MiB, and an address."""
        write(self.root / "dev/nvidiactl", "")
        write(self.root / "proc/driver/nvidia/version", "NVRM version: 580.95.05\n")
        lines = "\n".join(f"{name}, {size}, {size - 300}, {pci}" for name, size, pci in gpus)
        self.program("nvidia-smi", f"cat <<'END'\n{lines}\nEND")
        return self

    def amd(self, name: str, size: int, pci: str, *, compute: bool = True) -> "Machine":
        """With AMD's driver, for ROCm or for graphics alone, and a GPU of so many MiB."""
        if compute:
            write(self.root / "dev/kfd", "")
        self.card("0x1002", pci)
        device = self.root / "sys/devices" / pci
        write(device / "mem_info_vram_total", f"{size * MIB}\n")
        write(device / "mem_info_vram_used", f"{300 * MIB}\n")
        write(device / "product_name", f"{name}\n")
        return self

    def card(self, vendor: str, pci: str) -> "Machine":
        """With a GPU that the kernel has a driver for, and that nobody says more of."""
        number = len([*(self.root / "dev/dri").glob("renderD*")])
        write(self.root / f"dev/dri/renderD{128 + number}", "")
        device = self.root / "sys/devices" / pci
        write(device / "vendor", f"{vendor}\n")
        for name in (f"card{number}", f"renderD{128 + number}"):
            link = self.root / "sys/class/drm" / name / "device"
            link.parent.mkdir(parents=True)
            link.symlink_to(device)
        return self

    def llama_server(self, *devices: str) -> Path:
        """A `llama-server` that lists these devices; how often it was asked is in `asked`."""
        lines = "\n".join(["Available devices:", *(f"  {device}" for device in devices)])
        return self.program(
            "llama-server",
            f'test "$*" = --list-devices || exit 9\necho >>{self.root}/asked\n'
            f"cat <<'END'\n{lines}\nEND",
        )

    def python_package(self, module: str, *devices: dict[str, object]) -> Path:
        """A folder with an `xllamacpp` that lists these devices."""
        folder = self.root / "packages"
        listed = [
            {"memory_total": size, "memory_free": size, "device_id": "", **device}
            for device in devices
            for size in [device.pop("size", GIB)]
        ]
        write(
            folder / module / "__init__.py",
            f"import json\ndef get_device_info():\n    return json.loads({json.dumps(listed)!r})\n",
        )
        return folder

    def program(self, name: str, script: str) -> Path:
        """A program of this machine."""
        path = self.bin / name
        write(path, f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        return path

    @property
    def times_asked(self) -> int:
        """How often `llama-server` has listed its devices."""
        asked = self.root / "asked"
        return len(asked.read_text().splitlines()) if asked.exists() else 0


def write(path: Path, text: str) -> None:
    """Makes a file in folders that may be missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


RTX_4070 = ("NVIDIA GeForce RTX 4070", 12282, "00000000:01:00.0")
CUDA0 = "CUDA0: NVIDIA GeForce RTX 4070 (12282 MiB, 11000 MiB free)"
