"""A unit for systemd: the `llama-server` of the machine, over a model of the store here.

The directory of the model alone is mounted, read-only, on an empty file system: so a user that is
nobody finds it even below a home that is closed, and finds nothing else there. The directory is
named by the digest.
"""

import ipaddress
import os
from pathlib import Path, PurePosixPath

from modelrunner.errors import UsageError
from modelrunner.operations.export.plan import MIB, ExportPlan
from modelrunner.operations.export.unit_text import Entries, command, text, unit, word
from modelrunner.runtime.child.ports import LOOPBACK

_MOUNT = PurePosixPath("/mnt")
_MODEL = _MOUNT / "model"
_HARDENING = [
    ("DynamicUser", "yes"),
    ("NoNewPrivileges", "yes"),
    ("CapabilityBoundingSet", ""),
    ("AmbientCapabilities", ""),
    ("ProtectSystem", "strict"),
    ("ProtectHome", "yes"),
    ("PrivateTmp", "yes"),
    ("PrivateDevices", "yes"),
    ("ProtectClock", "yes"),
    ("ProtectControlGroups", "yes"),
    ("ProtectHostname", "yes"),
    ("ProtectKernelLogs", "yes"),
    ("ProtectKernelModules", "yes"),
    ("ProtectKernelTunables", "yes"),
    ("ProtectProc", "invisible"),
    ("LockPersonality", "yes"),
    ("RemoveIPC", "yes"),
    ("RestrictNamespaces", "yes"),
    ("RestrictRealtime", "yes"),
    ("RestrictSUIDSGID", "yes"),
    ("RestrictAddressFamilies", "AF_INET AF_INET6 AF_UNIX"),
    ("SystemCallArchitectures", "native"),
    ("SystemCallFilter", "@system-service"),
    ("SystemCallFilter", "~@privileged"),
    ("UMask", "0077"),
]
_HIDDEN = ("/home/", "/root/", "/run/user/")
"""What `ProtectHome=yes` empties, by systemd.exec(5): these, wherever the homes of users are."""

INSTALL = [("WantedBy", "multi-user.target")]
ON_CPU = "It runs on the CPU: a GPU needs PrivateDevices=no and its devices in DeviceAllow=."


def files(plan: ExportPlan) -> dict[str, str]:
    """The files by their names.

    Raises:
        UsageError: The directory of the store has a name that cannot be mounted by a unit.
    """
    folder = _mountable(plan.folder)
    how = plan.notes(
        how_to_install(plan.name),
        f"The model must stay in the local store: `modelrunner pull {plan.pinned.short}` "
        "restores it.",
        ON_CPU,
    )
    sections: dict[str, Entries] = {
        "Unit": [
            ("Description", text(plan.alias)),
            ("After", "network.target"),
            ("AssertPathIsDirectory", text(folder)),
        ],
        "Service": [
            ("Type", "exec"),
            ("ExecStart", _start(plan)),
            *(("Environment", word(f"{name}={value}")) for name, value in _environment(plan)),
            ("TemporaryFileSystem", f"{_MOUNT}:ro"),
            ("BindReadOnlyPaths", f"{text(folder)}:{_MODEL}"),
            *bounded(plan.limit),
            *_network(plan),
            ("Restart", "on-failure"),
            ("RestartSec", "5"),
        ],
        "Install": INSTALL,
    }
    return {f"{plan.name}.service": unit(sections, how)}


def hidden(program: str) -> str | None:
    """Return why a service cannot start a program; None for nothing that is known."""
    # a command of an environment may be a link to what a tool has put into a home
    places = dict.fromkeys((program, os.path.realpath(program)))
    found = next((place for place in places if place.startswith(_HIDDEN)), None)
    if found is None:
        return None
    shown = "" if found == program else f" a link to {found},"
    return (
        f"{program} is{shown} in a home directory, which the service cannot see: install it"
        " elsewhere, such as in /opt, and name it with --program"
    )


def how_to_install(name: str) -> str:
    """Return the note about where a unit goes."""
    return (
        f"Install: copy it to /etc/systemd/system/{name}.service; then run `systemctl"
        f" daemon-reload` and `systemctl enable --now {name}`."
    )


def bounded(memory: int) -> list[tuple[str, str]]:
    """What takes from a service all that it does not need.

    Args:
        memory: Bytes that it may use.
    """
    return [
        ("MemoryMax", f"{memory // MIB}M"),
        ("MemorySwapMax", "0"),
        ("TasksMax", "1024"),
        *_HARDENING,
    ]


def _start(plan: ExportPlan) -> str:
    return command([plan.program, *plan.arguments(_MODEL, LOOPBACK, plan.port)])


def _environment(plan: ExportPlan) -> list[tuple[str, str]]:
    return list(plan.environment().items())


def _network(plan: ExportPlan) -> list[tuple[str, str]]:
    """Only this machine reaches it, and it reaches only this one and those that compute for it."""
    hosts = [place.partition(":")[0] for place in (plan.rpc or "").split(",") if place]
    if not all(map(_is_address, hosts)):
        # names can be filtered by nobody but who looks them up
        return []
    allowed = sorted({each for each in hosts if each != LOOPBACK})
    return [("IPAddressDeny", "any"), ("IPAddressAllow", " ".join(["localhost", *allowed]))]


def _is_address(host: str) -> bool:
    try:
        ipaddress.IPv4Address(host)
    except ValueError:
        return False
    return True


def _mountable(folder: Path | None) -> str:
    name = str(folder)
    # a colon ends a path there, quotes and backslashes are read twice
    if any(mark.isspace() or not mark.isprintable() or mark in ":\"'\\" for mark in name):
        raise UsageError(
            f"systemd cannot mount {name!r}",
            hint="use a store path without blanks, colons, quotes and backslashes: "
            "MODELRUNNER_HOME=/srv/modelrunner",
        )
    return name
