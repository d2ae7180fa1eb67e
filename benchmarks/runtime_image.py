"""A runtime out of an image: the first answer of a machine with Python alone, speed, warm starts.

    python benchmarks/runtime_image.py --rounds 5

Needs docker-registry, and Debian's `llama-server` (from its mirror, or kept by the tests). Prints
three figures:

- the seconds of `pip install` from wheels that are there, `runtimes install cpu` and `run REF` from
  a registry on this machine, beside the seconds that the transfers take alone;
- tokens a second of the installed runtime over the same server started by hand;
- the wall time of `run` with the installed runtime over `embedded`, all warm.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "registry-fixtures")]

from smollm2 import smollm2  # noqa: E402 - scripts beside this one

from modelrunner.runtime.images.library import Library  # noqa: E402
from modelrunner.runtime.images.start import command  # noqa: E402
from tests.support.docker_registry import docker_registry, push_artifact  # noqa: E402
from tests.support.runtime_image import artifact_of, real_image  # noqa: E402

QUESTION = "What is the capital of France? Answer in one sentence."
CONTEXT = 2048
_CACHE = Path(os.environ.get("MODELRUNNER_CI_WHEELS") or "/var/cache/modelrunner-ci")


def main() -> None:
    """Measures, and prints a line each."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        cache = _CACHE if os.access(_CACHE, os.W_OK) else folder / "packages"
        weights = smollm2(folder / "files")
        with docker_registry(folder / "registry") as registry:
            push_artifact(
                registry,
                artifact_of(real_image(cache / "llama-server")),
                "ggml-org/llama.cpp",
                ["server"],
            )
            environ = {
                "HOME": str(folder / "user"),
                "MODELRUNNER_HOME": str(folder / "home"),
                "MODELRUNNER_MIRRORS": f"ghcr.io=http://{registry.host}",
            }
            reference = registry.reference("ai/smollm2:1")
            ours = [sys.executable, "-m", "modelrunner"]
            _run(
                [*ours, "package", str(weights), reference, "--push"],
                {**environ, "MODELRUNNER_HOME": str(folder / "made")},
            )
            _first_answer(folder, environ, reference)
        home = {"MODELRUNNER_HOME": str(folder / "home"), "HOME": str(folder / "user")}
        _tokens(home, reference, weights, rounds)
        _warm(home, reference, rounds)


def _first_answer(folder: Path, environ: Mapping[str, str], reference: str) -> None:
    wheels = folder / "wheels"
    _run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--wheel-dir", str(wheels), str(ROOT)], {}
    )
    venv.create(folder / "venv", with_pip=True)
    python = str(folder / "venv" / "bin" / "python")
    program = [python, "-m", "modelrunner"]
    pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-index"]
    steps = {
        "pip install": [*pip, "--find-links", str(wheels), "modelrunner"],
        "runtimes install": [*program, "runtimes", "install", "cpu", "--yes"],
        "run": [*program, "run", reference, QUESTION, "--max-tokens", "24"],
    }
    took = {name: _timed(words, environ) for name, words in steps.items()}
    again = {**environ, "MODELRUNNER_HOME": str(folder / "again")}
    transfer = _timed([*program, "pull", reference], again)
    parts = ", ".join(f"{name} {seconds:.1f}" for name, seconds in took.items())
    print(
        f"first answer: {sum(took.values()):.1f} s ({parts}); the model's transfer alone "
        f"{transfer:.1f} s; aim 20 s beyond the transfers",
        flush=True,
    )


def _tokens(home: Mapping[str, str], reference: str, weights: Path, rounds: int) -> None:
    one = Library(Path(home["MODELRUNNER_HOME"]) / "runtimes").current()
    assert one is not None
    found: dict[str, list[float]] = {"installed": [], "by hand": []}
    for _round in range(rounds):
        found["installed"].append(_speed(reference, home, "installed"))
        line = [
            "-m",
            str(weights),
            "--port",
            "18089",
            "-c",
            "1024",
            "-t",
            str(_cores()),
            "--no-webui",
        ]
        made = command(one, line, os.environ, [weights], isolate=False)
        with _server(made.argv, made.environ, 18089) as url:
            found["by hand"].append(_speed(reference, home, url))
    ratios = [ours / theirs for ours, theirs in zip(*found.values(), strict=True)]
    print(
        f"tokens a second: installed {statistics.median(found['installed']):.1f}, by hand "
        f"{statistics.median(found['by hand']):.1f}, ratio {statistics.median(ratios):.3f} "
        f"({min(ratios):.3f} to {max(ratios):.3f}); aim 0.98",
        flush=True,
    )


def _speed(reference: str, home: Mapping[str, str], runtime: str) -> float:
    words = ["bench", reference, "--prompt", "32", "--parallel", "1", "--generate", "256"]
    line = [
        sys.executable,
        "-m",
        "modelrunner",
        *words,
        "--rounds",
        "3",
        "--runtime",
        runtime,
        "--json",
    ]
    done = _run(line, home)
    return float(json.loads(done)["results"][0]["generated_tokens_per_s"])


def _warm(home: Mapping[str, str], reference: str, rounds: int) -> None:
    found: dict[str, list[float]] = {"installed": [], "xllamacpp": []}
    for number in range(rounds + 1):
        for runtime, seconds in found.items():
            line = ["run", reference, "hi", "--max-tokens", "1", "--runtime", runtime]
            took = _timed([sys.executable, "-m", "modelrunner", *line], home)
            if number:
                seconds.append(took)
    ratios = [ours / theirs for ours, theirs in zip(*found.values(), strict=True)]
    medians = {name: statistics.median(seconds) for name, seconds in found.items()}
    print(
        f"warm start: installed {medians['installed']:.2f} s, embedded "
        f"{medians['xllamacpp']:.2f} s, "
        f"ratio {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}); aim 1.1",
        flush=True,
    )


@contextmanager
def _server(argv: Sequence[str], environ: Mapping[str, str], port: int) -> Iterator[str]:
    from urllib.error import URLError
    from urllib.request import urlopen

    process = subprocess.Popen(
        argv, env=dict(environ), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        for _try in range(600):
            try:
                urlopen(f"http://127.0.0.1:{port}/health", timeout=2).close()
                break
            except (URLError, ConnectionError):
                time.sleep(0.05)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


def _cores() -> int:
    from modelrunner.runtime.threads import usable_cores

    return usable_cores()


def _timed(words: Sequence[str], environ: Mapping[str, str]) -> float:
    begun = time.monotonic()
    _run(words, environ)
    return time.monotonic() - begun


def _run(words: Sequence[str], environ: Mapping[str, str]) -> str:
    # our own modules are found from here; those of the new environment are not to be
    ours = words[0] == sys.executable
    done = subprocess.run(
        words,
        env={**os.environ, **environ},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT if ours else "/",
    )
    if done.returncode:
        sys.exit(f"{' '.join(words)} ends with {done.returncode}: {done.stderr[-1000:]}")
    return done.stdout


if __name__ == "__main__":
    main()
