"""Content that is known by its digest comes from wherever it is: and only what is right is kept."""

import hashlib
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from zeroconf import IPVersion, ServiceInfo, Zeroconf

from modelrunner.registry import lan
from modelrunner.units import format_size
from tests.conftest import CommandLine
from tests.support.artifacts import Artifact, docker_artifact
from tests.support.foreign_stores import ollama_model
from tests.support.gguf import tiny_gguf
from tests.support.hugging_face import Repository, hugging_face
from tests.support.registry import Registry

MIB = 1024 * 1024


@pytest.fixture
def large(registry: Registry, tmp_path: Path) -> Artifact:
    """Three megabytes as `team/large:1`."""
    weights = tiny_gguf(tmp_path / "large.gguf").read_bytes() + os.urandom(3 * MIB)
    artifact = docker_artifact(weights)
    registry.add(artifact, "team/large", ["1"])
    return artifact


@pytest.fixture
def name(registry: Registry, large: Artifact) -> str:
    return registry.reference("team/large:1")


def limited(registry: Registry, artifact: Artifact) -> None:
    """The registry says of the weights that there were too many requests, for a minute."""
    headers = {"Retry-After": "60"}
    registry.answer(429, times=None, headers=headers, reference=artifact.layer_digests[0])


def weights_at(cli: CommandLine, name: str) -> bytes:
    return Path(cli("path", name).stdout.strip()).read_bytes()


class TestAlso:
    """`pull --also`."""

    def test_the_hubs_file_of_the_same_digest_serves_where_the_registry_limits(
        self, cli: CommandLine, registry: Registry, large: Artifact, name: str
    ) -> None:
        limited(registry, large)
        with hugging_face() as hub:
            hub.repositories["Org/Large-GGUF"] = Repository({"Large-Q4_0.gguf": large.layers[0]})
            done = cli(
                "pull", name, "--also", "hf.co/Org/Large-GGUF", "--json", HF_ENDPOINT=hub.url
            )
        assert done.returncode == 0, done.stderr
        told = json.loads(done.stdout)
        assert told["source"] == registry.host
        assert told["origins"] == {hub.url: len(large.layers[0]), registry.host: len(large.config)}
        assert weights_at(cli, name) == large.layers[0]

    def test_a_file_serves_whatever_else_the_repository_has(
        self, cli: CommandLine, registry: Registry, large: Artifact, name: str
    ) -> None:
        limited(registry, large)
        files = {"One-Q4_0.gguf": b"x", "Two-Q4_0.gguf": large.layers[0], "README.md": b"#"}
        with hugging_face() as hub:
            hub.repositories["Org/Several-GGUF"] = Repository(files)
            also = ("--also", "hf.co/Org/Several-GGUF")
            done = cli("pull", name, *also, "--json", HF_ENDPOINT=hub.url)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["origins"][hub.url] == len(large.layers[0])

    def test_the_line_names_the_places_and_what_came_from_each(
        self, cli: CommandLine, registry: Registry, large: Artifact, name: str
    ) -> None:
        limited(registry, large)
        with Registry() as other:
            other.add(docker_artifact(large.layers[0], license=b"x"), "other/copy", ["9"])
            done = cli("pull", name, "--also", other.reference("other/copy:9"))
        assert done.returncode == 0, done.stderr
        weights, config = format_size(len(large.layers[0])), format_size(len(large.config))
        assert f", {weights} from {other.host}, {config} from {registry.host} in " in done.stdout

    def test_a_place_that_has_it_not_or_lies_costs_nothing_but_a_request(
        self, cli: CommandLine, registry: Registry, large: Artifact, name: str
    ) -> None:
        with Registry() as other:
            other.add(large, "a/b", ["1"])
            other.corrupt(large.layer_digests[0])
            registry.answer(503, times=2, reference=large.layer_digests[0])
            done = cli("pull", name, "--also", other.reference("a/b:1"), "--json")
            assert done.returncode == 0, done.stderr
        assert weights_at(cli, name) == large.layers[0]
        assert cli("verify", "--deep").returncode == 0

    def test_without_another_place_a_limit_is_an_error(
        self, cli: CommandLine, registry: Registry, large: Artifact, name: str
    ) -> None:
        limited(registry, large)
        with Registry() as other:
            done = cli(
                "pull", name, "--also", other.reference("no/such:1"), "--timeout", "3", "--json"
            )
        assert done.returncode == 5

    @pytest.mark.parametrize("text", ["a b", "http://", "http://example.com", "ftp://x/y"])
    def test_what_is_no_place_is_refused_before_anything(
        self, cli: CommandLine, registry: Registry, name: str, text: str
    ) -> None:
        done = cli("pull", name, "--also", text)
        assert (done.returncode, registry.requests) == (2, [])


