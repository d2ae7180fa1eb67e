"""Records of servers: who runs is told apart from who ran."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from modelrunner.errors import DiskFullError
from modelrunner.serve.process.background import _redirect
from modelrunner.serve.process.records import (
    Record,
    log_of,
    model_logs,
    process_start,
    record_name,
    recorded,
    running,
    server_logs,
)


def record(pid: int, started: str, name: str = "1") -> Record:
    return Record(
        name=name, pid=pid, started=started, url="http://x:1", control_key="k", models=("a",)
    )


def own() -> Record:
    return record(os.getpid(), process_start(os.getpid()) or "")


def test_a_server_is_known_as_long_as_it_runs(tmp_path: Path) -> None:
    with recorded(tmp_path / "serve", own()):
        assert running(tmp_path / "serve") == [own()]
        (file,) = (tmp_path / "serve").iterdir()
        assert file.stat().st_mode & 0o777 == 0o600
    assert running(tmp_path / "serve") == []


def test_a_record_that_cannot_be_kept_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_file: Path, _target: Path) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(DiskFullError), recorded(tmp_path, own()):
        pass
    assert list(tmp_path.iterdir()) == []


def test_what_a_crash_has_left_is_swept(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    left = record(process.pid, process_start(process.pid) or "")
    with recorded(tmp_path, left):
        assert running(tmp_path) == [left]
        process.kill()
        process.communicate()
        assert running(tmp_path) == []
        assert list(tmp_path.iterdir()) == []


def test_a_process_that_was_given_the_same_id_is_somebody_else(tmp_path: Path) -> None:
    with recorded(tmp_path, record(os.getpid(), "another time")):
        assert running(tmp_path) == []


@pytest.mark.parametrize("text", ["", "{", "[]", '{"pid": 1}', '{"models": 3}'])
def test_a_damaged_record_is_swept(tmp_path: Path, text: str) -> None:
    (tmp_path / "1.json").write_text(text)
    assert running(tmp_path) == []
    assert list(tmp_path.iterdir()) == []


def test_a_key_does_not_show() -> None:
    assert "secret" not in repr(
        Record(name="1", pid=1, started="", url="", control_key="secret", models=())
    )


def test_files_are_called_by_the_port() -> None:
    assert record_name("127.0.0.1", 12434) == "12434"
    assert record_name("::1", 80) == "__1_80"
    assert record_name("0.0.0.0", 80) == "0.0.0.0_80"
    assert record_name("my-host", 80) == "my_host_80"


def test_logs_are_told_apart_by_their_names(tmp_path):
    server, other = tmp_path / record_name("127.0.0.1", 80), tmp_path / record_name("my-host", 81)
    logs = [log_of(server, "ai/x:1"), log_of(other, "ai/x:1"), log_of(server, "me/ai/x:1")]
    for log in [*logs, tmp_path / "80.log", tmp_path / "my_host_81.log"]:
        log.touch()
    assert sorted(path.name for path in server_logs(tmp_path)) == ["80.log", "my_host_81.log"]
    assert sorted(model_logs(tmp_path, "ai/x:1")) == sorted(logs[:2])


def test_the_log_of_a_server_is_not_written_through_a_link(tmp_path: Path) -> None:
    precious, log = tmp_path / "precious", tmp_path / "12434.log"
    precious.write_text("mine")
    log.symlink_to(precious)
    with pytest.raises(OSError, match="symbolic link"):
        _redirect(log)
    assert precious.read_text() == "mine"


def test_a_record_is_not_read_through_a_link(tmp_path: Path) -> None:
    folder = tmp_path / "servers"
    with recorded(folder, own()):
        elsewhere = (folder / "1.json").rename(tmp_path / "elsewhere.json")
        (folder / "1.json").symlink_to(elsewhere)
        assert running(folder) == []
        assert elsewhere.exists()
