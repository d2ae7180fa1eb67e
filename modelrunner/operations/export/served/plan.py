"""What every export of `serve` says: which models, where, with which key, in how much memory."""

from dataclasses import dataclass

from modelrunner.errors import UsageError
from modelrunner.operations.export.plan import APART_MIB, MIB, ExportPlan, lines_of
from modelrunner.operations.export.pulling import LIBRARY, python_image
from modelrunner.units import format_size

HOME = "/models"
"""Where a container keeps the models: `MODELRUNNER_HOME`."""

ENVIRONMENT = {"HOME": "/tmp", "MODELRUNNER_HOME": HOME}  # noqa: S108 - the container's own
"""The variables of this program in a container."""

INSIDE = 12434
"""Where `serve` listens in its container."""

ANY = "0.0.0.0"  # noqa: S104 - of its own
_GATEWAY = 256 * MIB
_SCRIPT = (
    f'pip install --quiet --no-cache-dir --target {LIBRARY} "$0"'
    f' && PYTHONPATH={LIBRARY} exec python -m modelrunner "$@"'
)
_METRICS = "/metrics"
HEALTH = "/health"


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedPlan:
    """Models as `serve` is to offer them elsewhere.

    Attributes:
        models: The models.
        name: What services and units are called.
        port: Where it is offered.
        context: Tokens of one conversation; None leaves it to `serve`.
        kv_type: What the cache is kept in; None leaves it to `serve`.
        image: An image with this program and a runtime; None for one of Python that installs them.
        source: The requirement that installs this program; None where nothing does.
        origin: Where this copy of the program came from, in words.
        program: The command of this program on a machine.
        key_file: The file with the API key there.
        home: Where models are kept there.
    """

    models: tuple[ExportPlan, ...]
    name: str
    port: int
    context: int | None
    kv_type: str | None
    image: str | None
    source: str | None
    origin: str
    program: tuple[str, ...]
    key_file: str
    home: str

    @property
    def request(self) -> int:
        """Bytes to set aside: all models at once."""
        return sum(model.request for model in self.models)

    @property
    def limit(self) -> int:
        """Bytes that are not to be exceeded."""
        return sum(model.limit for model in self.models) + _GATEWAY

    def arguments(self, host: str | None, port: int, key_file: str) -> list[str]:
        """The command line of this program after its name.

        Args:
            host: Where it listens; None for loopback.
            port: The port of that.
            key_file: The file with the API key.
        """
        line = ["serve", *(model.pinned.short for model in self.models)]
        line += ["--host", host] if host is not None else []
        line += ["--port", str(port), "--api-key-file", key_file, "--parallel", "1"]
        line += ["--context", str(self.context)] if self.context is not None else []
        line += ["--kv-type", self.kv_type] if self.kv_type is not None else []
        return line

    def container(self, key_file: str) -> list[str]:
        """The command of a container; without an image that has this program, it is installed.

        Raises:
            UsageError: No image was named, and no container could install this copy.
        """
        line = self.arguments(ANY, INSIDE, key_file)
        if self.image is not None:
            return ["modelrunner", *line]
        if self.source is None:
            raise UsageError(
                f"a container cannot install this copy of modelrunner: it came from {self.origin}",
                hint="name an image that contains modelrunner and a runtime with --image IMAGE;"
                " docs/deploy.md shows how to build one",
            )
        name, _, address = self.source.partition(" @ ")
        return ["sh", "-ec", _SCRIPT, f"{name}[embedded,serve] @ {address}", *line]

    @property
    def container_image(self) -> str:
        """The image of a container."""
        return self.image or python_image(self.source or "")

    def notes(self, *more: str) -> list[str]:
        """What a person who reads the file should know, line by line."""
        names = ", ".join(model.alias for model in self.models)
        memory = (
            f"Memory: {format_size(self.request)} ({self.request} bytes) with all models loaded,"
            " as `modelrunner estimate` has it for one request at a time. The limit of"
            f" {self.limit // MIB} MiB is a tenth more, {APART_MIB} MiB for each model, and"
            f" {_GATEWAY // MIB} MiB for the gateway. For more requests at a time, raise"
            " --parallel and the memory."
        )
        probes = (
            f"Health: GET {HEALTH}, without a key. Metrics for Prometheus: GET {_METRICS}, with"
            " the key."
        )
        notes = [
            f"`modelrunner serve` with {names}.",
            *(f"Pinned: {model.pinned.short}" for model in self.models),
            memory,
            probes,
            *more,
        ]
        return [line for note in notes for line in lines_of(note)]
