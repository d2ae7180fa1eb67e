"""What others see of a process."""

import sys
from pathlib import Path

import pytest

from tests.support.processes import child


@pytest.mark.skipif(sys.platform != "linux", reason="where arguments lie is told by Linux")
def test_secret_among_the_arguments_is_hidden_from_whoever_lists_processes():
    code = (
        "from modelrunner.system.processes import hide_argument\n"
        "hide_argument(sys.argv[2])\n"
        "print('hidden', flush=True)\n"
        "sys.stdin.read()"
    )
    with child(code, "--api-key", "s3cret", "--api-key=s3cret", "s3cret-not") as running:
        assert running.process.stdout.readline() == "hidden\n"
        shown = Path(f"/proc/{running.process.pid}/cmdline").read_bytes().split(b"\0")
        running.process.stdin.close()
        running.process.wait(20)
    assert shown[-5:-1] == [b"--api-key", b"******", b"--api-key=******", b"s3cret-not"]
