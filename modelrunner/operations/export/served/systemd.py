"""A unit for systemd: this program of the machine, with a store and a user of its own.

The key is a credential: systemd reads the file as root, and shows it to the service alone.
"""

from modelrunner.operations.export.plan import MIB
from modelrunner.operations.export.served.plan import ServedPlan
from modelrunner.operations.export.systemd import HARDENING
from modelrunner.operations.export.unit_text import Entries, command, text, unit, word

_KEY = "${CREDENTIALS_DIRECTORY}/api-key"
_HOMES = ("/home/", "/root/", "/run/user/")


def files(plan: ServedPlan) -> dict[str, str]:
    """The files by their names."""
    home = plan.home or f"/var/lib/{plan.name}"
    line = command([*plan.program, *plan.arguments(None, plan.port, "KEY")])
    how = plan.notes(
        f"Key: write one to {plan.key_file}, such as `openssl rand -hex 32`, readable by root"
        " alone.",
        f"Install: copy it to /etc/systemd/system/{plan.name}.service; then run `systemctl "
        f"daemon-reload` and `systemctl enable --now {plan.name}`.",
        f"Models are downloaded to {home} at the first start.",
        "It runs on the CPU: a GPU needs PrivateDevices=no and its devices in DeviceAllow=.",
    )
    names = ", ".join(model.alias for model in plan.models)
    sections: dict[str, Entries] = {
        "Unit": [
            ("Description", text(f"modelrunner serve: {names}")),
            ("Wants", "network-online.target"),
            ("After", "network-online.target"),
        ],
        "Service": [
            ("Type", "exec"),
            # systemd itself looks this variable up
            ("ExecStart", line.replace("--api-key-file KEY", f"--api-key-file {_KEY}")),
            ("LoadCredential", word(f"api-key:{plan.key_file}")),
            ("StateDirectory", plan.name),
            ("StateDirectoryMode", "0700"),
            ("Environment", word(f"HOME={home}")),
            ("Environment", word(f"MODELRUNNER_HOME={home}")),
            ("MemoryMax", f"{plan.limit // MIB}M"),
            ("MemorySwapMax", "0"),
            ("TasksMax", "1024"),
            *HARDENING,
            ("Restart", "on-failure"),
            ("RestartSec", "5"),
        ],
        "Install": [("WantedBy", "multi-user.target")],
    }
    return {f"{plan.name}.service": unit(sections, how)}


def problem(plan: ServedPlan) -> str | None:
    """What keeps the unit from starting; None for nothing that is known."""
    program = plan.program[0]
    if not program.startswith(_HOMES):
        return None
    return (
        f"{program} is in a home directory, which the service cannot see: install modelrunner"
        " elsewhere, such as in /opt/modelrunner, and name it with --program"
    )
