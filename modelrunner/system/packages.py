"""The command of this system's package manager that installs what a wheel cannot bring.

Used by `make` before any library is installed: nothing but the standard library is imported.
"""

import os
import re
import shlex
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from modelrunner.frozen import frozen

_RELEASES = (Path("/etc/os-release"), Path("/usr/lib/os-release"))
_APT_LISTS = Path("/var/lib/apt/lists")
_LONGEST = 64 * 1024
_FIELD = re.compile(r"^([A-Z_]+)=(.*)$", re.MULTILINE)

_MANAGERS = {
    "debian": "apt-get",
    "ubuntu": "apt-get",
    "fedora": "dnf",
    "rhel": "dnf",
    "centos": "dnf",
    "amzn": "dnf",
    "alpine": "apk",
    "wolfi": "apk",
    "chainguard": "apk",
    "arch": "pacman",
    "suse": "zypper",
    "opensuse": "zypper",
    "sles": "zypper",
}
"""The package manager of a distribution, by `ID` or `ID_LIKE` of os-release(5)."""

_INSTALL = {
    "apt-get": "apt-get install",
    "dnf": "dnf install",
    "microdnf": "microdnf install",
    "yum": "yum install",
    "apk": "apk add",
    "pacman": "pacman -S",
    "zypper": "zypper install",
}
_LIKE_DNF = ("dnf", "microdnf", "yum")

_NAMES: Mapping[str, Mapping[str, str]] = {
    "libgomp.so.1": {
        "apt-get": "libgomp1",
        "dnf": "libgomp",
        "apk": "libgomp",
        "pacman": "gcc-libs",
        "zypper": "libgomp1",
    },
    "libstdc++.so.6": {
        "apt-get": "libstdc++6",
        "dnf": "libstdc++",
        "apk": "libstdc++",
        "pacman": "gcc-libs",
        "zypper": "libstdc++6",
    },
    "libgcc_s.so.1": {
        "apt-get": "libgcc-s1",
        "dnf": "libgcc",
        "apk": "libgcc",
        "pacman": "gcc-libs",
        "zypper": "libgcc_s1",
    },
    "libatomic.so.1": {
        "apt-get": "libatomic1",
        "dnf": "libatomic",
        "apk": "libatomic",
        "pacman": "gcc-libs",
        "zypper": "libatomic1",
    },
    "libcurl.so.4": {
        "apt-get": "libcurl4",
        "dnf": "libcurl",
        "apk": "libcurl",
        "pacman": "curl",
        "zypper": "libcurl4",
    },
    "libssl.so.3": {
        "apt-get": "libssl3",
        "dnf": "openssl-libs",
        "apk": "libssl3",
        "pacman": "openssl",
        "zypper": "libopenssl3",
    },
    "libcrypto.so.3": {
        "apt-get": "libssl3",
        "dnf": "openssl-libs",
        "apk": "libcrypto3",
        "pacman": "openssl",
        "zypper": "libopenssl3",
    },
    "libvulkan.so.1": {
        "apt-get": "libvulkan1",
        "dnf": "vulkan-loader",
        "apk": "vulkan-loader",
        "pacman": "vulkan-icd-loader",
        "zypper": "libvulkan1",
    },
    "libOpenCL.so.1": {
        "apt-get": "ocl-icd-libopencl1",
        "dnf": "ocl-icd",
        "apk": "opencl-icd-loader",
        "pacman": "ocl-icd",
        "zypper": "libOpenCL1",
    },
    "libopenblas.so.0": {
        "apt-get": "libopenblas0",
        "dnf": "openblas",
        "apk": "openblas",
        "pacman": "openblas",
        "zypper": "libopenblas0",
    },
    "ca-certificates": dict.fromkeys(
        ("apt-get", "dnf", "apk", "pacman", "zypper"), "ca-certificates"
    ),
}
"""The package that has a library, by the name that the loader looks for."""

