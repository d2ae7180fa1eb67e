"""Registries on loopback to measure against: Debian's, the same behind TLS, and one with limits.

    with docker_registry(folder) as plain, behind_tls(folder, plain) as tls, limited(blob) as cdn:
        ...

Everything runs as child processes that end with the block; nothing listens beyond 127.0.0.1. This
file run as a program is the limited server: each of its connections gets 20 MB/s and 30 ms of
latency, as with many content delivery networks, and it counts what it sends.
"""

import argparse
import hashlib
import http.client
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.support.gguf import tiny_gguf, tiny_shards

REPOSITORY = "bench/model"
OTHER_TAG = "moved"
"""One more tag of the limited server for the same model."""
MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
CONFIG_TYPE = "application/vnd.docker.ai.model.config.v0.1+json"
LAYER_TYPE = "application/vnd.docker.ai.gguf.v3"
FILEPATH = "org.cncf.model.filepath"
_CHUNK = 128 * 1024
_START_S = 15.0


class MissingToolError(Exception):
    """A program that a figure needs is not installed."""


@dataclass(frozen=True)
class Address:
    """Where a registry listens, and what certificate it shows."""

    port: int
    certificate: Path | None = None

    @property
    def host(self) -> str:
        """Host and port, as in a reference."""
        return f"127.0.0.1:{self.port}"

    @property
    def base(self) -> str:
        """The address before `/v2`."""
        return f"{'http' if self.certificate is None else 'https'}://{self.host}"


@dataclass(frozen=True)
class Layer:
    """A small model, or a part of one, with random bytes behind it.

    Attributes:
        blob: The bytes, in the registry's own storage.
    """

    blob: Path
    size: int
    digest: str

    @property
    def path(self) -> str:
        """Its path on every server."""
        return f"/v2/{REPOSITORY}/blobs/{self.digest}"


@dataclass(frozen=True)
class Model:
    """An artifact with large layers.

    Attributes:
        tag: Its name in the repository.
    """

    tag: str
    layers: tuple[Layer, ...]
    config: bytes
    manifest: bytes

    @property
    def size(self) -> int:
        """Bytes of all layers."""
        return sum(layer.size for layer in self.layers)

    @property
    def blob(self) -> Path:
        """The first layer's bytes."""
        return self.layers[0].blob

    @property
    def digest(self) -> str:
        """The first layer's."""
        return self.layers[0].digest

    @property
    def path(self) -> str:
        """The first layer's path on every server."""
        return self.layers[0].path

    @property
    def small(self) -> dict[str, bytes]:
        """Config and manifest by their digests."""
        return {digest_of(content): content for content in (self.config, self.manifest)}

    def index(self, tag: str) -> bytes:
        """The index of a layout in which the model has a tag."""
        entry = {
            "mediaType": MANIFEST_TYPE, "digest": digest_of(self.manifest),
            "size": len(self.manifest),
            "annotations": {"org.opencontainers.image.ref.name": tag},
        }  # fmt: skip
        return json.dumps({"schemaVersion": 2, "manifests": [entry]}).encode()

    def on(self, host: str) -> str:
        """The model's reference on a registry."""
        return f"{host}/{REPOSITORY}:{self.tag}"

    def pinned_on(self, host: str) -> str:
        """The reference by digest."""
        return f"{host}/{REPOSITORY}@{digest_of(self.manifest)}"


def tool(name: str) -> str:
    """The path of a program.

    Raises:
        MissingToolError: It is not installed.
    """
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin:/usr/local/sbin")
    if found is None:
        raise MissingToolError(f"{name} is not installed")
    return found


@contextmanager
def running(command: list[str], port: int, log: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """The block in which a server runs; it is entered when the port answers."""
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out)
    try:
        _wait(process, port, log)
        yield process
    finally:
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def storage(folder: Path) -> Path:
    """What a registry over a folder keeps."""
    return folder / "storage"


