"""One user's files before a command, the commands that change them, and what they look like after.

A world is a folder with a store of some models, a home, a project to work in. It is made once by
real commands, and copied to the same place for each case, so that paths stay what they were.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from modelrunner.disk.files import TEMPORARY_PREFIX
from modelrunner.operations.verify import verify_store
from modelrunner.store.store import Store
from tests.support.artifacts import Artifact, docker_artifact
from tests.support.faults.calls import Fault, Outage
from tests.support.faults.forks import Ended, Forks
from tests.support.gguf import tiny_gguf
from tests.support.registry import Registry

_LICENSE = b"Permission is granted. " * 40
_LATER_S = 7200
PASSWORD = "correct horse"


@dataclass(frozen=True, slots=True)
class Scenario:
    """A command, what it is given, and what it may say when it is run again after a fault."""

    name: str
    arguments: tuple[str, ...]
    again: tuple[int, ...] = (0,)
    touches: tuple[str, ...] = ()
    """The names that it may take away."""
    lasts: bool = True
    """Whether what it does has to be on the disk when it ends."""
    unread: tuple[int, ...] = ()
    """What else it may say of a disk that fails."""
    stdin: str = ""
    prepare: "Callable[[World], object] | None" = None
    """What comes first."""
    damaged: bool = False
    """Whether it is there to heal what is damaged before."""


@dataclass(frozen=True, slots=True)
class Look:
    """What there is, as far as it is the same whenever it is made."""

    models: Mapping[str, tuple[str, ...]]
    blobs: Mapping[str, int]
    files: Mapping[str, str]

    def differences(self, right: "Look") -> list[str]:
        """What is otherwise than it should be."""
        return [
            f"{key} is {has.get(key)}, not {should.get(key)}"
            for has, should in (
                (self.models, right.models),
                (self.blobs, right.blobs),
                (self.files, right.files),
            )
            for key in sorted(has.keys() | should.keys())
            if has.get(key) != should.get(key)
        ]

    def without_modes(self) -> "Look":
        files = {name: content.partition(" ")[2] for name, content in self.files.items()}
        return Look(self.models, self.blobs, files)


@dataclass(frozen=True)
class World:
    """A world in a folder; everything below `place` is its."""

    place: Path
    forks: Forks
    registry: Registry

    @property
    def store(self) -> Store:
        return Store(self.place / "home" / "store")

    def run(
        self,
        *arguments: str,
        stdin: str = "",
        faults: Mapping[str, object] | None = None,
        later_s: float = 0,
        **environ: str,
    ) -> Ended:
        """Runs a command in the project's folder."""
        own = {
            "HOME": str(self.place / "user"),
            "DOCKER_CONFIG": str(self.place / "user" / ".docker"),
            "MODELRUNNER_HOME": str(self.place / "home"),
            "PATH": os.environ["PATH"],
            "SOURCE_DATE_EPOCH": "1700000000",
            "TMPDIR": str(self.place / "tmp"),
        }
        return self.forks.run(
            arguments,
            cwd=self.place / "work",
            environ={**own, **environ},
            stdin=stdin,
            faults=faults,
            later_s=later_s,
        )

    def do(self, scenario: Scenario, faults: Mapping[str, object] | None = None) -> Ended:
        return self.run(*scenario.arguments, stdin=scenario.stdin, faults=faults)

    def fail(self, scenario: Scenario, fault: Fault | Outage) -> Ended:
        return self.do(scenario, fault.armed(self.place))

    def become(self, kept: Path) -> None:
        """Is another world: what is there goes, what was kept comes."""
        shutil.rmtree(self.place, ignore_errors=True)
        copy_tree(kept, self.place)

    def harm(self, scenario: Scenario, before: Collection[str]) -> list[str]:
        """What should not be, whatever has befallen a command: damage, and names that are gone."""
        lost = sorted(set(before) - set(scenario.touches) - set(self.names()))
        if scenario.damaged:
            return [f"lost: {name}" for name in lost]
        return [f"damaged: {what}" for what in self.damage()] + [f"lost: {name}" for name in lost]

    def leftovers(self) -> list[str]:
        """What a command that was not killed should have removed."""
        return [
            f"left: {path.relative_to(self.place)}"
            for path in _files(self.place)
            if path.name.startswith(TEMPORARY_PREFIX)
        ]

    def damage(self) -> list[str]:
        """What is not right in the store: wrong bytes, and blobs that are absent."""
        found = [str(finding) for finding in verify_store(self.store, deep=True).bad]
        for blob in _files(self.store.layout.blobs):
            content = hashlib.sha256(blob.read_bytes()).hexdigest()
            if content != blob.name and not blob.name.startswith(TEMPORARY_PREFIX):
                found.append(f"{blob} has other content")
        return found

    def names(self) -> dict[str, str]:
        """The names of the store, and which model each is of."""
        return {
            str(name): str(model.digest)
            for model in self.store.models()
            for name in model.references
        }

    def look(self) -> Look:
        """What there is, after `prune` has removed what nothing needs."""
        pruned = self.run("prune", "--json", later_s=_LATER_S)
        if pruned.code != 0:
            raise AssertionError(f"prune: {pruned}")
        store = self.store
        models = {
            str(model.digest): tuple(sorted(map(str, model.references))) for model in store.models()
        }
        blobs = {path.name: path.stat().st_size for path in _files(store.layout.blobs)}
        places = ("work", "user", "tmp", "home/state", "home/store/v1/ingest")
        files = {}
        for place in places:
            for path in _files(self.place / place):
                if path.name == "lock":
                    # made by whoever needs it
                    continue
                files[str(path.relative_to(self.place))] = _content(path, self.place)
        for path in _files(self.place / "home"):
            if path.name.startswith(TEMPORARY_PREFIX):
                files[str(path.relative_to(self.place))] = "left over"
        return Look(models, blobs, files)


