"""How a container downloads a model by its digest: as nobody, into a volume, with nothing else.

Files and store lie on one volume, and files are links into the store: nothing is there twice. What
already exists is not downloaded again. An image of Python installs this program from where this
copy came from, at the same commit; by its name alone nothing is installed, which anybody could
register.
"""

from modelrunner.errors import UsageError
from modelrunner.operations.export.plan import FOLDER, GIT_PULLER, PULLER, ExportPlan

# Python's compiled modules are installed here, and have to be loaded from it
LIBRARY = "/tmp/lib"  # noqa: S108 - the container's own
_SCRIPT = (
    f'pip install --quiet --no-cache-dir --target {LIBRARY} "$1"'
    f' && PYTHONPATH={LIBRARY} exec python -m modelrunner pull "$0" --output {FOLDER}'
)


def image(plan: ExportPlan) -> str:
    """The image that pulls.

    Raises:
        UsageError: None was named, and no container could install this copy of the program.
    """
    if plan.puller is not None:
        return plan.puller
    if plan.source is None:
        raise UsageError(
            f"a container cannot install this copy of modelrunner: it came from {plan.origin}",
            hint="name an image that contains modelrunner with --puller IMAGE;"
            " docs/deploy.md shows how to build one",
        )
    return python_image(plan.source)


def python_image(source: str) -> str:
    """The image of Python that can install a requirement."""
    return GIT_PULLER if "@ git+" in source else PULLER


def command(plan: ExportPlan) -> list[str]:
    """What it runs; without an image that has this program, it is installed first."""
    if plan.puller is not None:
        return ["modelrunner", *pull(plan)]
    return ["sh", "-ec", _SCRIPT, plan.pinned.short, plan.source or ""]


def pull(plan: ExportPlan) -> list[str]:
    """The arguments of this program."""
    return ["pull", plan.pinned.short, "--output", str(FOLDER)]


def environment() -> dict[str, str]:
    """The variables of what pulls."""
    return {"HOME": "/tmp", "MODELRUNNER_HOME": f"{FOLDER}/.modelrunner"}  # noqa: S108
