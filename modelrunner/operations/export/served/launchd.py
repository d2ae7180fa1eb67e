"""A property list for launchd: an agent of the user that serves while they are logged in."""

import plistlib

from modelrunner.errors import UsageError
from modelrunner.operations.export.plan import MIB
from modelrunner.operations.export.served.plan import ServedPlan

_PATH = "/opt/homebrew/bin:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"


def files(plan: ServedPlan) -> dict[str, str]:
    """The files by their names.

    Raises:
        UsageError: A path has characters that XML cannot write.
    """
    label = f"modelrunner.{plan.name}"
    log = f"{plan.home}/state/launchd-{plan.name}.log"
    value: dict[str, object] = {
        "Label": label,
        "ProgramArguments": [*plan.program, *plan.arguments(None, plan.port, plan.key_file)],
        "EnvironmentVariables": {"MODELRUNNER_HOME": plan.home, "PATH": _PATH},
        "RunAtLoad": True,
        "KeepAlive": {"SuccessfulExit": False},
        "ThrottleInterval": 10,
        "ExitTimeOut": 15,
        # what runs in the background gets little of the processor
        "ProcessType": "Interactive",
        "Umask": 0o077,
        "StandardOutPath": log,
        "StandardErrorPath": log,
    }
    how = plan.notes(
        f"Key: write one to {plan.key_file}, such as `openssl rand -hex 32`, and `chmod 600` it.",
        f"Install: copy it to ~/Library/LaunchAgents/{label}.plist; then run `launchctl bootstrap"
        f" gui/$(id -u) ~/Library/LaunchAgents/{label}.plist`.",
        f"launchd limits no memory: with all models loaded it takes {plan.limit // MIB} MiB.",
    )
    try:
        text = plistlib.dumps(value, sort_keys=False).decode()
    except (ValueError, UnicodeError) as exc:
        raise UsageError(
            "launchd cannot read a path with control characters",
            hint="use a path without them: MODELRUNNER_HOME=/Users/Shared/modelrunner",
        ) from exc
    head, _, rest = text.partition("<plist")
    # two hyphens end a comment
    comment = "\n".join(f"  {line.replace('--', '- -')}" for line in how)
    return {f"{label}.plist": f"{head}<!--\n{comment}\n-->\n<plist{rest}"}
