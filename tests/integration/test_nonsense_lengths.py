"""Answers whose lengths are none: each ends in words."""

import socketserver
import threading

import pytest

from tests.support.artifacts import docker_artifact

MODEL = docker_artifact(b"GGUF weights" * 1000)
DIGITS = b"9" * 5000


class Nonsense(socketserver.StreamRequestHandler):
    """A registry whose manifest is right, and whose other answers have the head it is given."""

    def handle(self):
        while line := self.rfile.readline():
            while self.rfile.readline().strip():
                pass
            path = line.split()[1].decode()
            if "/manifests/" in path and self.server.spare_manifest:
                head = f"Content-Type: {MODEL.media_type}\r\nContent-Length: {len(MODEL.manifest)}"
                body = b"" if line.startswith(b"HEAD") else MODEL.manifest
                self.wfile.write(b"HTTP/1.1 200 OK\r\n" + head.encode() + b"\r\n\r\n" + body)
                continue
            self.wfile.write(self.server.answer)
            return


@pytest.fixture
def nonsense():
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Nonsense) as server:
        server.daemon_threads = True
        server.spare_manifest = True
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


HEADS = {
    "a length of thousands of digits": b"Content-Length: " + DIGITS + b"\r\n\r\n",
    "a length of a few dozen digits": b"Content-Length: " + DIGITS[:40] + b"\r\n\r\n",
    "a negative length": b"Content-Length: -5\r\n\r\nGGUF",
    "a chunk of negative size": b"Transfer-Encoding: chunked\r\n\r\n-5\r\nGGUF\r\n",
    "a chunk of thousands of digits": b"Transfer-Encoding: chunked\r\n\r\n" + DIGITS + b"\r\nGG",
    "a chunk that is none": b"Transfer-Encoding: chunked\r\n\r\nzz\r\nGGUF\r\n",
    "a range of thousands of digits": b"Content-Range: bytes 0-" + DIGITS + b"/*\r\n\r\nGGUF",
}


@pytest.mark.parametrize("spare_manifest", [True, False], ids=["blob", "manifest"])
@pytest.mark.parametrize("head", HEADS)
def test_length_that_is_none_ends_in_words(cli, nonsense, head, spare_manifest):
    status = b"206 Partial Content" if head.startswith("a range") else b"200 OK"
    nonsense.answer = b"HTTP/1.1 " + status + b"\r\n" + HEADS[head]
    nonsense.spare_manifest = spare_manifest
    port = nonsense.server_address[1]

    done = cli("pull", f"127.0.0.1:{port}/team/model:1", "--timeout", "20", timeout=60)

    assert done.returncode in (5, 6), done.stderr
    assert done.stderr.splitlines()[-2].startswith("error: "), done.stderr
    assert done.stderr.splitlines()[-1].startswith("hint: ")


@pytest.mark.parametrize("head", HEADS)
def test_server_of_models_with_a_length_that_is_none_ends_in_words(cli, nonsense, head):
    nonsense.answer = b"HTTP/1.1 200 OK\r\n" + HEADS[head]
    url = f"http://127.0.0.1:{nonsense.server_address[1]}"

    done = cli("run", "--runtime", url, "model", "a question", timeout=60)

    assert done.returncode in (5, 6, 8), done.stderr
    assert "Traceback" not in done.stderr
