"""Which libraries of the system a runtime lacks."""

import os
import sys
from pathlib import Path

import pytest

from modelrunner.runtime import libraries
from modelrunner.runtime.libraries import (
    Missing,
    interpreter_of,
    missing_for_module,
    missing_for_program,
    parsed,
)
from modelrunner.system.packages import System
from tests.support.elf import library_that_needs

GLIBC = """\
\tlinux-vdso.so.1 (0x00007f90e0fd8000)
\tlibstdc++.so.6 => not found
\tlibm.so.6 => /lib/x86_64-linux-gnu/libm.so.6 (0x00007f90df510000)
\tlibgomp.so.1 => not found
\tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f90df00c000)
"""
OLD_GLIBC = """\
/x: /lib/x86_64-linux-gnu/libc.so.6: version `GLIBC_2.38' not found (required by /x)
/x: /lib/x86_64-linux-gnu/libstdc++.so.6: version `GLIBCXX_3.4.32' not found (required by /y)
\tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f90df00c000)
"""
MUSL = """\
\t/lib/ld-musl-x86_64.so.1 (0x7f2161046000)
Error loading shared library libgomp.so.1: No such file or directory (needed by /x/y.so)
\tlibm.so.6 => /lib/ld-musl-x86_64.so.1 (0x7f2161046000)
Error relocating /x/y.so: GOMP_parallel: symbol not found
"""
STOPPED = (
    "/x/y.so: error while loading shared libraries: libgomp.so.1: cannot open shared object file:"
    " No such file or directory\n"
)


@pytest.mark.parametrize(
    ("said", "missing"),
    [
        (GLIBC, Missing(("libstdc++.so.6", "libgomp.so.1"))),
        (OLD_GLIBC, Missing((), ("GLIBC_2.38", "GLIBCXX_3.4.32"))),
        (MUSL, Missing(("libgomp.so.1",))),
        (STOPPED, Missing(("libgomp.so.1",))),
        ("\tlibc.so.6 => /lib/libc.so.6 (0x1)\n", None),
        ("\tnot a dynamic executable\n", None),
        ("", None),
    ],
)
def test_what_each_loader_says_is_understood(said, missing):
    assert parsed(said) == missing


def test_it_is_said_in_words(monkeypatch):
    monkeypatch.setattr(System, "current", lambda: System("apt-get"))
    missing = Missing(("libstdc++.so.6", "libgomp.so.1"))
    assert missing.message == "system library not found: libstdc++.so.6, libgomp.so.1"
    assert missing.hint == "`apt-get install libstdc++6 libgomp1`"
    older = Missing((), ("GLIBC_2.38",))
    assert older.message == "needs a newer system: GLIBC_2.38 not found"
    assert older.hint == "use a build for this system, or a newer release of the system"


def test_the_loader_of_this_system_is_asked(tmp_path):
    lacking = library_that_needs("libq.so.6", tmp_path / "lacking.so")
    assert missing_for_module([lacking], os.environ) == Missing(("libq.so.6",))
    whole = library_that_needs("libc.so.6", tmp_path / "whole.so")
    assert missing_for_module([whole], os.environ) is None


def test_a_library_that_python_finds_elsewhere_is_not_missing(tmp_path, monkeypatch):
    lacking = library_that_needs("libq.so.6", tmp_path / "lacking.so")
    monkeypatch.setattr(libraries, "_fails_to_load", lambda *_: False)
    assert missing_for_module([lacking], os.environ) is None


def test_scripts_and_what_is_not_a_program_lack_nothing(tmp_path):
    script = tmp_path / "llama-server"
    script.write_text("#!/bin/sh\n")
    for file in (script, tmp_path / "absent", tmp_path):
        assert interpreter_of(file) is None
        assert missing_for_program(file, os.environ) is None
    script.write_bytes(b"\x7fELF\x02\x01" + b"\xff" * 60)
    assert interpreter_of(script) is None


@pytest.mark.skipif(sys.platform != "linux", reason="reads ELF")
def test_a_program_for_another_c_library_is_recognized(tmp_path):
    loader = interpreter_of(Path(sys.executable))
    assert loader is not None
    assert loader.exists()
    other = tmp_path / "llama-server"
    absent = loader.name.replace("ld-", "zz-", 1)
    other.write_bytes(
        Path(sys.executable).read_bytes().replace(loader.name.encode(), absent.encode(), 1)
    )
    assert missing_for_program(other, os.environ) == Missing((absent,))
