"""Files of the Hugging Face Hub's repositories, as a cache or a program has them."""

from collections.abc import Iterator, Sequence

from modelrunner.errors import ModelRunnerError
from modelrunner.frozen import replace
from modelrunner.huggingface.files import choose, labels
from modelrunner.oci.reference import Reference
from modelrunner.other_stores.found import Found, FoundFile, FoundModel, Unusable


def models_of(
    files: Sequence[FoundFile], repository: str, parameters: FoundFile | None = None
) -> Iterator[Found]:
    """Every model that a repository's files make up.

    Args:
        files: What there is of the repository.
        repository: `hf.co/ORG/REPO`, with a revision where it is not the usual one.
        parameters: The repository's file that says how its models are sampled.
    """
    for label in labels(files):
        title = f"{repository.removeprefix('hf.co/')}:{label}"
        try:
            model = choose(files, label, repository)
            reference = Reference.parse(f"{repository}:{label}")
        except ModelRunnerError as exc:
            yield Unusable(title, exc.message)
            continue
        found = list(model.files)
        if model.projector is not None:
            found.append(replace(model.projector, role="projector"))
        if parameters is not None:
            found.append(parameters)
        yield FoundModel(title, reference, tuple(found), on_hub=True)
