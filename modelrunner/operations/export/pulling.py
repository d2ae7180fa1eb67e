"""How a container fetches a model by its digest: as nobody, into a volume, with nothing else.

Files and store lie on one volume, and files are links into the store: nothing is there twice. What
is there already is not fetched again.
"""

from modelrunner.operations.export.plan import FOLDER, PULLER, ExportPlan

# Python's compiled modules are installed here, and have to be loaded from it
LIBRARY = "/tmp/lib"  # noqa: S108 - the container's own
_SCRIPT = (
    f"pip install --quiet --no-cache-dir --target {LIBRARY} modelrunner=={{version}}"
    f' && PYTHONPATH={LIBRARY} exec python -m modelrunner pull "$0" --output {FOLDER}'
)


def image(plan: ExportPlan) -> str:
    """The image that pulls."""
    return plan.puller or PULLER


def command(plan: ExportPlan) -> list[str]:
    """What it runs; without an image that has this program, it is installed first."""
    if plan.puller is not None:
        return ["modelrunner", *pull(plan)]
    return ["sh", "-ec", _SCRIPT.format(version=plan.version), plan.pinned.short]


def pull(plan: ExportPlan) -> list[str]:
    """The arguments of this program."""
    return ["pull", plan.pinned.short, "--output", str(FOLDER)]


def environment() -> dict[str, str]:
    """The variables of what pulls."""
    return {"HOME": "/tmp", "MODELRUNNER_HOME": f"{FOLDER}/.modelrunner"}  # noqa: S108
