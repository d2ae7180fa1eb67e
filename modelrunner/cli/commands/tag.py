"""`modelrunner tag`."""

from typing import Annotated

from modelrunner.cli.context import Context, command
from modelrunner.cli.parser.declared import Argument
from modelrunner.errors import InvalidReferenceError
from modelrunner.oci.reference import Reference


@command(examples="  modelrunner tag ai/smollm2 registry.example.com/team/smollm2:1")
def tag(
    context: Context,
    source: Annotated[str, Argument(metavar="SRC", help="Name or ID of a local model.")],
    target: Annotated[str, Argument(metavar="DST", help="New name.")],
) -> None:
    """Add a name (tag) to a model."""
    model = context.store.resolve(source)
    name = Reference.parse(target)
    if name.digest is not None:
        raise InvalidReferenceError(
            f"{target}: a new name must have a tag, not a digest", hint="remove @sha256:..."
        )
    context.store.tag(model, name)
    if context.console.json:
        context.console.emit({"reference": str(name), "digest": str(model.digest)})
    else:
        context.console.say(f"tagged {model.digest.short} as {name.short}")
