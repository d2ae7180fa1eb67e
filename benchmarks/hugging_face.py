"""How fast a pull from the Hugging Face Hub is, beside `hf download` and an OCI registry.

    python benchmarks/hugging_face.py [--rounds 7] [--size 1GiB] [--files 200] [--folder /dev/shm]

One model in one file, and a repository of many files of 5 MiB. The bytes come from one and the same
server in all cases, Debian's `docker-registry`: the Hub that stands before it lists the files and
redirects to them, as the real one does to its content delivery network. What differs is what is
spoken before the bytes, and what is done with them: `hf download` verifies no digest. Each round
runs every command once, so that a busy moment of the machine slows all of them alike; the medians
count. The first round warms up: the page cache, and what the tools keep of their own.
"""

import argparse
import json
import os
import shutil
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.servers import Address, Layer, Model, docker_registry, push, tool
from benchmarks.startup import program
from benchmarks.timing import Command, alternate, median_cpu_s, median_s
from modelrunner.units import format_size, parse_size

SHARE = 0.95
"""Of the rate of a registry's pull, in one file."""
RATIO = 0.8
"""Of the seconds of `hf download`."""
TAG = "full"
MANY = "many"
ONE_NAME, MANY_NAME = "bench/model", "bench/many"
FILE = "model-Q4_K_M.gguf"
FILE_SIZE = 5 * 1024 * 1024
COMMIT = "c0ffee" + "0" * 34


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--size", type=parse_size, default=parse_size("1GiB"))
    parser.add_argument("--files", type=int, default=200)
    parser.add_argument("--folder", type=Path, default=Path("/dev/shm"))
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        print(table(Path(folder), arguments.size, arguments.files, arguments.rounds))


def table(folder: Path, size: int, files: int, rounds: int) -> str:
    """The seconds of each, and the ratios that are aimed at."""
    home, cache, log = folder / "home", folder / "cache", folder / "log"

    def forget() -> None:
        for place in (home, cache):
            shutil.rmtree(place, ignore_errors=True)

    with docker_registry(folder) as registry:
        model = push(registry, folder, size, TAG)
        many = push(registry, folder, files * FILE_SIZE, MANY, files, even=True)
        listed = {
            ONE_NAME: {FILE: model.layers[0]},
            MANY_NAME: {f"part-{n:03d}.safetensors": layer for n, layer in enumerate(many.layers)},
        }
        with hub(registry, listed) as address:
            environ = {"MODELRUNNER_HOME": str(home), "HF_ENDPOINT": address}
            theirs = {
                "HF_ENDPOINT": address,
                "HF_HOME": str(folder / "hf"),
                "HF_HUB_CACHE": str(cache),
                "HF_HUB_DISABLE_TELEMETRY": "1",
                "HF_HUB_DISABLE_UPDATE_CHECK": "1",
                "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            }
            pull = [*program(), "pull", "-q"]
            hf = [str(Path(sys.executable).with_name("hf")), "download", "--quiet"]
            commands = [
                Command("curl", _curl(registry, model), {}, forget, _pass),
                Command("registry", [*pull, model.on(registry.host)], environ, forget, _pass),
                Command("one file", [*pull, f"hf.co/{ONE_NAME}"], environ, forget, _pass),
                Command("one file, hf", [*hf, ONE_NAME], theirs, forget, _pass),
                Command("many files", [*pull, f"hf.co/{MANY_NAME}:all"], environ, forget, _pass),
                Command("many files, hf", [*hf, MANY_NAME], theirs, forget, _pass),
            ]
            alternate(commands, 1, log, lambda: False)
            before = os.getloadavg()[0]
            costs = alternate(commands, rounds, log, lambda: False)
    seconds = {name: median_s(cost) for name, cost in costs.items()}
    cpu = {name: median_cpu_s(cost) for name, cost in costs.items()}
    lines = [
        f"{name:<15} {spent:>6.2f} s  {cpu[name]:>6.2f} s of processors"
        for name, spent in seconds.items()
    ]
    return "\n".join(
        [
            f"{format_size(size)}, {files} files of {format_size(FILE_SIZE)}; load {before:.0f}",
            *lines,
            _said(
                "registry / one file", seconds["registry"] / seconds["one file"], SHARE, most=False
            ),
            *(
                _said(f"{name} / hf", seconds[name] / seconds[f"{name}, hf"], RATIO, most=True)
                for name in ("one file", "many files")
            ),
        ]
    )


def _said(name: str, share: float, aim: float, *, most: bool) -> str:
    met = share <= aim if most else share >= aim
    return f"{name}: {share:.2f}  aim {aim:g} {'met' if met else 'missed'}"


@contextmanager
def hub(registry: Address, listed: dict[str, dict[str, Layer]]) -> Iterator[str]:
    """The block in which a Hub lists these repositories; its address."""
    answers: dict[str, object] = {}
    layers: dict[str, Layer] = {}
    for name, files in listed.items():
        about = {"id": name, "sha": COMMIT, "siblings": [{"rfilename": path} for path in files]}
        answers[f"/api/models/{name}"] = about
        for revision in ("main", COMMIT):
            answers[f"/api/models/{name}/revision/{revision}"] = about
            answers[f"/api/models/{name}/tree/{revision}"] = [
                _entry(path, layer) for path, layer in files.items()
            ]
            layers |= {f"/{name}/resolve/{revision}/{path}": each for path, each in files.items()}

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            path = urlsplit(self.path).path
            layer, body = layers.get(path), b""
            if layer is not None:
                self.send_response(302)
                self.send_header("Location", f"{registry.base}{layer.path}")
                self.send_header("X-Repo-Commit", COMMIT)
                self.send_header("X-Linked-Size", str(layer.size))
                self.send_header("X-Linked-ETag", f'"{layer.digest.removeprefix("sha256:")}"')
            else:
                self.send_response(200 if path in answers else 404)
                self.send_header("Content-Type", "application/json")
                body = json.dumps(answers.get(path, {})).encode()
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _entry(path: str, layer: Layer) -> dict[str, object]:
    oid = layer.digest.removeprefix("sha256:")
    lfs = {"oid": oid, "size": layer.size, "pointerSize": 134}
    return {"type": "file", "path": path, "size": layer.size, "oid": oid[:40], "lfs": lfs}


def _curl(registry: Address, model: Model) -> list[str]:
    url = f"{registry.base}{model.path}"
    return [tool("curl"), "--silent", "--fail", "--output", "/dev/null", url]


def _pass() -> None:
    pass


if __name__ == "__main__":
    main()
