"""Many hosts that pull one model at once, each on a slow link: through a share, and by `--lan`.

    sudo .venv/bin/python -m benchmarks.fleet [--hosts 20] [--size 100MB] [--rate 10MB] [--json]

Each host is a network namespace on one bridge, with a limit (`tc tbf`) on what comes in, and the
registry's own line has the same limit on what goes out: one host alone takes as long as the model's
size over the rate, and all of them would take as many times that if each asked the registry. It
prints the time until the last host has the model, against that of one host alone, that of the
slowest pull without the start of its process, and the bytes that the registry's line has carried:
headers, names and what was sent twice included. Linux, root and iproute2 are needed; nothing
outside the namespaces is changed.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from modelrunner.store.store import Store
from modelrunner.units import parse_size
from tests.support.artifacts import docker_artifact
from tests.support.stores import put

ORIGIN, SHARE = "10.77.0.1", "10.77.0.2"
REGISTRY, CACHE = f"{ORIGIN}:5000", f"{SHARE}:5001"
MODEL = f"{REGISTRY}/ai/fleet:1"
CONFIG = "".join(f'[registries."{each}"]\ninsecure = true\n' for each in (REGISTRY, CACHE))


@dataclass(frozen=True)
class Row:
    """One measurement: seconds until the last host was done, and bytes from the registry."""

    way: str
    hosts: int
    seconds: float
    wire_bytes: int
    direct_bytes: int
    processor_s: float
    pull_s: float


def main() -> int:
    """Reads the options, measures, and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hosts", type=int, default=20)
    parser.add_argument("--size", default="100MB")
    parser.add_argument("--rate", default="10MB", help="bytes a second of each line")
    parser.add_argument("--json", action="store_true")
    said = parser.parse_args()
    if os.geteuid() != 0 or shutil.which("ip") is None or shutil.which("tc") is None:
        print("needs root, ip and tc", file=sys.stderr)
        return 2
    size, rate = parse_size(said.size), parse_size(said.rate)
    memory = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(prefix="fleet-", dir=memory if memory.is_dir() else None))
    try:
        with Net(said.hosts, rate) as net:
            rows = measure(net, folder, size)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if said.json:
        print(json.dumps([row.__dict__ for row in rows]))
    else:
        show(rows)
    return 0


def measure(net: "Net", folder: Path, size: int) -> list[Row]:
    """One host alone, and all hosts by each way."""
    put(
        Store(folder / "origin" / "store"),
        docker_artifact(b"GGUF" + os.urandom(size - 4)),
        "ai/fleet:1",
    )
    mirror = {"MODELRUNNER_MIRRORS": f"{REGISTRY}=http://{CACHE}"}
    share = ("--host", SHARE, "--port", "5001", "--upstream", REGISTRY)
    with net.running("origin", folder / "origin", "share", "--host", ORIGIN, "--port", "5000"):
        rows = [net.pulls("one host alone", folder / "alone", 1)]
        with net.running("share", folder / "share", "share", *share):
            rows.append(net.pulls("share --upstream", folder / "mirror", net.hosts, **mirror))
        with net.running("share", folder / "lan", "share", *share, "--lan"):
            rows.append(net.pulls("pull --lan", folder / "near", net.hosts, "--lan"))
    return rows


def show(rows: Sequence[Row]) -> None:
    """Prints the table."""
    print("| | hosts | s | of one host | slowest pull, s | MB from the registry | CPU s a host |")
    print("|---|---|---|---|---|---|---|")
    for row in rows:
        ratio = row.seconds / rows[0].seconds
        print(
            f"| {row.way} | {row.hosts} | {row.seconds:.1f} | {ratio:.2f} | "
            f"{row.pull_s:.1f} | {row.wire_bytes / 1e6:.1f} | {row.processor_s / row.hosts:.2f} |"
        )


