"""A transparency log with Rekor's first interface, on loopback: one entry, in a tree of one leaf.

The real one needs a database and a server of trees. What it answers to the one request of signing
is made as it makes it: the body is the canonical entry, the tree's root is signed in a checkpoint,
and the time in a promise.
"""

import base64
import hashlib
import json
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

_ORIGIN = "rekor.local - 1"


@contextmanager
def rekor() -> Iterator[tuple[str, ec.EllipticCurvePublicKey]]:
    """The block in which a log runs: its address, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            found = None if self.path != "/api/v1/log/entries" else _answer(key, asked)
            body = json.dumps(found).encode()
            self.send_response(404 if found is None else 201)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Nothing is logged."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", key.public_key()
        finally:
            server.shutdown()
            thread.join()


def _answer(key: ec.EllipticCurvePrivateKey, asked: Mapping[str, Any]) -> Mapping[str, object]:
    assert (asked["kind"], asked["apiVersion"]) == ("dsse", "0.0.1")
    content = asked["spec"]["proposedContent"]
    envelope = json.loads(content["envelope"])
    (verifier,) = content["verifiers"]
    payload = base64.b64decode(envelope["payload"])
    entry = {
        "apiVersion": "0.0.1",
        "kind": "dsse",
        "spec": {
            "envelopeHash": _hash(content["envelope"].encode()),
            "payloadHash": _hash(payload),
            "signatures": [
                {"signature": each["sig"], "verifier": verifier} for each in envelope["signatures"]
            ],
        },
    }
    body = json.dumps(entry, sort_keys=True, separators=(",", ":")).encode()
    root = hashlib.sha256(b"\0" + body).digest()
    der = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    name = hashlib.sha256(der).digest()
    note = f"{_ORIGIN}\n1\n{_encoded(root)}\n"
    signature = _encoded(name[:4] + _signed(key, note.encode()))
    promised = {
        "body": _encoded(body),
        "integratedTime": int(time.time()),
        "logID": name.hex(),
        "logIndex": 0,
    }
    canonical = json.dumps(promised, sort_keys=True, separators=(",", ":")).encode()
    proof = {
        "checkpoint": f"{note}\n\u2014 {_ORIGIN.partition(' ')[0]} {signature}\n",
        "hashes": [],
        "logIndex": 0,
        "rootHash": root.hex(),
        "treeSize": 1,
    }
    verification = {
        "inclusionProof": proof,
        "signedEntryTimestamp": _encoded(_signed(key, canonical)),
    }
    return {root.hex(): {**promised, "verification": verification}}


def _signed(key: ec.EllipticCurvePrivateKey, content: bytes) -> bytes:
    return key.sign(content, ec.ECDSA(hashes.SHA256()))


def _hash(content: bytes) -> Mapping[str, str]:
    return {"algorithm": "sha256", "value": hashlib.sha256(content).hexdigest()}


def _encoded(raw: bytes) -> str:
    return base64.b64encode(raw).decode()
