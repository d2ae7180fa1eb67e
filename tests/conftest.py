"""Fixtures for all tests: no environment of the developer's, a store, the command line."""

import gc
import itertools
import os
import signal
import sys
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from subprocess import CompletedProcess
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

from modelrunner.store.store import Store
from tests.support import docker_daemon as docker_daemons
from tests.support import forked, haste
from tests.support.fixtures import script
from tests.support.modules import folder_of
from tests.support.shared import made_once

if TYPE_CHECKING:
    from xdist.workermanage import WorkerController

ROOT = Path(__file__).parent.parent

# how long an example takes says more of the machine than of the code
_UNTIMED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("quick", _UNTIMED, max_examples=25)
settings.register_profile("thorough", _UNTIMED, max_examples=200)
settings.load_profile("quick")

# a shell that starts the tests in the background, or by nohup, has them ignore these, and what they
# start with them: the tests of Ctrl-C and of a terminal that goes away would wait in vain
for _ignored, _usual in (
    (signal.SIGINT, signal.default_int_handler),
    (signal.SIGHUP, signal.SIG_DFL),
):
    if signal.getsignal(_ignored) is signal.SIG_IGN:
        signal.signal(_ignored, _usual)

_FOREIGN = (
    "MODELRUNNER_",
    "DOCKER_CONFIG",
    "HF_",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "SSL_CERT",
    "REQUESTS_CA",
    "CURL_CA",
    "XDG_",
    # of the `make test` that runs them
    *("MAKEFLAGS", "MAKELEVEL", "MFLAGS"),
)
# these steer the tests themselves
_OURS = (
    *("MODELRUNNER_FUZZ_SECONDS", "MODELRUNNER_FUZZ_SEED", "MODELRUNNER_FAULT_RUNS"),
    *("MODELRUNNER_FAULTS", "MODELRUNNER_FAULTS_SEED"),
    "MODELRUNNER_UPDATE_DOCS",
)


_REAL = {"docker", "gpu", "registry", "slow"}
"""Marks of tests that are `real` by what they need."""


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Workers of `-n auto`: two for each core, since half of a test's time is waiting for
    servers, children and terminals; models and compilers compute all the time.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return (cores or 1) if config.option.markexpr == "real" else (cores or 1) * 2


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Has `-n` alone know of groups, too."""
    if getattr(config.option, "dist", "no") == "load":
        config.option.dist = "loadgroup"
    # workers have the words of the command line, and not what became of them
    if hasattr(config, "workerinput"):
        config.option.loadgroup = config.workerinput["grouped"]


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: "WorkerController") -> None:
    """Tells a worker whether tests are told by their groups."""
    node.workerinput["grouped"] = node.config.option.dist == "loadgroup"


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> object | None:
    """Gives each worker whole files; of what takes minutes, each test to whoever is free."""
    if config.option.dist != "loadgroup" or config.option.markexpr not in ("", "not real"):
        return None
    # pytest-xdist has it, which nothing else here needs
    from tests.support.schedule import ByFile

    return ByFile(config, log)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection() -> Generator[None, object, object]:
    """Looks for no garbage among what stays to the end: the tests, and what they import."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        # what tests make is small and goes with them: Python looks after 700 objects, and each time
        # among all that a session keeps as soon as that has grown by a quarter
        gc.set_threshold(10_000, 20, 20)
        gc.enable()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks what `make test` leaves to `make test-real`, and what one worker is to have alone."""
    for item in items:
        # the closest of each name: all of them are looked at once, for there are ten thousand tests
        marks = {mark.name: mark for mark in reversed([*item.iter_markers()])}
        long = "model" in marks and not marks["model"].kwargs.get("short", False)
        if long or not _REAL.isdisjoint(marks):
            item.add_marker("real")
            # they wait for compilers, package indexes and models, on machines that others use too
            if "timeout" not in marks:
                item.add_marker(pytest.mark.timeout(900))
        # one daemon for all of its tests
        if "docker" in marks:
            item.add_marker(pytest.mark.xdist_group("docker"))


@pytest.hookimpl(tryfirst=True)
def pytest_collection_finish(session: pytest.Session) -> None:
    """Has `xdist_group` work with pytest 9.2, whose tests have their name in another place.

    pytest-xdist 3.8 tells a test's group behind its name, and writes that where nobody reads it.
    """
    for item in session.items:
        named = getattr(item, "_nodeid", item.nodeid)
        if named != item.nodeid:
            item._id = import_module("_pytest.nodeid").coerce_node_id(named)  # type: ignore[attr-defined]


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Has the models of each worker compute on a core of their own.

    A model takes a thread for each core, and all wait for the slowest after every layer: of two
    models on the same cores each takes twice the processor's time, and more of everybody's.
    """
    worker = os.environ.get("PYTEST_XDIST_WORKER", "")
    if not worker or not hasattr(os, "sched_setaffinity") or not item.get_closest_marker("model"):
        return (yield)
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[int(worker.removeprefix("gw")) % len(cores)]})
    try:
        return (yield)
    finally:
        os.sched_setaffinity(0, cores)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Says by name which tests did not run here, and why."""
    reasons: dict[str, list[str]] = {}
    for report in terminalreporter.stats.get("skipped", []):
        if isinstance(report.longrepr, tuple | list):
            reason = report.longrepr[2].removeprefix("Skipped: ")
            name = report.nodeid.partition("@")[0]
            reasons.setdefault(reason, []).append(name)
    if reasons:
        count = sum(map(len, reasons.values()))
        noun = "test" if count == 1 else "tests"
        terminalreporter.section(f"{count} {noun} did not run here")
    for reason, names in sorted(reasons.items()):
        terminalreporter.line(f"{reason}:")
        for name in sorted(dict.fromkeys(name.partition("[")[0] for name in names)):
            terminalreporter.line(f"  {name}")


@pytest.fixture(scope="session", autouse=True)
def hasty_disk() -> Iterator[None]:
    """No test waits for a disk to have what is written."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", haste.flushed)
        yield