class Net:
    """A bridge in a namespace, and a namespace for each host on it."""

    def __init__(self, hosts: int, rate: int) -> None:
        self.hosts = hosts
        self._rate = rate
        self._tag = f"mrf{os.getpid()}"
        self._stack = ExitStack()

    def __enter__(self) -> "Net":
        try:
            self._make()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *_error: object) -> None:
        self._stack.close()

    def _make(self) -> None:
        self._add_namespace("switch")
        self._in("switch", "ip", "link", "add", "br0", "type", "bridge", "mcast_snooping", "0")
        self._in("switch", "ip", "link", "set", "br0", "up")
        self._add_host("origin", ORIGIN)
        self._limit("origin", "eth0")
        self._add_host("share", SHARE)
        for number in range(self.hosts):
            self._add_host(f"h{number}", f"10.77.1.{number + 1}")
            self._limit("switch", f"h{number}")

    def _add_namespace(self, name: str) -> None:
        _run("ip", "netns", "add", f"{self._tag}-{name}")
        self._stack.callback(_run, "ip", "netns", "del", f"{self._tag}-{name}")

    def _add_host(self, name: str, address: str) -> None:
        self._add_namespace(name)
        there = f"{self._tag}-{name}"
        self._in(
            "switch",
            "ip",
            "link",
            "add",
            name,
            "type",
            "veth",
            "peer",
            "name",
            "eth0",
            "netns",
            there,
        )
        self._in("switch", "ip", "link", "set", name, "master", "br0", "up")
        self._in(name, "ip", "addr", "add", f"{address}/16", "dev", "eth0")
        self._in(name, "ip", "link", "set", "eth0", "up")
        self._in(name, "ip", "link", "set", "lo", "up")
        self._in(name, "ip", "route", "add", "224.0.0.0/4", "dev", "eth0")

    def _limit(self, name: str, device: str) -> None:
        self._in(
            name,
            "tc",
            "qdisc",
            "add",
            "dev",
            device,
            "root",
            "tbf",
            "rate",
            f"{self._rate * 8}bit",
            "burst",
            "128kb",
            "latency",
            "200ms",
        )

    def _in(self, name: str, *command: str) -> None:
        _run("ip", "netns", "exec", f"{self._tag}-{name}", *command)

    def command(
        self, name: str, home: Path, *arguments: str, **environ: str
    ) -> "subprocess.Popen[str]":
        """Starts a command of modelrunner on a host."""
        home.mkdir(parents=True, exist_ok=True)
        (home / "config.toml").write_text(CONFIG)
        return subprocess.Popen(
            [
                "ip",
                "netns",
                "exec",
                f"{self._tag}-{name}",
                sys.executable,
                "-m",
                "modelrunner",
                *arguments,
            ],
            env={**os.environ, "MODELRUNNER_HOME": str(home), "HOME": str(home), **environ},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    @contextmanager
    def running(self, name: str, home: Path, *arguments: str) -> Iterator[None]:
        """The block in which a server runs on a host."""
        with self.command(name, home, *arguments) as process:
            try:
                said = process.stdout.readline() if process.stdout else ""
                if not said:
                    raise RuntimeError(process.stderr.read() if process.stderr else "no address")
                if "--lan" in arguments and process.stderr:
                    # what it says before the next line is about its start
                    while "announced" not in process.stderr.readline():
                        pass
                yield
            finally:
                process.kill()

    def pulls(self, way: str, folder: Path, hosts: int, *options: str, **environ: str) -> Row:
        """All hosts pull at once, each into a store of its own."""
        before, begun, used = self._carried(), time.monotonic(), os.times()
        direct, longest = 0, 0.0
        started = [
            self.command(
                f"h{number}", folder / str(number), "pull", MODEL, "--json", *options, **environ
            )
            for number in range(hosts)
        ]
        for process in started:
            said, wrong = process.communicate()
            if process.returncode:
                raise RuntimeError(f"{way}: {wrong}")
            found = json.loads(said)
            origins = found.get("origins") or {found["source"]: found["downloaded_bytes"]}
            direct += origins.get(REGISTRY, 0)
            longest = max(longest, found["duration_s"])
        seconds = time.monotonic() - begun
        shutil.rmtree(folder)
        now = os.times()
        spent = now.children_user + now.children_system - used.children_user - used.children_system
        return Row(way, hosts, seconds, self._carried() - before, direct, spent, longest)

    def _carried(self) -> int:
        """Bytes that the registry's line has carried by now."""
        path = "/sys/class/net/eth0/statistics/tx_bytes"
        found = subprocess.run(
            ["ip", "netns", "exec", f"{self._tag}-origin", "cat", path],
            capture_output=True,
            text=True,
            check=True,
        )
        return int(found.stdout)


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)


if __name__ == "__main__":
    sys.exit(main())