def copy_tree(source: Path, target: Path) -> None:
    """Copies a folder; files that are one stay one, and times stay what they were."""
    copies: dict[int, Path] = {}
    for folder, _, names in os.walk(source):
        there = target / Path(folder).relative_to(source)
        there.mkdir(parents=True, exist_ok=True)
        for name in names:
            path, copy = Path(folder, name), there / name
            looked = path.lstat()
            if looked.st_ino in copies:
                os.link(copies[looked.st_ino], copy, follow_symlinks=False)
            else:
                shutil.copy2(path, copy, follow_symlinks=False)
                copies[looked.st_ino] = copy


def _files(folder: Path) -> list[Path]:
    return sorted(Path(where, name) for where, _, names in os.walk(folder) for name in names)


def _content(path: Path, place: Path) -> str:
    if path.is_symlink():
        return f"link to {path.readlink()}"
    mode = path.stat().st_mode & 0o777
    # wherever the world is, it looks the same
    content = path.read_bytes().replace(os.fsencode(place), b"world")
    return f"{mode:o} {hashlib.sha256(content).hexdigest()}"


@dataclass(frozen=True, slots=True)
class Supplies:
    """What the worlds are made of: files, and a registry that has models."""

    old: Artifact
    new: Artifact
    large: Artifact


def supply(registry: Registry, folder: Path) -> Supplies:
    """Puts models into a registry: one that is to be here, one that shares a blob, a large one."""
    tiny = tiny_gguf(folder / "supply.gguf").read_bytes()
    old = docker_artifact(tiny + b"old" * 100, license=_LICENSE)
    new = docker_artifact(tiny + b"new" * 100, license=_LICENSE, template=b"{{ messages }}")
    large = docker_artifact(tiny + os.urandom(3 << 20), license=_LICENSE)
    registry.add(old, "ai/old", tags=["1"])
    registry.add(new, "ai/new", tags=["1"])
    registry.add(new, "ai/moved", tags=["1"])
    registry.add(large, "ai/large", tags=["1"])
    registry.add(_many(tiny), "ai/many", tags=["1"])
    registry.demand_token({"me": PASSWORD})
    return Supplies(old, new, large)


def _many(tiny: bytes) -> Artifact:
    """So many small files that they come together."""
    files = {f"files/{number}.txt": b"small %d" % number * 100 for number in range(5)}
    return docker_artifact(tiny + b"many" * 100, extra_files=files)


