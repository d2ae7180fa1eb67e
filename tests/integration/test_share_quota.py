"""What may be pushed to a shared store has bounds, and cannot pass for another registry's."""

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from modelrunner.errors import RequestTooLargeError
from modelrunner.share.repositories import is_taken
from modelrunner.share.server import ShareServer, sharing
from modelrunner.share.writing import quota as quotas
from modelrunner.share.writing.quota import Quota
from modelrunner.share.writing.requests import Writing
from modelrunner.share.writing.storage import PushedContent
from modelrunner.store.store import Store
from tests.conftest import CommandLine
from tests.support.artifacts import docker_artifact
from tests.support.gguf import tiny_gguf
from tests.support.pulling import Pulling
from tests.support.registry import sha256
from tests.support.registry_client import Answer, ask
from tests.support.stores import put

MODEL = docker_artifact(b"GGUF" + bytes(range(256)) * 40, license=b"do as you like")
UPLOADS = "/v2/team/own/blobs/uploads/"
LIMIT = 1000
HOUR_S, WEEK_S = 3600, 7 * 24 * 3600


class Shared(NamedTuple):
    """A share that is written to, and how much of it is taken."""

    server: ShareServer
    quota: Quota
    uploads: Path


@contextmanager
def shared(
    store: Store,
    folder: Path,
    largest: int | None = None,
    total: int | None = None,
    behind: str = "",
) -> Iterator[Shared]:
    quota = Quota(largest, total)
    with PushedContent(folder, quota) as content:
        writing = Writing(content, lambda name: is_taken(store, name, lambda each: each == behind))
        with sharing(store, writing=writing) as server:
            yield Shared(server, quota, folder / "uploads")


def send(to: Shared, method: str, path: str, body: bytes | None = None, **headers: str) -> Answer:
    return ask(to.server.address + path, method, body, **headers)


def push(to: Shared, content: bytes, name: str = "team/own") -> Answer:
    return send(to, "POST", f"/v2/{name}/blobs/uploads/?digest={sha256(content)}", content)


def begin(to: Shared) -> str:
    answer = send(to, "POST", UPLOADS)
    assert answer.status == 202, answer.body
    return str(answer.headers["Location"])


def test_a_blob_that_is_said_to_be_too_large_is_not_read(store: Store, tmp_path: Path) -> None:
    with shared(store, tmp_path / "registry", largest=LIMIT) as to:
        answer = push(to, b"x" * (LIMIT + 1))

        assert (answer.status, answer.code) == (413, "SIZE_INVALID")
        assert b"a blob may have at most 1000 B" in answer.body
        assert list(to.uploads.iterdir()) == []
        location = begin(to)
        assert send(to, "PATCH", location, b"x" * 600).status == 202
        late = send(to, "PATCH", location, b"x" * 600)
        assert (late.status, late.code) == (413, "SIZE_INVALID")
        assert send(to, "GET", location).status == 404
        assert to.quota.used == 0
        assert push(to, b"x" * LIMIT).status == 201
        assert to.quota.used == LIMIT


def test_a_blob_that_does_not_say_its_size_is_cut_off(store: Store, tmp_path: Path) -> None:
    with shared(store, tmp_path / "registry", largest=LIMIT) as to:
        location = begin(to)
        head = f"PATCH {location} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
        with socket.create_connection(to.server.server_address[:2], timeout=60) as client:
            client.sendall(head.encode() + 2 * (b"300\r\n" + b"x" * 0x300 + b"\r\n") + b"0\r\n\r\n")
            assert client.recv(1000).startswith(b"HTTP/1.1 413 ")

        assert list(to.uploads.iterdir()) == []
        assert to.quota.used == 0


def test_all_that_is_pushed_has_a_limit(store: Store, tmp_path: Path) -> None:
    one, two = b"1" * 600, b"2" * 600
    with shared(store, tmp_path / "registry", total=LIMIT) as to:
        assert push(to, one).status == 201
        # the same once more takes room while it arrives alone
        assert push(to, one[:300]).status == 201
        refused = push(to, two)
        assert (refused.status, refused.code) == (413, "SIZE_INVALID")
        assert b"pushed content may have at most 1000 B, and 900 B are taken" in refused.body
        assert list(to.uploads.iterdir()) == []
        assert send(to, "DELETE", f"/v2/team/own/blobs/{sha256(one)}").status == 202
        assert push(to, two).status == 201
    # what is there counts after a restart too
    with shared(store, tmp_path / "registry", total=LIMIT) as to:
        assert to.quota.used == 900
        assert push(to, one).status == 413


