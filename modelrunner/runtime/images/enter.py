"""Starts a program of an unpacked image: isolated where the system allows that, else as it is.

Runs as a script on the standard library alone, below the supervisor, and becomes the program. Where
an unprivileged user may have namespaces, the image is the program's whole world, read-only: with
the devices of GPUs, the files that it was given, its own `/tmp` and `/home`, no rights, and no way
to connect to anybody (from Linux 6.7 on). Elsewhere a C library's loader starts it, with the
libraries of the image.
"""

import ctypes
import json
import os
import platform
import signal
import struct
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

_NEW_NAMESPACE = 0x00020000
_NEW_USER = 0x10000000
_READ_ONLY, _NO_SUID, _NO_DEVICES = 1, 2, 4
_REMOUNT, _BIND, _RECURSIVE, _PRIVATE = 32, 4096, 16384, 1 << 18
_DETACH = 2
_KEPT = {2: 2, 4: 4, 8: 8, 1024: 1024, 2048: 2048, 4096: 1 << 21}
"""Flags of a mount that may not be taken away, as `statvfs` and as `mount` have them."""
_PR_SET_PDEATHSIG, _PR_SET_NO_NEW_PRIVS = 1, 38
_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}
_LANDLOCK_CREATE, _LANDLOCK_RESTRICT = 444, 446
_LANDLOCK_VERSION = 1
_LANDLOCK_WITH_NETWORK = 4
_CONNECT_TCP = 2
_DEVICES = ("null", "zero", "full", "random", "urandom")
_GPUS = ("dri", "nvidia*", "kfd", "dxg", "mtgpu*", "accel")
_UID = 1000
_CANNOT_START = 127

_libc = ctypes.CDLL(None, use_errno=True)


def main() -> NoReturn:
    """Become what the order says, the only argument."""
    # trusted: our own parent's order
    order = json.loads(sys.argv[1])
    parent = os.getppid()
    try:
        isolated = order["isolate"] and _may_isolate(order)
        if isolated:
            _isolate(order)
        way = order["inside"] if isolated else order["outside"]
        os.chdir(way["directory"])
        if not order["connects"]:
            _forbid_connections()
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:
            os._exit(_CANNOT_START)
        environ = {**os.environ, **way["environ"]}
        os.execve(way["argv"][0], way["argv"], environ)  # noqa: S606 - no shell is the point
    except OSError as error:
        os.write(2, f"error: cannot start {order['name']}: {error}\n".encode())
    os._exit(_CANNOT_START)


def _may_isolate(order: dict[str, Any]) -> bool:
    """Try it in a child: what is begun cannot be taken back."""
    child = os.fork()
    if child:
        return os.waitpid(child, 0)[1] == 0
    try:
        _isolate(order)
        os.chdir(order["inside"]["directory"])
        os._exit(0 if os.access(order["inside"]["argv"][0], os.X_OK) else 1)
    except BaseException:  # noqa: BLE001 - whatever it is, it does not work
        os._exit(1)


def _isolate(order: dict[str, Any]) -> None:
    uid, gid = os.getuid(), os.getgid()
    _check(_libc.unshare(_NEW_USER | _NEW_NAMESPACE), "unshare")
    with suppress(FileNotFoundError):
        _write("/proc/self/setgroups", "deny")
    # no root in there either: the program loses every right when it starts
    _write("/proc/self/gid_map", f"{_UID} {gid} 1")
    _write("/proc/self/uid_map", f"{_UID} {uid} 1")
    _mount("none", "/", "", _RECURSIVE | _PRIVATE)
    top = Path(order["top"])
    _tmpfs(top)
    shown = [(Path(place), Path(there), writes) for place, there, writes in order["shown"]]
    (top / "tmp").mkdir()
    _tmpfs(top / "tmp")
    _make_devices(top / "dev")
    for name in ("proc", "sys"):
        (top / name).mkdir()
        _mount(f"/{name}", str(top / name), "", _BIND | _RECURSIVE)
    taken = {"proc", "sys", "dev", "tmp"}
    _fill(Path(order["root"]), top, [(there.parts[1:], place) for place, there, _ in shown], taken)
    for _, there, writes in shown:
        if not writes:
            _make_read_only(top / Path(*there.parts[1:]))
    _make_read_only(top)
    os.chdir(top)
    _pivot_root()
    os.chdir("/")
    _check(_libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "prctl")


