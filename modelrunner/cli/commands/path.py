"""`modelrunner path`."""

from typing import Annotated

from modelrunner.cli.context import Context, command
from modelrunner.cli.parser.declared import Argument


@command(examples='  llama-server -m "$(modelrunner path ai/granite-4.0-micro)"')
def path(
    context: Context,
    reference: Annotated[str, Argument(metavar="REF", help="Name or ID of a local model.")],
) -> None:
    """Print the path of a model's weights file (the first shard of several), or its directory.

    The directory is printed for models that programs open so: safetensors and others of several
    files.
    """
    model = context.store.resolve(reference)
    weights = model.weights()
    if context.console.json:
        files = [model.view() / str(layer.path) for layer in model.artifact.layers if layer.path]
        context.console.emit({"path": str(weights), "files": [str(file) for file in files]})
    else:
        context.console.print(str(weights))