@contextmanager
def lying_store(answer: Callable[[BaseHTTPRequestHandler], None]) -> Iterator[int]:
    """Something that announces itself as a shared store, and its port."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            answer(self)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        with lan.announced("127.0.0.1", server.server_address[1]):
            yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def other_bytes(handler: BaseHTTPRequestHandler, size: int) -> None:
    body = b"x" * size
    handler.send_response(200)
    handler.send_header("Content-Length", str(size))
    handler.end_headers()
    handler.wfile.write(body)


# what one announces, all on this machine hear
@pytest.mark.xdist_group("lan")
# all of them are on one network: each would be found by the others
@pytest.mark.xdist_group("lan")
class TestLan:
    """`share --lan` and `pull --lan`."""

    @pytest.fixture
    def shared(self, cli: CommandLine, name: str, tmp_path: Path) -> Iterator[str]:
        """A neighbour that has the model, under another name; its address."""
        home = {"MODELRUNNER_HOME": str(tmp_path / "neighbour")}
        assert cli("pull", name, **home).returncode == 0
        assert cli("tag", name, "whatever/else:7", **home).returncode == 0
        assert cli("rm", name, **home).returncode == 0
        with subprocess.Popen(
            cli.argv("share", "--lan", "--host", "127.0.0.1", "--port", "0"),
            env={**cli.environ, **home},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            try:
                address = process.stdout.readline().strip()
                assert "`modelrunner pull --lan` finds it" in process.stderr.readline()
                yield address
            finally:
                process.terminate()

    def test_what_a_neighbour_has_is_taken_from_there(
        self, cli: CommandLine, registry: Registry, large: Artifact, name: str, shared: str
    ) -> None:
        registry.requests.clear()
        done = cli("pull", name, "--lan", "--json")
        assert done.returncode == 0, done.stderr
        told = json.loads(done.stdout)
        assert told["origins"] == {shared: large.size}
        # what the name stands for is the registry's to say
        assert (registry.count("HEAD", "manifest"), registry.count("GET", "blob")) == (1, 0)
        assert weights_at(cli, name) == large.layers[0]

    def test_a_neighbour_with_registries_behind_it_downloads_once_for_all(
        self, cli: CommandLine, registry: Registry, large: Artifact, name: str, tmp_path: Path
    ) -> None:
        options = ("--host", "127.0.0.1", "--port", "0", "--upstream", registry.host)
        with subprocess.Popen(
            cli.argv("share", "--lan", *options),
            env={**cli.environ, "MODELRUNNER_HOME": str(tmp_path / "neighbour")},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            try:
                address = process.stdout.readline().strip()
                assert "`modelrunner pull --lan` finds it" in process.stderr.readline()
                for number in range(2):
                    home = str(tmp_path / str(number))
                    done = cli("pull", name, "--lan", "--json", MODELRUNNER_HOME=home)
                    assert json.loads(done.stdout)["origins"] == {address: large.size}, done.stderr
            finally:
                process.terminate()
        assert registry.bytes_sent() == large.size

    def test_nobody_is_asked_unasked(
        self, cli: CommandLine, registry: Registry, name: str, shared: str
    ) -> None:
        told = json.loads(cli("pull", name, "--json").stdout)
        assert "origins" not in told

    def test_a_pinned_model_comes_while_the_registry_is_away(
        self, cli: CommandLine, registry: Registry, large: Artifact, name: str, shared: str
    ) -> None:
        registry.answer(503, times=None)
        done = cli("pull", f"{name}@{large.digest}", "--lan", "--json")
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["digest"] == large.digest

    @pytest.mark.parametrize("wrong", ["bytes", "size", "refusal", "page"])
    def test_a_neighbour_that_lies_is_left(
        self, cli: CommandLine, registry: Registry, large: Artifact, name: str, wrong: str
    ) -> None:
        def answer(handler: BaseHTTPRequestHandler) -> None:
            if wrong == "bytes":
                other_bytes(handler, len(large.layers[0]))
            elif wrong == "size":
                other_bytes(handler, 17)
            elif wrong == "refusal":
                handler.send_error(401)
            else:
                handler.send_response(200)
                handler.send_header("Content-Type", "text/html")
                handler.send_header("Content-Length", "0")
                handler.end_headers()

        with lying_store(answer):
            done = cli("pull", name, "--lan", "--json")
        assert done.returncode == 0, done.stderr
        assert weights_at(cli, name) == large.layers[0]
        assert cli("verify", "--deep").returncode == 0

    def test_broken_answers_disturb_nobody(
        self, cli: CommandLine, registry: Registry, name: str
    ) -> None:
        over = threading.Event()

        def babble() -> None:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as line:
                line.setsockopt(
                    socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton("127.0.0.1")
                )
                while not over.wait(0.02):
                    for packet in (
                        b"",
                        b"\x00" * 11,
                        os.urandom(64),
                        b"\x00\x00\x84\x00" + b"\xff" * 40,
                    ):
                        line.sendto(packet, ("224.0.0.251", 5353))

        noise = threading.Thread(target=babble)
        noise.start()
        network = Zeroconf(interfaces=["127.0.0.1"], ip_version=IPVersion.V4Only)
        try:
            odd = [("93.184.216.34", 80), ("127.0.0.1", 9), ("224.0.0.1", 80)]
            for number, (address, port) in enumerate(odd):
                network.register_service(
                    ServiceInfo(
                        lan.SERVICE,
                        f"odd-{number}.{lan.SERVICE}",
                        port=port,
                        parsed_addresses=[address],
                    )
                )
            # the machine may have other stores on its network, such as those of other tests
            found = {store.authority for store in lan.find()}
            assert not {f"{address}:{port}" for address, port in odd} & found
            done = cli("pull", name, "--lan", "--json")
        finally:
            over.set()
            noise.join()
            network.close()
        assert done.returncode == 0, done.stderr
        assert "origins" not in json.loads(done.stdout)

    @pytest.mark.skipif(sys.platform != "linux", reason="needs a socket of one network alone")
    def test_who_listens_asks_aloud_whoever_else_has_asked(self) -> None:
        question = b"\x0c_modelrunner\x04_tcp\x05local\x00" + b"\x00\x0c\x00\x01"
        group = socket.inet_aton("224.0.0.251") + socket.inet_aton("127.0.0.1")
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as others:
            others.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            others.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            # of Linux: what is asked on other networks of this machine does not count
            others.setsockopt(socket.IPPROTO_IP, 49, 0)
            others.bind(("224.0.0.251", 5353))
            others.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, group)
            others.setblocking(False)
            lan.find()
            heard = []
            with suppress(BlockingIOError):
                while True:
                    heard.append(others.recv(9000))
        # a library's own second question comes after a second, or never where another has asked
        assert len([each for each in heard if question in each]) >= 2

    def test_an_address_that_nobody_reaches_is_not_announced(self, cli: CommandLine) -> None:
        done = cli("share", "--lan", "--host", "::1", "--port", "0")
        assert done.returncode == 2
        assert "not an address in a private network" in done.stderr

    def test_the_shared_stores_own_repository_is_no_model(
        self, cli: CommandLine, shared: str
    ) -> None:
        host = shared.removeprefix("http://")
        assert cli("tags", f"{host}/whatever/else").returncode == 0
        assert cli("pull", f"{host}/_:latest").returncode == 2


class TestNearby:
    """What other programs of this machine have is not fetched again."""

    def test_it_is_taken_from_them(
        self, cli: CommandLine, registry: Registry, large: Artifact, name: str, tmp_path: Path
    ) -> None:
        ollama_model(tmp_path / "ollama", "library/x:1", [("model", large.layers[0])])
        done = cli("pull", name, "--json", OLLAMA_MODELS=str(tmp_path / "ollama"))
        told = json.loads(done.stdout)
        assert told["origins"] == {
            "Ollama": len(large.layers[0]),
            registry.host: len(large.config),
        }
        assert told["downloaded_bytes"] == len(large.config)
        assert weights_at(cli, name) == large.layers[0]

    def test_not_where_that_is_switched_off(
        self, cli: CommandLine, registry: Registry, large: Artifact, name: str, tmp_path: Path
    ) -> None:
        ollama_model(tmp_path / "ollama", "library/x:1", [("model", large.layers[0])])
        cli.home.mkdir(parents=True)
        (cli.home / "config.toml").write_text("reuse = false\n")
        done = cli("pull", name, "--json", OLLAMA_MODELS=str(tmp_path / "ollama"))
        assert "origins" not in json.loads(done.stdout)

    @pytest.mark.parametrize("cut", [True, False])
    def test_what_is_damaged_there_comes_from_the_registry(
        self,
        cli: CommandLine,
        registry: Registry,
        large: Artifact,
        name: str,
        tmp_path: Path,
        cut: bool,
    ) -> None:
        ollama_model(tmp_path / "ollama", "library/x:1", [("model", large.layers[0])])
        hexed = hashlib.sha256(large.layers[0]).hexdigest()
        theirs = tmp_path / "ollama/blobs" / f"sha256-{hexed}"
        theirs.write_bytes(large.layers[0][:-1] + (b"" if cut else b"?"))
        done = cli("pull", name, "--json", OLLAMA_MODELS=str(tmp_path / "ollama"))
        assert done.returncode == 0, done.stderr
        assert "origins" not in json.loads(done.stdout)
        assert weights_at(cli, name) == large.layers[0]

    def test_what_is_not_ours_to_look_into_has_nothing(self, tmp_path: Path) -> None:
        folder = tmp_path / "ollama"
        ollama_model(folder, "library/x:1", [("model", b"x")])
        digest = hashlib.sha256(b"x").hexdigest()
        program = (
            "import os; from pathlib import Path; from modelrunner.oci.digest import Digest\n"
            "from modelrunner.other_stores.places import BlobFinder\n"
            f"here = {{'OLLAMA_MODELS': {str(folder)!r}}}\n"
            f"ask = lambda: BlobFinder(Path('/nowhere'), here).find(Digest({digest!r}))\n"
            "print(ask()[0])\n"
            f"os.chmod({str(folder)!r}, 0)\n"
            "os.geteuid() or os.seteuid(65534)\n"
            "print(ask())"
        )
        done = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, check=True
        )
        assert done.stdout.split() == ["Ollama", "None"]