_USERS = itertools.count()


@pytest.fixture(autouse=True)
def clean_environ(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Tests see neither the home nor the settings of whoever runs them."""
    for name in list(os.environ):
        if name.upper().startswith(_FOREIGN) and name not in _OURS:
            monkeypatch.delenv(name)
    for name in ("CI", "NO_COLOR", "FORCE_COLOR", "COLORTERM", "TERM", "COLUMNS", "GITHUB_ACTIONS"):
        monkeypatch.delenv(name, raising=False)
    # a path of its own for each, and no directory: most tests need none, and to make one takes time
    home = tmp_path_factory.getbasetemp() / "users" / str(next(_USERS))
    monkeypatch.setenv("HOME", str(home))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """An empty store."""
    return Store(tmp_path / "home" / "store")


@dataclass(frozen=True)
class CommandLine:
    """`modelrunner` as a user types it, with a home of its own."""

    home: Path
    environ: Mapping[str, str]

    def __call__(
        self, *arguments: str, stdin: bytes = b"", timeout: float = 120, **environ: str
    ) -> "CompletedProcess[str]":
        """Runs a command; exit code, stdout and stderr of it."""
        done = forked.modelrunner(arguments, {**self.environ, **environ}, stdin, timeout)
        return CompletedProcess(
            done.args, done.returncode, done.stdout.decode(), done.stderr.decode()
        )

    def argv(self, *arguments: str) -> list[str]:
        """The command as a list."""
        return [sys.executable, "-m", "modelrunner", *arguments]

    @property
    def store(self) -> Store:
        """The store that its commands use."""
        return Store(self.home / "store")


@pytest.fixture
def cli(tmp_path: Path) -> CommandLine:
    """The command line, with an empty home."""
    home = tmp_path / "modelrunner"
    kept = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
    return CommandLine(
        home,
        {**kept, "HOME": str(tmp_path / "user"), "MODELRUNNER_HOME": str(home)},
    )


@pytest.fixture(scope="session")
def smollm2_gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The real small model that answers questions, out of its Python package."""
    smollm2 = script("smollm2")
    kept = ROOT / ".run" / "registry" / "files"
    if kept.is_dir():
        # a container reads it as nobody
        kept.chmod(0o755)
    else:
        kept = made_once(tmp_path_factory, "smollm2", smollm2.smollm2)
        kept.chmod(0o755)
    found: Path = smollm2.smollm2(kept)
    return found


@pytest.fixture(scope="session")
def tiny_models(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path | list[Path]]:
    """Tiny GGUF files that llama.cpp loads, by name."""
    made: Mapping[str, Path | list[Path]] = script("models").write_models(
        tmp_path_factory.mktemp("models")
    )
    return made


@pytest.fixture(scope="session")
def docker_daemon() -> Iterator[docker_daemons.DockerDaemon]:
    """A real Docker daemon, for tests marked `docker`."""
    reason = docker_daemons.missing_for_docker()
    if reason:
        pytest.skip(reason)
    with docker_daemons.docker_daemon() as daemon:
        yield daemon


@pytest.fixture(scope="session")
def docker_with_llama(
    docker_daemon: docker_daemons.DockerDaemon, tmp_path_factory: pytest.TempPathFactory
) -> docker_daemons.DockerDaemon:
    """A Docker daemon that has an image which serves models."""
    folder_of("xllamacpp", "the stand-in for llama-server needs xllamacpp")
    from tests.support.llama_image import import_image

    import_image(docker_daemon.host, tmp_path_factory.mktemp("image"))
    return docker_daemon
