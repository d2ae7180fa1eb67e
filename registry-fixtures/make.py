"""Makes the fixture artifacts: real models, packaged by this program into a store of their own.

    python registry-fixtures/make.py FOLDER [--only smollm2]

`FOLDER` becomes a `MODELRUNNER_HOME` whose store `modelrunner share` can serve as a registry. The
same files and times give the same digests on every machine; `digests.json` has them, and a
difference fails. `--only smollm2` needs neither numpy nor gguf.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

from smollm2 import smollm2  # noqa: E402 - a script beside this one

from modelrunner.errors import ModelRunnerError  # noqa: E402
from modelrunner.oci.model.config import Family  # noqa: E402
from modelrunner.oci.reference import Reference  # noqa: E402
from modelrunner.operations.package.package import Ingredients, package  # noqa: E402
from modelrunner.store.store import Store  # noqa: E402

CREATED = datetime(2025, 10, 2, 9, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Recipe:
    """One artifact: its files and names."""

    ingredients: Ingredients
    names: Sequence[str]
    family: Family = "docker"


def recipes(folder: Path) -> list[Recipe]:
    """All fixtures but SmolLM2, made in `folder`."""
    from models import write_models

    made = write_models(folder)
    files = {name: entry for name, entry in made.items() if isinstance(entry, Path)}
    shards = made["llama-shards"]
    shard = shards[0] if isinstance(shards, list) else shards
    license_file = _text(folder / "LICENSE", "Made by a script; do with it what you like.\n")
    template = _text(folder / "chat.jinja", "{% for m in messages %}{{ m.content }}\n{% endfor %}")
    granite = Ingredients(files["granitehybrid"], [license_file])
    llama = Ingredients(files["llama"], [license_file])
    seeing = Ingredients(files["llama"], projector=files["projector"])
    return [
        Recipe(
            granite,
            ["ai/granite-4.0-micro:3B-Q4_K_M", "ai/granite-4.0-micro:3B", "ai/granite-4.0-micro"],
        ),
        Recipe(llama, ["fixtures/tiny-llama:docker", "fixtures/tiny-llama"]),
        Recipe(llama, ["fixtures/tiny-llama:modelpack"], "modelpack"),
        Recipe(Ingredients(shard), ["fixtures/tiny-llama:shards"]),
        Recipe(Ingredients(shard), ["fixtures/tiny-llama:shards-modelpack"], "modelpack"),
        Recipe(seeing, ["fixtures/tiny-llava:docker"]),
        Recipe(seeing, ["fixtures/tiny-llava:modelpack"], "modelpack"),
        Recipe(Ingredients(files["llama"], template=template), ["fixtures/tiny-llama:template"]),
        Recipe(Ingredients(files["bert"]), ["fixtures/tiny-bert"]),
        Recipe(Ingredients(files["ranker"]), ["fixtures/tiny-ranker"]),
        Recipe(Ingredients(files["refused"]), ["fixtures/nonesuch"]),
    ]


def make(home: Path, only: str | None = None) -> dict[str, str]:
    """Fills the store under `home`; the digest of every name.

    Raises:
        ModelRunnerError: A model cannot be had, or the store cannot be written.
    """
    store = Store(home / "store")
    work = home / "files"
    work.mkdir(parents=True, exist_ok=True)
    names = ["ai/smollm2:135M-Q4_1", "ai/smollm2"]
    wanted = [Recipe(Ingredients(smollm2(work)), names)]
    if only is None:
        wanted += recipes(work)
    digests: dict[str, str] = {}
    for recipe in wanted:
        first, *others = [Reference.parse(name) for name in recipe.names]
        model = package(store, recipe.ingredients, first, family=recipe.family, created=CREATED)
        for other in others:
            store.tag(model, other)
        digests |= {name.short: str(model.digest) for name in (first, *others)}
    return digests


def differences(made: dict[str, str], expected: dict[str, str]) -> list[str]:
    """Names whose digest is not the expected one."""
    return [
        f"{name}: {digest}, expected {expected.get(name)}"
        for name, digest in made.items()
        if expected.get(name) != digest
    ]


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", choices=["smollm2"])
    parser.add_argument("--update", action="store_true", help="write digests.json anew")
    parser.add_argument("--quiet", action="store_true", help="print no digests")
    options = parser.parse_args()
    try:
        made = make(options.folder, options.only)
    except ModelRunnerError as exc:
        print(f"error: {exc}\nhint: {exc.hint}", file=sys.stderr)
        return int(exc.exit_code)
    for name, digest in () if options.quiet else made.items():
        print(f"{digest.removeprefix('sha256:')[:12]}  {name}")
    pinned = HERE / "digests.json"
    if options.update:
        pinned.write_text(json.dumps(made, indent=2) + "\n")
    wrong = differences(made, json.loads(pinned.read_text()))
    for line in wrong:
        print(f"error: {line}", file=sys.stderr)
    return 1 if wrong else 0


def _text(path: Path, content: str) -> Path:
    path.write_text(content)
    return path


if __name__ == "__main__":
    sys.exit(main())