def test_a_blob_that_is_there_takes_no_more_room(store: Store, tmp_path: Path) -> None:
    with shared(store, tmp_path / "registry") as to:
        assert push(to, b"1" * 600, "team/one").status == 201
        assert push(to, b"1" * 600, "team/two").status == 201
        digest = sha256(b"1" * 600)
        assert send(to, "POST", f"{UPLOADS}?mount={digest}&from=team/one").status == 201
        assert to.quota.used == 600
        wrong = send(to, "POST", f"{UPLOADS}?digest={sha256(b'other')}", b"2" * 600)
        assert (wrong.status, wrong.code) == (400, "DIGEST_INVALID")
        assert to.quota.used == 600


def test_manifests_count_and_go(store: Store, tmp_path: Path) -> None:
    with shared(store, tmp_path / "registry") as to:
        for content in MODEL.blobs.values():
            push(to, content)
        before = to.quota.used
        path = "/v2/team/own/manifests/1"
        for _again in range(2):
            done = send(to, "PUT", path, MODEL.manifest, Content_Type=MODEL.media_type)
            assert done.status == 201
        assert to.quota.used == before + len(MODEL.manifest)
        to.quota.total = to.quota.used
        other = MODEL.manifest.replace(b"{", b"{ ", 1)
        full = send(to, "PUT", path, other, Content_Type=MODEL.media_type)
        assert (full.status, full.code) == (413, "SIZE_INVALID")
        assert send(to, "GET", path).body == MODEL.manifest
        assert send(to, "DELETE", f"/v2/team/own/manifests/{MODEL.digest}").status == 202
        assert to.quota.used == before


def test_names_have_a_limit_too(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # the repository, its blobs, the manifest, and two tags
    monkeypatch.setattr(quotas, "MOST_NAMES", len(MODEL.blobs) + 4)
    with shared(store, tmp_path / "registry") as to:
        for content in MODEL.blobs.values():
            push(to, content)
        for tag in ("1", "2", "2"):
            path = f"/v2/team/own/manifests/{tag}"
            done = send(to, "PUT", path, MODEL.manifest, Content_Type=MODEL.media_type)
            assert done.status == 201
        used = to.quota.used
        more = send(
            to, "PUT", "/v2/team/own/manifests/3", MODEL.manifest, Content_Type=MODEL.media_type
        )
        assert (more.status, more.code) == (413, "SIZE_INVALID")
        assert f"at most {len(MODEL.blobs) + 4} tags, manifests and blobs".encode() in more.body
        digest = next(iter(MODEL.blobs))
        mounted = send(to, "POST", f"/v2/team/b/blobs/uploads/?mount={digest}&from=team/own")
        assert mounted.status == 413
        pushed = push(to, b"another")
        assert pushed.status == 413
        assert to.quota.used == used
        assert list(to.uploads.iterdir()) == []
        assert send(to, "GET", "/v2/_catalog").json["repositories"] == ["team/own"]
        assert send(to, "DELETE", "/v2/team/own/manifests/2").status == 202
        assert push(to, b"another").status == 201


def test_a_full_disk_is_told(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = shutil.disk_usage(tmp_path)
    with shared(store, tmp_path / "registry") as to:
        monkeypatch.setattr(shutil, "disk_usage", lambda _path: real._replace(free=64 * 1024**2))
        answer = push(to, b"x")

        assert (answer.status, answer.code) == (507, "SIZE_INVALID")
        assert list(to.uploads.iterdir()) == []


def test_an_upload_that_nobody_goes_on_with_is_removed(store: Store, tmp_path: Path) -> None:
    with shared(store, tmp_path / "registry") as to:
        old, new = begin(to), begin(to)
        for location in (old, new):
            assert send(to, "PATCH", location, b"x" * 100).status == 202
        touched(to, old, WEEK_S + 60)
        touched(to, new, HOUR_S + 60)

        begin(to)

        assert send(to, "GET", old).status == 404
        assert send(to, "GET", new).status == 204
        assert to.quota.used == 100


def test_where_its_room_is_needed_it_is_removed_sooner(store: Store, tmp_path: Path) -> None:
    with shared(store, tmp_path / "registry", total=LIMIT) as to:
        old, new = begin(to), begin(to)
        for location in (old, new):
            assert send(to, "PATCH", location, b"x" * 300).status == 202
        touched(to, old, HOUR_S + 60)

        assert push(to, b"y" * 600).status == 201

        assert send(to, "GET", old).status == 404
        assert send(to, "GET", new).status == 204
        assert to.quota.used == 900


def touched(to: Shared, location: str, ago_s: int) -> None:
    path = to.uploads / location.rpartition("/")[2]
    moment = path.stat().st_mtime - ago_s
    os.utime(path, (moment, moment))


def test_what_was_pushed_does_not_pass_for_another_registrys(store: Store, tmp_path: Path) -> None:
    with shared(store, tmp_path / "registry") as to:
        for content in MODEL.blobs.values():
            push(to, content, "ai/x")
        done = send(
            to, "PUT", "/v2/ai/x/manifests/1", MODEL.manifest, Content_Type=MODEL.media_type
        )
        assert done.status == 201
        for path in ("ai/x", "docker.io/ai/x", "ghcr.io/ai/x"):
            for registry in ("docker.io", "ghcr.io"):
                for kind in ("manifests/1", f"manifests/{MODEL.digest}", "tags/list"):
                    assert send(to, "GET", f"/v2/{path}/{kind}?ns={registry}").status == 404
        assert send(to, "GET", "/v2/docker.io/ai/x/manifests/1").status == 404
        assert send(to, "GET", "/v2/_catalog?ns=docker.io").json["repositories"] == []
        assert send(to, "GET", "/v2/ai/x/manifests/1").body == MODEL.manifest


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/v2/docker.io/ai/x/blobs/uploads/", "is a name of docker.io: leave the registry out"),
        ("/v2/ghcr.io/ai/x/blobs/uploads/", "is a name of ghcr.io: leave the registry out"),
        ("/v2/localhost/ai/x/blobs/uploads/", "is a name of localhost: leave the registry out"),
        ("/v2/ai/x/blobs/uploads/?ns=docker.io", "mirrors take no pushes: leave out ?ns="),
        ("/v2/ai/x/blobs/uploads/?ns=", "mirrors take no pushes: leave out ?ns="),
    ],
)
def test_nothing_is_pushed_as_another_registrys(
    store: Store, tmp_path: Path, path: str, said: str
) -> None:
    with shared(store, tmp_path / "registry") as to:
        answer = send(to, "POST", path)

        assert (answer.status, answer.code) == (403, "DENIED")
        assert said in answer.body.decode()
        assert list(to.uploads.iterdir()) == []


