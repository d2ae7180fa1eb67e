"""`logs --follow`: what happens to the file while it is read."""

import json
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import pytest

from modelrunner.serve.observability.request_log import RequestLog
from tests.conftest import CommandLine


@pytest.fixture
def log(cli: CommandLine) -> Path:
    folder = cli.home / "state" / "serve"
    folder.mkdir(parents=True)
    return folder / "127.0.0.1_1.requests.jsonl"


@contextmanager
def following(cli: CommandLine) -> Iterator[tuple[int, IO[str]]]:
    with subprocess.Popen(
        cli.argv("logs", "--requests", "--follow", "--json"),
        env=dict(cli.environ),
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        try:
            yield process.pid, process.stdout
        finally:
            process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130


def number(lines: IO[str]) -> object:
    return json.loads(lines.readline())["number"]


def test_a_log_that_is_replaced_is_followed_from_its_beginning(cli: CommandLine, log: Path) -> None:
    # one request fills a file
    requests = RequestLog(log, limit=10)
    requests.add({"number": 0})
    with following(cli) as (pid, lines):
        assert number(lines) == 0
        for each in (1, 2, 3):
            requests.add({"number": each})
            assert number(lines) == each
        files = Path(f"/proc/{pid}/fd")
        if files.is_dir():
            # of those that are gone, the first one alone
            opened = [str(each.readlink()) for each in files.iterdir()]
            gone = [each for each in opened if each.endswith(".requests.jsonl.1 (deleted)")]
            assert len(gone) == 1
    requests.close()


def test_a_log_that_is_emptied_is_followed_from_its_beginning(cli: CommandLine, log: Path) -> None:
    log.write_text('{"number": 0, "more": "than the next one has"}\n')
    with following(cli) as (_, lines):
        assert number(lines) == 0
        log.write_text('{"number": 1}\n')
        assert number(lines) == 1


def test_requests_before_a_full_log_are_printed_too(cli: CommandLine, log: Path) -> None:
    requests = RequestLog(log, limit=10)
    for each in range(3):
        requests.add({"number": each})
    requests.close()
    done = cli("logs", "--requests", "--json")
    assert [json.loads(line)["number"] for line in done.stdout.splitlines()] == [1, 2]
    last = cli("logs", "--requests", "--json", "--tail", "1")
    assert json.loads(last.stdout)["number"] == 2