def _fill(
    source: Path | None,
    target: Path,
    shown: list[tuple[tuple[str, ...], Path]],
    taken: set[str],
) -> None:
    """Show what a directory of the image has, and files of the machine in it or below."""
    names = {parts[0] for parts, _ in shown}
    if source is not None:
        for entry in os.scandir(source):
            if entry.name not in names | taken:
                _show(Path(entry.path), target / entry.name)
                if not entry.is_symlink():
                    _make_read_only(target / entry.name)
    for name in names:
        whole = next((place for parts, place in shown if parts == (name,)), None)
        if whole is not None:
            _show(whole, target / name)
            continue
        below = [(parts[1:], place) for parts, place in shown if parts[0] == name]
        inside = None if source is None else source / name
        has = inside is not None and inside.is_dir() and not inside.is_symlink()
        (target / name).mkdir(exist_ok=True)
        # `/tmp` is its own, whatever the image has there
        _fill(inside if has and name not in taken else None, target / name, below, set())


def _show(source: Path, target: Path) -> None:
    if source.is_symlink():
        target.symlink_to(source.readlink())
        return
    if source.is_dir():
        target.mkdir(exist_ok=True)
    else:
        target.touch()  # outside: in a file system of its own
    _mount(str(source), str(target), "", _BIND | _RECURSIVE)


def _make_devices(folder: Path) -> None:
    folder.mkdir()
    _tmpfs(folder)
    (folder / "shm").mkdir()
    _tmpfs(folder / "shm")
    # outside: devices of the machine, by their names
    there = Path("/dev")
    for name in _DEVICES:
        if (there / name).exists():
            _show(there / name, folder / name)
    for pattern in _GPUS:
        for place in there.glob(pattern):
            _show(place, folder / place.name)
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        (folder / name).symlink_to(f"/proc/self/fd/{number}")
    (folder / "fd").symlink_to("/proc/self/fd")


def _make_read_only(path: Path) -> None:
    has = os.statvfs(path).f_flag
    kept = sum(flag for said, flag in _KEPT.items() if has & said)
    flags = _REMOUNT | _BIND | _READ_ONLY | _NO_SUID | kept
    # the directories of devices are mounts of their own
    _mount("none", str(path), "", flags)


def _tmpfs(path: Path) -> None:
    _mount("none", str(path), "tmpfs", _NO_SUID | _NO_DEVICES)


def _mount(source: str, target: str, kind: str, flags: int) -> None:
    done = _libc.mount(
        source.encode(), os.fsencode(target), kind.encode() or None, ctypes.c_ulong(flags), None
    )
    _check(done, f"mount {target}")


def _pivot_root() -> None:
    number = _PIVOT_ROOT.get(platform.machine())
    if number is None:
        raise OSError(0, "this processor's system calls are not known")
    _check(_libc.syscall(number, b".", b"."), "pivot_root")
    _check(_libc.umount2(b".", _DETACH), "umount")


def _forbid_connections() -> None:
    """Let nobody be connected to over TCP, where the kernel can; to be connected to is allowed."""
    version = _libc.syscall(_LANDLOCK_CREATE, None, 0, _LANDLOCK_VERSION)
    if version < _LANDLOCK_WITH_NETWORK:
        return
    rules = struct.pack("=QQ", 0, _CONNECT_TCP)
    handle = _libc.syscall(_LANDLOCK_CREATE, rules, ctypes.c_size_t(len(rules)), 0)
    if handle < 0:
        return
    _libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    _libc.syscall(_LANDLOCK_RESTRICT, handle, 0)
    os.close(handle)


def _write(path: str, text: str) -> None:
    # outside: the kernel's
    handle = os.open(path, os.O_WRONLY)
    try:
        os.write(handle, text.encode())
    finally:
        os.close(handle)


def _check(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


if __name__ == "__main__":
    main()