@contextmanager
def docker_registry(folder: Path) -> Iterator[Address]:
    """Debian's `docker-registry` over a folder."""
    program, port = tool("docker-registry"), free_port()
    config = folder / "registry.yml"
    config.write_text(
        "version: 0.1\n"
        "log: {level: error, accesslog: {disabled: true}}\n"
        f"storage: {{filesystem: {{rootdirectory: {storage(folder)}}}}}\n"
        f"http: {{addr: 127.0.0.1:{port}}}\n"
    )
    with running([program, "serve", str(config)], port, folder / "registry.log"):
        yield Address(port)


@contextmanager
def behind_tls(folder: Path, registry: Address) -> Iterator[Address]:
    """The registry behind nginx with a certificate that nobody else trusts."""
    program, port = tool("nginx"), free_port()
    certificate, key = folder / "ca.pem", folder / "key.pem"
    subprocess.run(
        [tool("openssl"), "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
         "-nodes", "-days", "1", "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1",
         "-keyout", str(key), "-out", str(certificate)],
        check=True, capture_output=True,
    )  # fmt: skip
    work = folder / "nginx"
    work.mkdir()
    config = folder / "nginx.conf"
    config.write_text(_NGINX.format(work=work, port=port, certificate=certificate, key=key,
                                    upstream=registry.host))  # fmt: skip
    command = [program, "-c", str(config), "-e", str(work / "error.log")]
    with running(command, port, folder / "nginx.log"):
        yield Address(port, certificate)


_NGINX = """
daemon off; worker_processes 2; pid {work}/pid; error_log {work}/error.log warn;
events {{ worker_connections 256; }}
http {{
  access_log off; client_body_temp_path {work}/body; proxy_temp_path {work}/proxy;
  fastcgi_temp_path {work}/fastcgi; uwsgi_temp_path {work}/uwsgi; scgi_temp_path {work}/scgi;
  client_max_body_size 0; proxy_max_temp_file_size 0; proxy_buffers 16 64k; proxy_buffer_size 64k;
  proxy_busy_buffers_size 512k;
  upstream registry {{ server {upstream}; keepalive 16; }}
  server {{
    listen 127.0.0.1:{port} ssl; ssl_certificate {certificate}; ssl_certificate_key {key};
    ssl_protocols TLSv1.2 TLSv1.3;
    location / {{
      proxy_pass http://registry; proxy_http_version 1.1; proxy_set_header Connection "";
      proxy_request_buffering off;
      proxy_set_header Host $http_host; proxy_set_header X-Forwarded-Proto https;
    }}
  }}
}}
"""


@dataclass(frozen=True)
class Counted:
    """What the limited server has seen since it was last asked to forget."""

    requests: tuple[str, ...]
    sent: int
    connections: int


@dataclass(frozen=True)
class Limited(Address):
    """The limited server."""

    def forget(self, *, crawl: int = 0) -> None:
        """Starts counting anew; the `crawl`-th connection that asks for the blob will crawl."""
        self._ask(f"/forget?{crawl}")

    def counted(self) -> Counted:
        """What came since."""
        value = json.loads(self._ask("/counted"))
        return Counted(tuple(value["requests"]), value["sent"], value["connections"])

    def _ask(self, path: str) -> bytes:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request("GET", path)
            return connection.getresponse().read()
        finally:
            connection.close()


@contextmanager
def limited(folder: Path, model: Model, *, rate: int = 20_000_000) -> Iterator[Limited]:
    """A registry with one model, which limits each connection."""
    port = free_port()
    manifest, config = folder / f"{model.tag}.manifest", folder / f"{model.tag}.config"
    manifest.write_bytes(model.manifest)
    config.write_bytes(model.config)
    command = [sys.executable, __file__, str(port), str(rate), str(model.blob), model.digest,
               model.tag, str(manifest), str(config)]  # fmt: skip
    with running(command, port, folder / f"{model.tag}.log"):
        yield Limited(port)