_BEYOND_PACKAGES = (
    (
        re.compile(r"libcuda\.so|libnvidia-"),
        "install NVIDIA's driver; in a container, start it with the GPU (`docker run --gpus all`)",
    ),
    (
        re.compile(r"lib(?:cudart|cublas\w*|nvrtc|nccl|cufft|curand)\.so"),
        "install the CUDA runtime of this major version, or a runtime built for the CPU",
    ),
    (
        re.compile(r"lib(?:amdhip64|hipblas\w*|rocblas|hsa-runtime64|rocsolver)\.so"),
        "install AMD's ROCm of this version, or a runtime built for the CPU",
    ),
    (
        re.compile(r"^ld-(?:linux|musl)"),
        "use a build for the C library of this system: glibc's and musl's do not mix",
    ),
    (
        re.compile(r"lib(?:ggml|llama|mtmd)\b"),
        "unpack the whole llama.cpp build: this library belongs beside the program",
    ),
)


@frozen
class System:
    """What decides how packages are installed.

    Attributes:
        manager: The package manager; None where it is not known.
        privileged: Whether packages can be installed without sudo.
        has_lists: Whether the package manager knows which packages there are: images for
            containers come without.
    """

    manager: str | None
    privileged: bool = True
    has_lists: bool = True

    @classmethod
    def current(cls) -> "System":
        """This one."""
        manager = manager_of(_os_release())
        if manager in _LIKE_DNF:
            manager = next((name for name in _LIKE_DNF if shutil.which(name)), manager)
        lists = manager != "apt-get" or any(_APT_LISTS.glob("*_Packages*"))
        return cls(manager, privileged=os.geteuid() == 0, has_lists=lists)

    def install(self, libraries: Sequence[str]) -> str | None:
        """The command that installs the packages of these libraries; None where one is unknown."""
        family = "dnf" if self.manager in _LIKE_DNF else self.manager
        if self.manager is None or family is None:
            return None
        packages = [_NAMES.get(library, {}).get(family) for library in libraries]
        known = dict.fromkeys(filter(None, packages))
        if not known or not all(packages):
            return None
        return self.install_packages(list(known))

    def install_packages(self, packages: Sequence[str]) -> str | None:
        """The command that installs packages by their names in this system."""
        if self.manager is None:
            return None
        sudo = "" if self.privileged else "sudo "
        before = "" if self.has_lists else f"{sudo}apt-get update && "
        return f"{before}{sudo}{_INSTALL[self.manager]} {' '.join(map(shlex.quote, packages))}"


def manager_of(os_release: str) -> str | None:
    """The package manager of a distribution, by the text of its os-release(5)."""
    fields = {name: value.strip().strip("'\"") for name, value in _FIELD.findall(os_release)}
    families = [fields.get("ID", ""), *fields.get("ID_LIKE", "").split()]
    # `opensuse-leap` is what `opensuse` is
    families += [family.partition("-")[0] for family in families]
    return next((_MANAGERS[family] for family in families if family in _MANAGERS), None)


def advice(libraries: Sequence[str], system: System | None = None) -> str:
    """What to do where these libraries are missing."""
    command = (system or System.current()).install(libraries)
    if command is not None:
        return f"`{command}`"
    for sign, message in _BEYOND_PACKAGES:
        if any(sign.search(library) for library in libraries):
            return message
    debian, fedora, alpine = (
        System(manager).install(libraries) for manager in ("apt-get", "dnf", "apk")
    )
    if debian and fedora and alpine:
        return f"`{debian}` on Debian and Ubuntu, `{fedora}` on Fedora, `{alpine}` on Alpine"
    return f"install the system package that has {' and '.join(libraries)}"


def certificates_advice(system: System | None = None) -> str:
    """What to do where a certificate is not trusted: slim systems have no authorities at all."""
    # few connections fail, and it takes its time
    import ssl

    paths = ssl.get_default_verify_paths()
    file, folder = (Path(path) if path else None for path in (paths.cafile, paths.capath))
    has_some = (file is not None and file.is_file()) or (
        folder is not None and folder.is_dir() and any(folder.iterdir())
    )
    if has_some:
        return "for a private authority set SSL_CERT_FILE"
    command = advice(["ca-certificates"], system)
    return f"this system has no certificate authorities; install them: {command}"


def _os_release() -> str:
    for file in _RELEASES:
        try:
            # outside: a file of the system
            return file.read_bytes()[:_LONGEST].decode(errors="replace")
        except OSError:
            continue
    return ""