def test_names_of_a_registry_behind_it_are_that_registrys(store: Store, tmp_path: Path) -> None:
    with shared(store, tmp_path / "registry", behind="docker.io") as to:
        assert push(to, b"x", "ai/x").status == 403
    # also where they were pushed before it stood there
    with shared(store, tmp_path / "other") as to:
        assert push(to, b"x", "ai/x").status == 201
    with shared(store, tmp_path / "other", behind="docker.io") as to:
        assert send(to, "GET", f"/v2/ai/x/blobs/{sha256(b'x')}").status == 404


def test_our_own_push_says_what_there_is_no_room_for(store: Store, tmp_path: Path) -> None:
    model = put(store, MODEL, "local/own:1")
    with shared(store, tmp_path / "registry", largest=LIMIT) as to:
        host = to.server.address.removeprefix("http://")
        with pytest.raises(RequestTooLargeError, match="a blob may have at most 1000 B"):
            Pulling(store).push(model, f"{host}/team/own:1")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--max-upload", "1GiB"), "--max-upload and --pushed-size need --writable"),
        (("--writable", "--max-upload", "much"), "--max-upload: invalid size 'much'"),
        (("--writable", "--pushed-size", "-1"), "--pushed-size: invalid size '-1'"),
    ],
)
def test_limits_that_cannot_be_are_told(
    cli: CommandLine, words: tuple[str, ...], message: str
) -> None:
    found = cli("share", "--port", "0", *words)

    assert found.returncode == 2
    assert found.stderr.startswith(f"error: {message}\nhint: ")


def test_the_command_has_the_limits(cli: CommandLine, tmp_path: Path) -> None:
    file = tiny_gguf(tmp_path / "tiny.gguf")
    home = {"MODELRUNNER_HOME": str(tmp_path / "server")}
    with subprocess.Popen(
        cli.argv("share", "--writable", "--port", "0", "--max-upload", "1KiB"),
        env={**cli.environ, **home},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            host = process.stdout.readline().strip().removeprefix("http://")
            assert cli("package", str(file), f"{host}/team/tiny:1").returncode == 0
            found = cli("push", f"{host}/team/tiny:1")
        finally:
            process.kill()
    assert found.returncode == 5
    assert "HTTP 413 (a blob may have at most 1.00 KiB)" in found.stderr
