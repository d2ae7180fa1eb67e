"""How fast a pull from the Hugging Face Hub is, beside one from an OCI registry.

    python benchmarks/hugging_face.py [--rounds 7] [--size 1GiB] [--folder /dev/shm]

The bytes come from one and the same server in both cases, Debian's `docker-registry`: the Hub that
stands before it lists the file and redirects to it, as the real one does to its content delivery
network. What differs is what is spoken before the bytes. Each round pulls both ways and once with
curl, so that a busy moment of the machine slows all of them alike; the medians count.
"""

import argparse
import json
import shutil
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.servers import Address, Model, docker_registry, push, tool
from benchmarks.startup import program
from benchmarks.timing import Command, alternate, median_s
from modelrunner.units import format_size, parse_size

SHARE = 0.95
TAG = "full"
NAME = "bench/model"
FILE = "model-Q4_K_M.gguf"
COMMIT = "c0ffee" + "0" * 34


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--size", type=parse_size, default=parse_size("1GiB"))
    parser.add_argument("--folder", type=Path, default=Path("/dev/shm"))
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        print(table(Path(folder), arguments.size, arguments.rounds))


def table(folder: Path, size: int, rounds: int) -> str:
    """The rate of each, and the Hub's share of the registry's."""
    home, log = folder / "home", folder / "log"

    def forget() -> None:
        shutil.rmtree(home, ignore_errors=True)

    with docker_registry(folder) as registry:
        model = push(registry, folder, size, TAG)
        with hub(registry, model) as address:
            environ = {"MODELRUNNER_HOME": str(home), "HF_ENDPOINT": address}
            pull = [*program(), "pull", "-q"]
            commands = [
                Command("curl", _curl(registry, model), {}, _pass, _pass),
                Command(
                    "registry", [*pull, f"{registry.host}/{NAME}:{TAG}"], environ, forget, _pass
                ),
                Command("hub", [*pull, f"hf.co/{NAME}"], environ, forget, _pass),
            ]
            # the first round warms the page cache up
            alternate(commands, 1, log, lambda: False)
            costs = alternate(commands, rounds, log, lambda: False)
    rates = {name: size / median_s(cost) / 1e9 for name, cost in costs.items()}
    share = rates["hub"] / rates["registry"]
    lines = [f"{name:<9} {rate:>5.2f} GB/s" for name, rate in rates.items()]
    said = "met" if share >= SHARE else "missed"
    return "\n".join(
        [f"{format_size(size)}", *lines, f"hub / registry: {share:.2f}  aim {SHARE:g} {said}"]
    )


@contextmanager
def hub(registry: Address, model: Model) -> Iterator[str]:
    """The block in which a Hub lists the file; its address."""
    listed = {
        "type": "file",
        "path": FILE,
        "size": model.size,
        "lfs": {"oid": model.digest.removeprefix("sha256:"), "size": model.size},
    }
    answers = {
        f"/api/models/{NAME}/revision/main": {"sha": COMMIT},
        f"/api/models/{NAME}/tree/{COMMIT}?recursive=true": [listed],
    }

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            body = json.dumps(answers.get(self.path, {})).encode()
            found = self.path in answers
            self.send_response(200 if found else 302)
            if found:
                self.send_header("Content-Type", "application/json")
            else:
                body = b""
                place = f"{registry.base}/v2/{NAME}/blobs/{model.digest}"
                self.send_header("Location", place)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
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


def _curl(registry: Address, model: Model) -> list[str]:
    url = f"{registry.base}/v2/{NAME}/blobs/{model.digest}"
    return [tool("curl"), "--silent", "--fail", "--output", "/dev/null", url]


def _pass() -> None:
    pass


if __name__ == "__main__":
    main()
