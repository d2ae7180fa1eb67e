"""A unit for systemd: this program of the machine, with a store and a user of its own.

The key is a credential: systemd reads the file as root, and shows it to the service alone.
"""

from modelrunner.operations.export.served.plan import ServedPlan
from modelrunner.operations.export.systemd import INSTALL, ON_CPU, bounded, how_to_install
from modelrunner.operations.export.unit_text import Entries, command, text, unit, word

_KEY = "${CREDENTIALS_DIRECTORY}/api-key"
"""Where the service finds the key: systemd itself looks the variable up."""


def files(plan: ServedPlan) -> dict[str, str]:
    """The files by their names."""
    words = [*plan.program, *plan.arguments(None, plan.port, _KEY)]
    how = plan.notes(
        f"Key: write one to {plan.key_file}, such as `openssl rand -hex 32`, readable by root"
        " alone.",
        how_to_install(plan.name),
        f"Models are downloaded to {plan.home} at the first start.",
        ON_CPU,
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
            ("ExecStart", " ".join(each if each == _KEY else command([each]) for each in words)),
            ("LoadCredential", word(f"api-key:{plan.key_file}")),
            ("StateDirectory", plan.name),
            ("StateDirectoryMode", "0700"),
            ("Environment", word(f"HOME={plan.home}")),
            ("Environment", word(f"MODELRUNNER_HOME={plan.home}")),
            *bounded(plan.limit),
            ("Restart", "on-failure"),
            ("RestartSec", "5"),
        ],
        "Install": INSTALL,
    }
    return {f"{plan.name}.service": unit(sections, how)}
