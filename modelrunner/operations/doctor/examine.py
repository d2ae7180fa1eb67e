"""The whole examination: everything that is looked at, side by side, in the order of the report."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from modelrunner.errors import ExitStatus
from modelrunner.oci.reference import Reference
from modelrunner.operations.devices import Usable
from modelrunner.operations.doctor import disk, machine, network, trust
from modelrunner.operations.doctor.finding import Finding, well
from modelrunner.operations.doctor.patience import Question, ask_all
from modelrunner.operations.doctor.program import program
from modelrunner.registry.registries import Registries
from modelrunner.runtime.select import AUTO
from modelrunner.store.store import Store
from modelrunner.system.installation import Installation

PATIENCE_S = 20.0


@dataclass(frozen=True, slots=True)
class Patient:
    """What is examined.

    Attributes:
        home: The directory that everything lies under.
        places: The registries and their mirrors.
        registries: Those to ask.
        environ: The environment of the program.
        runtime: Which one is configured.
        image: What the runtime `docker` starts.
        docker_config: Where logins are.
        certificates: Files of certificates, by who names them.
        usable: Returns what the configured runtime can use of this machine.
        model: One to ask its registry for.
        offline: Whether the network is ruled out.
        library: The directory of installed runtimes.
    """

    home: Path
    places: Registries
    registries: Sequence[str]
    environ: Mapping[str, str] = field(repr=False)
    runtime: str = AUTO
    image: str = ""
    docker_config: Path | None = None
    certificates: Mapping[str, str] = field(default_factory=dict)
    usable: Callable[[], Usable] = lambda: Usable(())
    model: Reference | None = None
    offline: bool = False
    library: Path | None = None


def examine(patient: Patient, seconds: float = PATIENCE_S) -> tuple[Finding, ...]:
    """Looks at everything; nothing is changed, and nothing takes longer than this."""
    found = ask_all([*_here(patient), *_network(patient)], seconds)
    if patient.offline:
        skipped = f"skipped, because --offline is set: {', '.join(patient.registries)}"
        return (*found, well("registry", skipped))
    return found


def _here(patient: Patient) -> list[Question]:
    folder, kept = patient.home, Store(patient.home / "store")
    usage, failure = ExitStatus.USAGE, ExitStatus.FAILURE
    known = [*patient.registries]
    return [
        Question("version", program, Installation.current().reinstall(), failure),
        Question("home", lambda: disk.home(folder), "df -h", usage),
        Question("store", lambda: disk.store(kept), "df -h", usage),
        Question("space", lambda: disk.space(folder), "df -h", usage),
        Question(
            "runtime",
            lambda: machine.installed(
                patient.environ, patient.runtime, patient.image, patient.library
            ),
            "modelrunner runtimes",
            ExitStatus.RUNTIME,
        ),
        Question(
            "device",
            lambda: machine.devices(
                patient.environ, patient.image, patient.usable, patient.library
            ),
            "modelrunner devices",
            ExitStatus.RUNTIME,
        ),
        Question("proxy", lambda: trust.proxies(patient.environ), "env", usage),
        Question("certificates", lambda: trust.certificates(patient.certificates), "df -h", usage),
        Question(
            "login",
            lambda: trust.logins(patient.docker_config, patient.places.credentials, known),
            "docker logout",
            usage,
        ),
    ]


def _network(patient: Patient) -> list[Question]:
    if patient.offline:
        return []

    def question(name: str) -> Question:
        model = patient.model if patient.model and patient.model.registry == name else None
        return Question(
            "registry",
            lambda: network.registry(patient.places, name, model),
            f"curl -sSI {patient.places.endpoint_of(name).base}/v2/",
            ExitStatus.TRANSFER,
        )

    return [question(name) for name in patient.registries]
