"""Units for Podman: a volume, a container that downloads the model, and one that serves it."""

from modelrunner.operations.export import pulling
from modelrunner.operations.export.plan import FOLDER, INSIDE, MIB, NOBODY, ExportPlan
from modelrunner.operations.export.unit_text import Entries, command, text, unit, word

_HARDENED = [
    ("User", str(NOBODY)),
    ("Group", str(NOBODY)),
    ("ReadOnly", "true"),
    ("DropCapability", "all"),
    ("NoNewPrivileges", "true"),
]


def files(plan: ExportPlan) -> dict[str, str]:
    """The files by their names."""
    how = plan.notes(
        "Install: copy this and the two other files into /etc/containers/systemd, or for "
        "one user into ~/.config/containers/systemd; then run `systemctl daemon-reload` and "
        f"`start {plan.name}`."
    )
    return {
        f"{plan.name}.container": unit(_server(plan), how),
        f"{plan.name}-model.container": unit(
            _puller(plan), ["Pulls the model by digest, verifies it, and exits."]
        ),
        f"{plan.name}.volume": unit({"Volume": [("VolumeName", plan.name)]}),
    }


def _puller(plan: ExportPlan) -> dict[str, Entries]:
    # z and not Z: the other container reads what this one writes
    volume = f"{plan.name}.volume:{FOLDER}:U,z"
    return {
        "Unit": [("Description", f"Pull {text(plan.alias)}")],
        "Container": [
            ("Image", text(pulling.image(plan))),
            ("Exec", command(pulling.command(plan))),
            *_environment(pulling.environment()),
            *_HARDENED,
            # what pip installs there is loaded from there
            ("Tmpfs", "/tmp:rw,exec,nosuid,nodev,mode=1777"),  # noqa: S108 - its own
            ("Volume", volume),
        ],
        "Service": [
            ("Type", "oneshot"),
            ("RemainAfterExit", "yes"),
            ("Restart", "on-failure"),
            ("RestartSec", "30"),
            ("TimeoutStartSec", "infinity"),
        ],
    }


def _server(plan: ExportPlan) -> dict[str, Entries]:
    line = plan.arguments(FOLDER, "0.0.0.0", INSIDE)  # noqa: S104 - of its own
    fetched = f"{plan.name}-model.service"
    return {
        "Unit": [
            ("Description", text(plan.alias)),
            ("Requires", fetched),
            ("After", fetched),
        ],
        "Container": [
            ("Image", text(plan.image)),
            ("Exec", command(line)),
            *_environment(plan.environment()),
            *_HARDENED,
            ("Tmpfs", "/tmp:rw,noexec,nosuid,nodev,mode=1777"),  # noqa: S108 - its own
            ("Volume", f"{plan.name}.volume:{FOLDER}:ro,z"),
            ("PublishPort", f"127.0.0.1:{plan.port}:{INSIDE}"),
            ("PidsLimit", "1024"),
            ("PodmanArgs", f"--memory={plan.limit // MIB}m"),
            ("PodmanArgs", f"--memory-swap={plan.limit // MIB}m"),
            ("HealthCmd", f"curl -fsS http://127.0.0.1:{INSIDE}/health"),
            ("HealthInterval", "10s"),
            ("HealthStartPeriod", "10m"),
        ],
        "Service": [("Restart", "on-failure"), ("TimeoutStartSec", "15min")],
        "Install": [("WantedBy", "multi-user.target default.target")],
    }


def _environment(found: dict[str, str]) -> list[tuple[str, str]]:
    return [("Environment", word(f"{name}={value}")) for name, value in found.items()]