def scenarios(registry: Registry) -> tuple[Scenario, ...]:
    """Every command that writes, and the readers that note something or read much."""
    new, old = registry.reference("ai/new:1"), registry.reference("ai/old:1")
    large, moved = registry.reference("ai/large:1"), registry.reference("ai/moved:1")
    mine, quiet = registry.reference("me/base:1"), ("--progress", "none")
    return (
        Scenario("pull", ("pull", new, *quiet)),
        Scenario("pull many files", ("pull", registry.reference("ai/many:1"), *quiet)),
        Scenario("pull again", ("pull", old, *quiet)),
        Scenario("pull what began", ("pull", large, *quiet)),
        Scenario("pull what has moved", ("pull", moved, *quiet), touches=(moved,)),
        Scenario("pull to a folder", ("pull", new, "--output", "out", *quiet)),
        Scenario("pull copies", ("pull", new, "--output", "out", "--copy", *quiet)),
        Scenario(
            "pull what is locked", ("pull", "--locked", "--output", "out", *quiet), unread=(9,)
        ),
        Scenario("pull into a new store", ("pull", new, *quiet), prepare=_without_a_store),
        Scenario(
            "pull what is damaged",
            ("pull", old, *quiet),
            prepare=lambda world: _damage(world, old),
            damaged=True,
        ),
        Scenario(
            "pull over older files",
            ("pull", new, "--output", "out", *quiet),
            prepare=lambda world: world.run("pull", old, "--output", "out", *quiet),
        ),
        Scenario(
            "package into a new store",
            ("package", "tiny.gguf", "local/made:1"),
            prepare=_without_a_store,
        ),
        Scenario("import", ("import", "tiny.gguf", "--name", "local/in:1")),
        Scenario("import copies", ("import", "tiny.gguf", "--name", "local/in:1", "--copy")),
        Scenario("import links", ("import", "tiny.gguf", "--name", "local/in:1", "--link")),
        Scenario("package", ("package", "tiny.gguf", "local/made:1", "-l", "LICENSE")),
        Scenario("tag", ("tag", "local/base:1", "local/base:2")),
        Scenario(
            "untag", ("rm", "local/other:1"), again=(0, 3), touches=("docker.io/local/other:1",)
        ),
        Scenario("remove", ("rm", old), again=(0, 3), touches=(old,)),
        Scenario(
            "remove all",
            ("rm", "--all", "--yes"),
            again=(0, 3),
            touches=(
                *(f"docker.io/local/{name}:1" for name in ("base", "other", "wide")),
                *(old, moved, mine),
            ),
        ),
        Scenario("prune", ("prune",)),
        Scenario("load", ("load", "archive.tar")),
        Scenario("save", ("save", "local/base:1", old, "-o", "saved.tar")),
        Scenario("save in parts", ("save", "local/wide:1", "-o", "saved.tar", "--split", "64KiB")),
        Scenario("save over another", ("save", "local/base:1", "-o", "archive.tar")),
        Scenario("export", ("export", "llama-preset", old, "-o", "preset.ini")),
        Scenario("export a folder", ("export", "k8s", old, "--puller", "box", "-o", "manifests")),
        Scenario("lock", ("lock", "--upgrade"), unread=(9,)),
        Scenario("lock anew", ("lock", "--init", new, "--file", "other.toml"), again=(0, 2)),
        Scenario(
            "log in",
            ("login", registry.host, "-u", "me", "--password-stdin"),
            stdin=PASSWORD,
        ),
        Scenario("log out", ("logout", "registry.example"), again=(0, 3)),
        Scenario("configure", ("configure", old, "--context", "512")),
        Scenario("configure again", ("configure", "local/base:1", "--unset", "context")),
        Scenario("make a view", ("path", old)),
        Scenario("update", ("update", moved, *quiet), touches=(moved,)),
        Scenario("push", ("push", mine)),
        Scenario("verify", ("verify", "--deep"), unread=(6,)),
        Scenario("inspect", ("inspect", old)),
        Scenario("estimate", ("estimate", old)),
        Scenario("plot", ("estimate", old, "--plot", "plot.svg", "--budget", "8GiB"), lasts=False),
        Scenario("list", ("list", "--json")),
        Scenario("df", ("df",)),
    )


def _without_a_store(world: World) -> None:
    shutil.rmtree(world.place / "home")


def _damage(world: World, name: str) -> None:
    model = world.store.resolve(name)
    blob = model.blob(model.artifact.weights[0].descriptor)
    blob.chmod(0o644)
    with blob.open("r+b") as file:
        file.write(b"spoilt")


def make(world: World, supplies: Supplies) -> None:
    """Makes the world that all commands begin in."""
    registry = world.registry
    for name in ("work", "user/.docker", "tmp"):
        (world.place / name).mkdir(parents=True)
    work = world.place / "work"
    tiny = tiny_gguf(work / "tiny.gguf")
    (work / "wide.gguf").write_bytes(tiny.read_bytes() + bytes(150_000))
    (work / "LICENSE").write_bytes(_LICENSE)
    old, moved = registry.reference("ai/old:1"), registry.reference("ai/moved:1")
    logins = {"auths": {"registry.example": {"auth": "bWU6eW91"}}}
    (world.place / "user" / ".docker" / "config.json").write_text(json.dumps(logins))
    registry.tag("ai/moved", "1", registry.add(supplies.old, "ai/moved"))
    for arguments in (
        ("package", "tiny.gguf", "local/base:1", "-l", "LICENSE"),
        ("package", "tiny.gguf", "local/gone:1"),
        ("tag", "local/base:1", "local/other:1"),
        ("pull", old),
        ("pull", moved),
        ("save", "local/gone:1", "-o", "archive.tar"),
        ("rm", "local/gone:1"),
        ("lock", "--init", old),
        ("configure", "local/base:1", "--context", "256"),
        ("tag", "local/base:1", registry.reference("me/base:1")),
        ("package", "wide.gguf", "local/wide:1"),
        ("login", registry.host, "-u", "me", "--password-stdin"),
    ):
        done = world.run(*arguments, stdin=PASSWORD)
        if done.code != 0:
            raise AssertionError(f"{arguments}: {done}")
    registry.tag("ai/moved", "1", supplies.new.digest)
    began = world.run(
        "pull", registry.reference("ai/large:1"), faults=Fault("write", 8).armed(world.place)
    )
    if not began.killed:
        raise AssertionError(f"the pull that was to be killed: {began}")
    dead = world.store.layout.blobs / hashlib.sha256(b"dead").hexdigest()
    dead.write_bytes(b"dead")
    shutil.rmtree(world.store.resolve(old).view())