def push(
    registry: Address, folder: Path, size: int, tag: str, layers: int = 1, *, even: bool = False
) -> Model:
    """Makes a model in a registry, by plain HTTP: small ones in GGUF with random bytes behind them.

    Args:
        registry: Where.
        folder: What the registry was started over.
        size: Bytes of all layers.
        tag: The model's.
        layers: How many; the first has half of the bytes where there are several.
        even: Whether all of them have as many bytes.
    """
    sizes = [size // layers] * layers
    if layers > 1 and not even:
        sizes = [size // 2, *[size // 2 // (layers - 1)] * (layers - 1)]
    connection = http.client.HTTPConnection("127.0.0.1", registry.port, timeout=120)
    try:
        found = tuple(
            _layer(connection, folder, head, each)
            for head, each in zip(_heads(folder, layers), sizes, strict=True)
        )
        config = json.dumps(
            {"config": {"format": "gguf", "size": str(size)},
             "rootfs": {"type": "rootfs", "diff_ids": [layer.digest for layer in found]}}
        ).encode()  # fmt: skip
        _upload(connection, digest_of(config), config, len(config))
        manifest = json.dumps(
            {"schemaVersion": 2, "mediaType": MANIFEST_TYPE,
             "config": {"mediaType": CONFIG_TYPE, "digest": digest_of(config),
                        "size": len(config)},
             "layers": [_described(number, layer, found) for number, layer in enumerate(found)]}
        ).encode()  # fmt: skip
        _ask(connection, "PUT", f"/v2/{REPOSITORY}/manifests/{tag}", manifest, MANIFEST_TYPE)
    finally:
        connection.close()
    return Model(tag, found, config, manifest)


def _described(number: int, layer: Layer, of: tuple[Layer, ...]) -> dict[str, object]:
    found: dict[str, object] = {
        "mediaType": LAYER_TYPE, "digest": layer.digest, "size": layer.size,
    }  # fmt: skip
    if len(of) > 1:
        name = f"model-{number + 1:05}-of-{len(of):05}.gguf"
        found["annotations"] = {FILEPATH: name}
    return found


def _heads(folder: Path, layers: int) -> list[bytes]:
    made = folder / "heads"
    made.mkdir()
    paths = [tiny_gguf(made / "tiny.gguf")] if layers == 1 else tiny_shards(made, layers=layers)
    heads = [path.read_bytes() for path in paths]
    shutil.rmtree(made)
    return heads


def _layer(connection: http.client.HTTPConnection, folder: Path, head: bytes, size: int) -> Layer:
    source, found = folder / "blob", hashlib.sha256(head)
    try:
        with source.open("wb") as file:
            file.write(head)
            while left := size - file.tell():
                chunk = os.urandom(min(1024 * 1024, left))
                found.update(chunk)
                file.write(chunk)
        hexdigest = found.hexdigest()
        with source.open("rb") as file:
            _upload(connection, f"sha256:{hexdigest}", file, size)
    finally:
        source.unlink(missing_ok=True)
    stored = (
        storage(folder) / "docker/registry/v2/blobs/sha256" / hexdigest[:2] / hexdigest / "data"
    )
    return Layer(stored, size, f"sha256:{hexdigest}")


def digest_of(content: bytes) -> str:
    """The digest of some bytes."""
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def free_port() -> int:
    """A port that nobody listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _upload(connection: http.client.HTTPConnection, digest: str, body: object, size: int) -> None:
    start = _ask(connection, "POST", f"/v2/{REPOSITORY}/blobs/uploads/", b"", "")
    place = start.partition("://")[2].partition("/")[2]
    target = f"/{place}{'&' if '?' in place else '?'}digest={digest}"
    headers = {"Content-Length": str(size)}
    _ask(connection, "PUT", target, body, "application/octet-stream", headers)


def _ask(
    connection: http.client.HTTPConnection,
    method: str,
    path: str,
    body: object,
    media_type: str,
    headers: dict[str, str] | None = None,
) -> str:
    sent = {"Content-Type": media_type, **(headers or {})}
    connection.request(method, path, body, sent)  # type: ignore[arg-type]
    response = connection.getresponse()
    text = response.read()
    if response.status not in (201, 202):
        raise OSError(f"{method} {path}: {response.status} {text[:500]!r}")
    return response.headers.get("Location", "")


def _wait(process: "subprocess.Popen[bytes]", port: int, log: Path) -> None:
    deadline = time.monotonic() + _START_S
    while process.poll() is None and time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.02)
        else:
            return
    raise OSError(f"the server did not come up: {log.read_text(errors='replace')[-1000:]}")


class _State:
    """What the limited server serves and counts."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.rate: int = arguments.rate
        self.blob: int = os.open(arguments.blob, os.O_RDONLY)
        self.size = os.fstat(self.blob).st_size
        self.manifest: bytes = arguments.manifest.read_bytes()
        config: bytes = arguments.config.read_bytes()
        blobs = f"/v2/{REPOSITORY}/blobs/"
        self.blob_path = blobs + arguments.digest
        manifests = f"/v2/{REPOSITORY}/manifests/"
        self.small = {
            "/v2/": (b"{}", "application/json"),
            blobs + digest_of(config): (config, "application/octet-stream"),
            manifests + arguments.tag: (self.manifest, MANIFEST_TYPE),
            manifests + OTHER_TAG: (self.manifest, MANIFEST_TYPE),
            manifests + digest_of(self.manifest): (self.manifest, MANIFEST_TYPE),
        }
        self.lock = threading.Lock()
        self.forget(0)

    def forget(self, crawl: int) -> None:
        self.crawl, self.sent, self.connections = crawl, 0, 0
        self.requests: list[str] = []


class _Handler(BaseHTTPRequestHandler):
    """One connection of the limited server."""

    protocol_version = "HTTP/1.1"
    latency_s = 0.030
    crawl_rate = 50_000
    state: _State

    def setup(self) -> None:
        super().setup()
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.own_rate = 0

    def log_message(self, *_arguments: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        state = self.state
        if self.path.startswith("/forget"):
            state.forget(int(self.path.partition("?")[2] or 0))
            self._small(b"", "text/plain")
        elif self.path == "/counted":
            counted = {"requests": state.requests, "sent": state.sent,
                       "connections": state.connections}  # fmt: skip
            self._small(json.dumps(counted).encode(), "application/json")
        else:
            with state.lock:
                state.requests.append(f"{self.command} {self.path}")
            time.sleep(self.latency_s)
            if self.path == state.blob_path:
                self._blob()
            elif self.path in state.small:
                self._small(*state.small[self.path])
            else:
                self.send_error(404)

    def _small(self, content: bytes, media_type: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", media_type)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Docker-Content-Digest", digest_of(content))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def _blob(self) -> None:
        size = self.state.size
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        first = int(asked[1]) if asked else 0
        last = min(int(asked[2] or size - 1) if asked else size - 1, size - 1)
        self.send_response(206 if asked else 200)
        self.send_header("Content-Type", "application/octet-stream")
        self.send_header("Content-Length", str(last - first + 1))
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("ETag", '"1"')
        if asked:
            self.send_header("Content-Range", f"bytes {first}-{last}/{size}")
        self.end_headers()
        if self.command == "HEAD":
            return
        try:
            self._send(first, last + 1, self._rate())
        except OSError:
            # whoever asked has gone
            self.close_connection = True

    def _rate(self) -> int:
        """This connection's; it keeps the one it began with."""
        state = self.state
        if not self.own_rate:
            with state.lock:
                state.connections += 1
                crawls = state.connections == state.crawl
            self.own_rate = self.crawl_rate if crawls else state.rate
        return self.own_rate

    def _send(self, offset: int, end: int, rate: int) -> None:
        # no more than a tenth of a second at once, so that a crawl is one
        chunk = min(_CHUNK, max(4096, rate // 10))
        due = time.monotonic()
        while offset < end:
            count = os.sendfile(
                self.connection.fileno(), self.state.blob, offset, min(chunk, end - offset)
            )
            offset += count
            with self.state.lock:
                self.state.sent += count
            now = time.monotonic()
            # what was not used is not saved up, but for a moment's jitter
            due = max(due, now - 0.02) + count / rate
            if due > now:
                time.sleep(due - now)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64


def _main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("port", type=int)
    parser.add_argument("rate", type=int)
    parser.add_argument("blob", type=Path)
    parser.add_argument("digest")
    parser.add_argument("tag")
    parser.add_argument("manifest", type=Path)
    parser.add_argument("config", type=Path)
    arguments = parser.parse_args()
    handler = type("Handler", (_Handler,), {"state": _State(arguments)})
    _Server(("127.0.0.1", arguments.port), handler).serve_forever()


if __name__ == "__main__":
    _main()
