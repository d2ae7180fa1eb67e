"""Which runtime, and why not the others."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

import modelrunner
from modelrunner.errors import RuntimeUnavailableError, UsageError
from modelrunner.runtime.backends.llama_server import LlamaServer, how_to_install
from modelrunner.runtime.base import Ability
from modelrunner.runtime.select import runtimes, select
from modelrunner.system.installation import Installation, add

ROOT = Path(modelrunner.__file__).parent.parent


@pytest.fixture
def path_with_llama_server(tmp_path):
    """A folder for PATH with a `llama-server` that tells its version."""
    program = tmp_path / "bin" / "llama-server"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\necho 'version: 6107 (abc)' >&2\necho 'built for x' >&2\n")
    program.chmod(0o755)
    return str(program.parent)


def test_llama_server_on_path_comes_first(path_with_llama_server):
    runtime = select("auto", environ={"PATH": path_with_llama_server})
    assert runtime.name == "llama-server"
    assert runtime.availability().detail == f"{path_with_llama_server}/llama-server"
    assert runtime.version() == "6107 (abc)"


def test_llama_server_that_is_not_executable_is_not_there(path_with_llama_server):
    Path(path_with_llama_server, "llama-server").chmod(0o644)
    with pytest.raises(RuntimeUnavailableError) as caught:
        select("llama-server", environ={"PATH": path_with_llama_server})
    assert caught.value.message == "llama-server: no llama-server on PATH"
    assert f"`{add('embedded')}` brings the same code" in caught.value.hint


@pytest.mark.parametrize(
    ("platform", "hint"),
    [("darwin", "brew install"), ("win32", "winget install"), ("linux", "llama.cpp/releases")],
)
def test_llama_server_is_installed_as_on_each_system(platform, hint):
    assert hint in how_to_install(platform, {"PATH": ""})


@pytest.mark.parametrize(
    "script", ["exit 1", "exec sleep 60", "echo unknown option", "printf 'version: \\a\\n'"]
)
def test_llama_server_that_cannot_tell_its_version_has_none(path_with_llama_server, script):
    Path(path_with_llama_server, "llama-server").write_text(f"#!/bin/sh\n{script}\n")
    runtime = LlamaServer({"PATH": f"{path_with_llama_server}:/bin"}, version_deadline_s=0.2)
    assert runtime.version() is None


def test_first_that_can_do_what_is_needed_is_taken(path_with_llama_server):
    environ = {"PATH": path_with_llama_server, "DOCKER_HOST": "unix:///nowhere/docker.sock"}
    assert select("auto", environ=environ, needs={Ability.RPC}).name == "llama-server"
    with pytest.raises(RuntimeUnavailableError) as caught:
        select("auto", environ={**environ, "PATH": ""}, needs={Ability.RPC})
    assert "llama-server: no llama-server on PATH" in caught.value.message
    # what brings the same code without a program has no such flags
    assert caught.value.hint == how_to_install(sys.platform, {"PATH": ""})


def test_url_is_the_runtime_that_runs_already():
    runtime = select("http://127.0.0.1:8080", environ={}, api_key="k")
    assert runtime.availability().available
    assert runtime.name == "url"


def test_unknown_runtime_is_named_with_the_known_ones():
    with pytest.raises(UsageError) as caught:
        select("olama", environ={})
    assert caught.value.message == "--runtime: unknown runtime 'olama'"
    assert (
        caught.value.hint
        == "use auto, llama-server, llama-cpp-python, xllamacpp, docker, or the URL of a server"
    )


def test_every_runtime_is_listed_in_order_of_preference(path_with_llama_server):
    found = runtimes({"PATH": path_with_llama_server})
    assert [each.name for each in found] == [
        "llama-server", "llama-cpp-python", "xllamacpp", "docker",
    ]  # fmt: skip
    assert found[0].version == "6107 (abc)"
    assert all(each.available or each.hint for each in found)


# a Python that sees no packages sees no pip either
BARE = Installation(Path(sys.prefix), sys.executable, {}, pip=False)


def without_packages(code):
    """What a fresh Python prints that sees this project and the standard library, no packages."""
    program = f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{code}"
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", program], capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout)


def test_machine_without_any_runtime_is_told_why_not_each_and_what_to_do():
    error = without_packages("""
import json
from modelrunner.errors import RuntimeUnavailableError
from modelrunner.runtime.select import select
try:
    select("auto", environ={"DOCKER_HOST": "unix:///nowhere/docker.sock"})
except RuntimeUnavailableError as error:
    print(json.dumps(error.to_dict()))
""")
    assert error == {
        "code": "runtime_unavailable",
        "message": "no runtime found that can run a model (llama-server: no llama-server on PATH; "
        "llama-cpp-python: no Python module llama_cpp; xllamacpp: no Python module "
        "xllamacpp; docker: no daemon: /nowhere/docker.sock not found)",
        "hint": f"`{BARE.add('embedded')}`",
        "retryable": False,
    }


@pytest.mark.parametrize(
    ("name", "message", "hint"),
    [
        (
            "xllamacpp",
            "xllamacpp: no Python module xllamacpp",
            f"`{BARE.add('embedded')}`",
        ),
        (
            "llama-cpp-python",
            "llama-cpp-python: no Python module llama_cpp",
            f"`{BARE.add('llama-cpp-python')}`",
        ),
    ],
)
def test_missing_package_is_named_with_the_extra_that_has_it(name, message, hint):
    said = without_packages(f"""
import json
from modelrunner.errors import RuntimeUnavailableError
from modelrunner.runtime.select import select
try:
    select({name!r}, environ={{}})
except RuntimeUnavailableError as error:
    print(json.dumps([error.message, error.hint]))
""")
    assert said == [message, hint]


def test_looking_for_runtimes_imports_none_of_them():
    loaded = subprocess.run(
        [
            sys.executable,
            "-c",
            """if True:
            import sys
            from modelrunner.runtime.select import runtimes
            runtimes({})
            heavy = {"xllamacpp", "llama_cpp", "fastapi", "http.client", "asyncio"}
            print(sorted(heavy & set(sys.modules)))
            """,
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    assert loaded.stdout == "[]\n"
