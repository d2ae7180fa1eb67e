"""The command line itself: help, options, streams, exit codes, terminals."""

import json
import os
import pty
import re
import select
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest

from modelrunner import __version__
from modelrunner.cli.parser.command_table import COMMANDS, GROUPS
from modelrunner.memory.devices.devices import may_have_gpu
from modelrunner.runtime import settings
from tests.conftest import CommandLine
from tests.support import forked
from tests.support.artifacts import Artifact, docker_artifact
from tests.support.gguf import tiny_gguf
from tests.support.registry import Registry


def see(command: str) -> str:
    return f"`modelrunner {command} --help` lists its options"


VISIBLE = [name for name, entry in COMMANDS.items() if not entry.hidden]


def test_without_a_command_there_is_help_and_no_error(cli: CommandLine) -> None:
    alone, asked = cli(), cli("--help")
    assert (alone.returncode, alone.stderr) == (0, "")
    assert alone.stdout == asked.stdout
    commands, _, options = asked.stdout.partition("\nGlobal options:\n")
    listed = re.findall(r"^([A-Z]\w+):$|^  ([a-z-]+)  +\S", commands, re.MULTILINE)
    assert [title or name for title, name in listed] == [
        entry for title, names in GROUPS.items() for entry in (title, *names)
    ]
    assert "--version" in options
    assert "completion" not in options


def test_help_of_a_command_is_what_the_command_says_itself(cli: CommandLine) -> None:
    assert cli("help").stdout == cli("--help").stdout
    assert cli("help", "lock").stdout == cli("lock", "--help").stdout
    # what Docker calls it
    assert cli("help", "rmi").stdout == cli("rmi", "--help").stdout
    told = json.loads(cli("help", "lock", "--json").stdout)
    assert told == {"command": "lock", "help": cli("lock", "--help").stdout}
    listed = json.loads(cli("help", "--json").stdout)["commands"]
    assert listed[0] == {
        "name": "pull",
        "group": "Models",
        "summary": COMMANDS["pull"].summary,
    }
    assert {entry["name"] for entry in listed} == {*VISIBLE}


@pytest.mark.parametrize(
    ("words", "error", "hint"),
    [
        ("lok", "unknown command `lok`", "did you mean `modelrunner lock`?"),
        ("kill", "unknown command `kill`", "did you mean `modelrunner stop`?"),
        ("xyzzy", "unknown command `xyzzy`", "`modelrunner help` lists the commands"),
        (
            "lock diff",
            "`modelrunner lock` has no subcommand `diff`",
            "`modelrunner help lock` lists its options",
        ),
    ],
)
def test_help_of_an_unknown_command_names_the_near_ones(
    cli: CommandLine, words: str, error: str, hint: str
) -> None:
    done = cli("help", *words.split())
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"error: {error}\nhint: {hint}\n"


def test_options_of_a_command_come_before_those_of_all_commands(cli: CommandLine) -> None:
    own, _, shared = cli("verify", "--help").stdout.partition("\nGlobal options:\n")
    assert "\nOptions:\n  --deep" in own
    assert re.findall(r"^  (?:-\w, )?--([a-z]+)", shared, re.MULTILINE) == [
        *("json", "quiet", "progress", "plain", "offline", "debug", "help"),
    ]


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_every_command_ends_in_examples(cli: CommandLine, name: str) -> None:
    done = cli(name, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    _, found, examples = done.stdout.partition("\n  Examples:\n")
    assert found
    assert "modelrunner " in examples
    assert all(line.startswith("    ") for line in examples.splitlines())
    assert done.stdout.startswith(f"Usage: modelrunner {name} [OPTIONS]")
    for option in ("--json", "-q, --quiet", "--progress", "--offline", "--debug", "-h, --help"):
        assert option in done.stdout
    assert "{" not in done.stdout.splitlines()[0]
    assert "range>" not in done.stdout


def test_the_names_of_settings_stand_apart_from_what_they_mean(cli: CommandLine) -> None:
    shown = cli("configure", "--help").stdout
    listed = shown[shown.index("Settings:") : shown.index("Examples:")]
    for key in settings.KNOWN:
        assert re.search(rf"^ +{key} +\w", listed, re.MULTILINE), key


def test_the_version_is_one_line(cli: CommandLine) -> None:
    for option in ("--version", "-V"):
        assert cli(option).stdout == f"modelrunner {__version__}\n"
    for order in (("--version", "--json"), ("--json", "--version")):
        assert json.loads(cli(*order).stdout) == {"version": __version__}
    version = json.loads(cli("version", "--json").stdout)
    assert list(version) == ["version", "python", "platform"]


@pytest.mark.parametrize(
    ("arguments", "message", "hint"),
    [
        (["lst"], "unknown command `lst`", "did you mean `modelrunner list`?"),
        (["unlod"], "unknown command `unlod`", "did you mean `modelrunner stop`?"),
        (["start"], "unknown command `start`", "did you mean `modelrunner serve`?"),
        (["catalog"], "unknown command `catalog`", "did you mean `modelrunner cards`?"),
        (["xyzzy"], "unknown command `xyzzy`", "`modelrunner help` lists the commands"),
        (["help", "lst"], "unknown command `lst`", "did you mean `modelrunner list`?"),
        (["list", "--jsn"], "unknown option --jsn", "did you mean `--json`?"),
        (
            ["list", "--xyzzy"],
            "unknown option --xyzzy",
            see("list"),
        ),
        (["path"], "missing argument REF", see("path")),
        (
            ["run", "ai/x", "--context", "many"],
            "--context must be a whole number, got 'many'",
            see("run"),
        ),
        (
            ["pull", "ai/x", "--timeout", "0"],
            "--timeout must be at least 0.001, got 0",
            see("pull"),
        ),
        (
            ["pull", "ai/x", "--connections", "20"],
            "--connections must be from 1 to 16, got 20",
            see("pull"),
        ),
        (["list", "--progress", "bra"], "--progress: invalid value 'bra'", "did you mean `bar`?"),
        (
            ["path", "a", "b"],
            "unexpected argument b",
            see("path"),
        ),
        (
            ["path", "--json=1", "a"],
            "option --json takes no value",
            see("path"),
        ),
        (
            ["pull", "a", "--also"],
            "option --also needs a value",
            see("pull"),
        ),
        (
            ["run", "-d", "ai/x"],
            "unknown option -d",
            "`modelrunner serve REF --detach` starts a model in the background",
        ),
        (["images", "-a"], "unknown option -a", "leave it out: all local models are listed"),
        (
            ["--show-completion"],
            "unknown option --show-completion",
            "`modelrunner completion` prints the script",
        ),
        (
            ["run", "ai/x", "--runtime", "nope", "hi"],
            "--runtime: unknown runtime 'nope'",
            (
                "use auto, installed, llama-server, llama-cpp-python, xllamacpp, docker, or the "
                "URL of a server"
            ),
        ),
    ],
)
def test_a_mistake_is_two_lines_and_exit_code_2(
    cli: CommandLine, arguments: list[str], message: str, hint: str
) -> None:
    done = cli(*arguments)
    assert (done.returncode, done.stdout, done.stderr) == (
        2,
        "",
        f"error: {message}\nhint: {hint}\n",
    )
    # before what is wrong: at the end it would be the value that --also lacks
    as_json = cli("--json", *arguments)
    error = json.loads(as_json.stderr)["error"]
    assert (as_json.returncode, as_json.stdout) == (2, "")
    assert (error["message"], error["hint"]) == (message, hint)


@pytest.mark.parametrize(
    ("arguments", "message", "hint"),
    [
        (
            ["lock", "--check", "--diff"],
            "--check and --diff cannot be combined",
            "use one of them",
        ),
        (
            ["pull", "ai/x", "--connections", "99"],
            "--connections must be from 1 to 16, got 99",
            see("pull"),
        ),
    ],
)
def test_a_mistake_is_told_in_github_actions_too_where_that_is_asked_for(
    cli: CommandLine, arguments: list[str], message: str, hint: str
) -> None:
    alone, done = cli(*arguments), cli(*arguments, "--github")
    assert (done.returncode, done.stdout) == (2, "")
    assert alone.stderr == f"error: {message}\nhint: {hint}\n"
    assert done.stderr == f"{alone.stderr}::error title=usage::{message}%0Ahint: {hint}\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ("--json", "list"),
        ("list", "--json"),
        ("--json", "-q", "list"),
        ("--json", "list", "--offline"),
    ],
)
def test_global_options_go_before_or_behind_the_command(
    cli: CommandLine, arguments: tuple[str, ...]
) -> None:
    done = cli(*arguments)
    assert (done.returncode, done.stdout, done.stderr) == (0, "[]\n", "")


def test_config_says_where_each_value_comes_from(cli: CommandLine) -> None:
    cli.home.mkdir()
    file = cli.home / "config.toml"
    file.write_text('context = 4096\n[mirrors]\n"docker.io" = "http://127.0.0.1:5001"\n')
    found = json.loads(cli("config", "--json", MODELRUNNER_RUNTIME="llama-server").stdout)
    assert found["context"] == {"value": 4096, "origin": str(file)}
    assert found["runtime"] == {"value": "llama-server", "origin": "MODELRUNNER_RUNTIME"}
    assert found["port"] == {"value": 12434, "origin": "default"}
    assert found["home"] == {"value": str(cli.home), "origin": "MODELRUNNER_HOME"}
    assert found["mirrors"]["value"] == {"docker.io": ["http://127.0.0.1:5001"]}
    lines = cli("config").stdout.splitlines()
    assert lines[0].split() == ["SETTING", "VALUE", "FROM"]


def test_config_shows_all_that_is_read_from_the_environment(cli: CommandLine) -> None:
    cli.home.mkdir()
    file = cli.home / "config.toml"
    file.write_text('[registries."r.example:5000"]\ninsecure = true\n')
    environ = {
        "MODELRUNNER_API_KEY": "secret-1",
        "MODELRUNNER_VERIFY": "/etc/verify.toml",
        "MODELRUNNER_NOHISTORY": "1",
        "HF_TOKEN": "secret-2",
        "DOCKER_CONFIG": "/etc/docker",
        "HTTPS_PROXY": "http://me:secret-3@proxy.example:3128",
        "no_proxy": "localhost",
    }
    done = cli("config", "--json", **environ)
    found = {
        name: (entry["value"], entry["origin"]) for name, entry in json.loads(done.stdout).items()
    }
    assert found["config_file"] == (str(file), "MODELRUNNER_HOME")
    assert found["registries"] == ({"r.example:5000": {"insecure": True}}, str(file))
    assert found["api_key"] == ("set", "MODELRUNNER_API_KEY")
    assert found["verify"] == ("/etc/verify.toml", "MODELRUNNER_VERIFY")
    assert found["history"] == (False, "MODELRUNNER_NOHISTORY")
    assert found["hf_token"] == ("set", "HF_TOKEN")
    assert found["docker_config"] == ("/etc/docker/config.json", "DOCKER_CONFIG")
    assert found["https_proxy"] == ("http://***@proxy.example:3128", "HTTPS_PROXY")
    assert found["no_proxy"] == ("localhost", "no_proxy")
    assert found["http_proxy"] == (None, "default")
    table = {line.split()[0]: line.split() for line in cli("config", **environ).stdout.splitlines()}
    assert table["registries"][1:4] == ["r.example:5000", "(insecure=true)", str(file)]
    assert table["reuse"][1:] == ["true", "default"]
    assert table["history"][1] == "false"
    assert table["http_proxy"][1:] == table["container_image"][1:] == ["unset", "default"]
    assert "secret" not in done.stdout + str(table)


@pytest.mark.parametrize(
    ("environ", "config", "message"),
    [
        ({"MODELRUNNER_RUNTIME": "foo"}, "", "MODELRUNNER_RUNTIME: unknown runtime 'foo'"),
        ({}, 'runtime = "foo"', "CONFIG: unknown runtime 'foo'"),
    ],
)
def test_a_value_is_named_with_where_it_came_from(
    cli: CommandLine, environ: dict[str, str], config: str, message: str
) -> None:
    cli.home.mkdir()
    (cli.home / "config.toml").write_text(config)
    done = cli("run", "ai/smollm2", "hi", **environ)
    told = done.stderr.replace(str(cli.home / "config.toml"), "CONFIG").splitlines()
    assert told[0] == f"error: {message}"
    assert done.returncode == 2


@pytest.mark.parametrize(
    ("arguments", "environ", "hint"),
    [
        (("--ca-file", "no.pem"), {}, "name a file with certificates in PEM format"),
        ((), {"SSL_CERT_FILE": "no.pem"}, "correct the path in SSL_CERT_FILE, or remove it there"),
    ],
)
def test_a_file_of_certificates_that_does_not_exist_is_named_with_who_names_it(
    cli: CommandLine, arguments: tuple[str, ...], environ: dict[str, str], hint: str
) -> None:
    done = cli("pull", "127.0.0.1:9/team/x", *arguments, **environ)
    assert done.stderr.splitlines()[-1] == f"hint: {hint}"
    assert done.returncode == 2


def test_a_configuration_that_is_not_understood_is_named(cli: CommandLine) -> None:
    cli.home.mkdir()
    (cli.home / "config.toml").write_text("contxt = 4096\n")
    done = cli("list")
    assert (done.returncode, done.stdout, done.stderr) == (
        2,
        "",
        (
            f"error: {cli.home}/config.toml: unknown setting 'contxt'\n"
            "hint: did you mean `context`?\n"
        ),
    )


def test_devices_and_runtimes_have_their_keys(cli: CommandLine) -> None:
    devices = json.loads(cli("devices", "--json").stdout)
    assert {tuple(device) for device in devices} == {
        *(
            (
                "name",
                "kind",
                "total_bytes",
                "free_bytes",
                "backend",
                "shared",
                "pci",
                "sources",
                "used",
            ),
        ),
    }
    assert "host" in {device["kind"] for device in devices}
    runtimes = json.loads(cli("runtimes", "--json").stdout)
    assert [entry["name"] for entry in runtimes] == [
        "installed",
        "llama-server",
        "llama-cpp-python",
        "xllamacpp",
        "docker",
    ]
    keys = ["name", "available", "version", "detail", "hint", "chosen", "devices", "abilities"]
    keys += ["installed", "why_not"]
    assert {tuple(sorted(entry)) for entry in runtimes} == {tuple(sorted(keys))}
    assert cli("devices").stdout.startswith("KIND")
    assert cli("runtimes").stdout.startswith("RUNTIME")


def test_cards_are_found_and_near_misses_named(cli: CommandLine) -> None:
    found = json.loads(cli("card", "ai/granite-4.0-micro", "--json").stdout)
    assert [key for key in found if key in CARD_KEYS] == CARD_KEYS
    assert [key for key in found["attributes"] if key in ATTRIBUTE_KEYS] == ATTRIBUTE_KEYS
    assert [key for key in found["variants"][0] if key in VARIANT_KEYS] == VARIANT_KEYS
    missing = cli("card", "ghcr.io/ai/granite-4.0-mcro", "--json")
    error = json.loads(missing.stderr)["error"]
    assert (missing.returncode, missing.stdout, error["code"]) == (3, "", "card_not_found")
    assert "ai/granite-4.0-micro" in error["hint"]
    everything = json.loads(cli("cards", "--json").stdout)
    assert len(everything) > len(json.loads(cli("cards", "granite", "--json").stdout)) > 0
    nothing = cli("cards", "xyzzy")
    assert (nothing.returncode, nothing.stderr) == (0, "no card matches 'xyzzy'\n")


CARD_KEYS = ["title", "attributes", "variants", "latest", "benchmarks", "links", "warnings"]
ATTRIBUTE_KEYS = [
    *("provider", "architecture", "cutoff_date", "languages", "tool_calling"),
    *("input_modalities", "output_modalities", "license"),
]
VARIANT_KEYS = [
    *("references", "parameters", "parameters_text", "quantization", "context_tokens"),
    *("vram_bytes", "size_bytes"),
]


def test_a_card_file_is_shown_without_a_terminal_as_plain_text(
    cli: CommandLine, tmp_path: Path
) -> None:
    file = tmp_path / "card.md"
    file.write_text("# A *model*\n\n\x1b[31mRed.\x1b[0m\n")
    done = cli("card", str(file))
    assert done.returncode == 0
    assert done.stdout.startswith("A *model*\nRed.\n")
    assert "\x1b" not in done.stdout


def test_a_reader_that_leaves_is_no_error(cli: CommandLine) -> None:
    for arguments in (["cards"], ["--help"], ["run", "--help"], ["cards", "--json"]):
        reader, writer = os.pipe()
        os.close(reader)
        done = subprocess.run(
            cli.argv(*arguments), stdout=writer, stderr=subprocess.PIPE, env=dict(cli.environ),
            check=False,
        )  # fmt: skip
        os.close(writer)
        assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
def test_a_result_that_cannot_be_written_is_told(cli: CommandLine) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            cli.argv("cards"), stdout=full, stderr=subprocess.PIPE, env=dict(cli.environ),
            check=False,
        )  # fmt: skip
    assert (done.returncode, done.stderr) == (
        7,
        (
            b"error: cannot write the result to stdout: no space left on device\n"
            b"hint: check the pipe or the disk that stdout goes to\n"
        ),
    )


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-"])
def test_a_closed_stream_is_no_trouble(cli: CommandLine, closed: str) -> None:
    command = subprocess.list2cmdline(cli.argv("list"))
    done = subprocess.run(
        ["sh", "-c", f"{command} {closed}"], capture_output=True, env=dict(cli.environ),
        check=False,
    )  # fmt: skip
    assert done.returncode == 0
    assert b"Traceback" not in done.stderr


# On a terminal.


def on_terminal(cli: CommandLine, *arguments: str, columns: int = 80, **environ: str) -> str:
    """What a command writes to a terminal, stdout and stderr as they come."""
    master, slave = pty.openpty()
    termios.tcsetwinsize(slave, (24, columns))
    command = cli.argv(*arguments)
    environ = {"TERM": "xterm-256color", **cli.environ, **environ}
    with forked.in_terminal(command, environ, slave) or subprocess.Popen(
        command, stdin=slave, stdout=slave, stderr=slave, env=environ
    ) as child:
        os.close(slave)
        seen = b""
        end = time.monotonic() + 60
        while time.monotonic() < end:
            ready, _, _ = select.select([master], [], [], 1)
            try:
                chunk = os.read(master, 65536) if ready else None
            except OSError:
                # so Linux says that nobody holds the other end any more
                break
            if chunk == b"":
                break
            seen += chunk or b""
        assert child.wait(60) == 0
    os.close(master)
    return seen.decode()


@pytest.fixture
def slow_model(registry: Registry, tmp_path: Path) -> str:
    weights = tiny_gguf(tmp_path / "large.gguf").read_bytes() + bytes(2 * 1024 * 1024)
    registry.add(docker_artifact(weights), "team/large", ["1"])
    registry.slow(2 * 1024 * 1024)
    return registry.reference("team/large:1")


def test_a_terminal_gets_a_bar_in_colour(cli: CommandLine, slow_model: str) -> None:
    seen = on_terminal(cli, "pull", slow_model)
    assert "\x1b[" in seen
    assert "━" in seen
    assert "MB" not in seen.replace("MiB", "")


@pytest.mark.parametrize("environ", [{"CI": "true"}, {"TERM": "dumb"}])
def test_a_terminal_that_is_none_gets_lines(
    cli: CommandLine, slow_model: str, environ: dict[str, str]
) -> None:
    seen = on_terminal(cli, "pull", slow_model, **environ)
    # a terminal itself makes \r\n of \n
    assert "\r" not in seen.replace("\r\n", "\n")
    assert "\x1b" not in seen


def test_no_color_leaves_the_bar_and_takes_the_colours(cli: CommandLine, slow_model: str) -> None:
    seen = on_terminal(cli, "pull", slow_model, NO_COLOR="1")
    assert "━" in seen
    assert not re.search(r"\x1b\[[0-9;]*3[0-9][0-9;]*m", seen)


@pytest.mark.parametrize("columns", [60, 80, 100, 200])
def test_a_table_is_no_wider_than_the_terminal(models: CommandLine, columns: int) -> None:
    estimate = ("estimate", "fixtures/tiny-llama:docker")
    for words in (("list",), ("cards",), ("config",), ("devices",), estimate):
        seen = on_terminal(models, *words, columns=columns).replace("\r\n", "\n")
        assert max(len(line) for line in seen.splitlines()) <= columns, seen
    ids = {model["id"].removeprefix("sha256:")[:12] for model in listed(models)}
    seen = on_terminal(models, "list", columns=columns)
    assert ids == {word for line in seen.splitlines() for word in line.split() if word in ids}


def listed(models: CommandLine) -> list[dict[str, str]]:
    found: list[dict[str, str]] = json.loads(models("list", "--json").stdout)
    return found


def test_plain_progress_is_plain_on_a_terminal(cli: CommandLine, slow_model: str) -> None:
    seen = on_terminal(cli, "pull", slow_model, "--progress", "plain")
    assert "\x1b" not in seen


# What is imported.

HEAVY = {
    *("requests", "urllib3", "oras", "docker", "huggingface_hub", "rich", "prompt_toolkit"),
    *("xllamacpp", "llama_cpp", "numpy", "http.server", "http.client", "asyncio", "ssl"),
    *("socket", "logging", "multiprocessing", "email", "typer", "pydantic", "platform"),
    *("tarfile", "importlib.metadata", "ast", "dis", "tokenize"),
}
NOT_EVEN = {"argparse", "dataclasses", "hashlib", "inspect", "json", "pathlib", "shutil", "urllib"}
"""What `--help` and `--version` do without, beside that."""

PROGRAM = """
import json, sys
from modelrunner.cli.app import main
code = main(sys.argv[1:])
print(json.dumps([code, sorted(sys.modules)]), file=sys.stderr)
"""


@pytest.fixture
def named(cli: CommandLine, registry: Registry, tiny: Artifact) -> str:
    registry.add(tiny, "team/tiny", ["1"])
    name = registry.reference("team/tiny:1")
    assert cli("pull", name).returncode == 0
    return name


@pytest.mark.parametrize(
    "arguments",
    [
        ["--version"],
        ["--help"],
        ["list"],
        ["list", "--json"],
        ["list", "-q"],
        ["path", "REF"],
        ["tag", "REF", "mine"],
        ["rm", "REF"],
    ],
    ids=" ".join,
)
def test_nothing_heavy_is_imported_that_a_command_does_not_use(
    cli: CommandLine, named: str, arguments: list[str]
) -> None:
    command = [named if word == "REF" else word for word in arguments]
    loaded = imported(cli, command)
    assert HEAVY & loaded == set()
    assert "dataclasses" not in loaded or arguments[0] in {"tag", "rm"}


STANDARD = {
    *("argparse", "ast", "copy", "dataclasses", "datetime", "fnmatch", "hashlib", "inspect"),
    *("importlib", "ipaddress", "ntpath", "queue", "random", "shutil", "signal", "string"),
    *("struct", "subprocess", "tempfile", "threading", "urllib.parse", "weakref"),
}
"""Modules of the standard library that commands about what is here do without."""

PROGRAM_OF_ALL = """
import json, sys, typing
texts = []
def note(self, *given, before=typing.ForwardRef.__init__, **named):
    texts.append(given[0])
    before(self, *given, **named)
typing.ForwardRef.__init__ = note
from modelrunner.cli.app import main
before = set(sys.modules)
code = main(sys.argv[1:])
real = [name for name, each in sys.modules.items() if type(each).__name__ != "_Late"]
print(json.dumps([code, sorted(real), texts]), file=sys.stderr)
"""


@pytest.mark.parametrize(
    ("arguments", "most"),
    [
        (["--version"], 15),
        (["--help"], 17),
        (["list"], 62),
        (["list", "-q"], 62),
        (["path", "REF"], 60),
        (["pull", "PINNED"], 90),
        (["COMPLETE", "modelrunner li"], 20),
        (["COMPLETE", "modelrunner rm te"], 64),
        (["COMPLETE", "modelrunner path te"], 64),
        (["COMPLETE", "modelrunner pull te"], 70),
    ],
    ids=str,
)
def test_few_modules_are_loaded_for_what_people_wait_for(
    cli: CommandLine, named: str, arguments: list[str], most: int
) -> None:
    (model,) = json.loads(cli("list", "--json").stdout)
    words = {"REF": named, "PINNED": f"{named.rpartition(':')[0]}@{model['id']}"}
    command, environ = [words.get(word, word) for word in arguments], dict(cli.environ)
    if arguments[0] == "COMPLETE":
        line = arguments[1]
        asked = {"COMP_WORDS": line, "COMP_CWORD": str(len(line.split()) - 1)}
        environ, command = {**environ, **asked, "_MODELRUNNER_COMPLETE": "complete_bash"}, []
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM_OF_ALL, *command],
        capture_output=True,
        env=environ,
        check=True,
    )
    code, modules, texts = json.loads(done.stderr.splitlines()[-1])
    assert code == 0
    assert (HEAVY | STANDARD) & set(modules) == set()
    # the first annotation that is a text sets up Python's own parser
    assert texts == []
    ours = [name for name in modules if name.partition(".")[0] == "modelrunner"]
    assert len(ours) <= most


# Packages of the program that a command does without.

FIRST = {"cli", "errors", "frozen", "text", "version"}
TO_LAUNCH = {
    *("cli.chat", "cli.steps", "lockfile", "operations.lock", "operations.trust", "provenance"),
    *("registry.http", "runtime.backends", "runtime.child", "runtime.images", "runtime.select"),
    *("serve", "share", "tools", "transfer"),
}
TO_ESTIMATE = {"cards", "gguf", "memory", "operations.estimate", "runtime.base"}


@pytest.mark.parametrize("option", ["--version", "--help"])
def test_help_and_version_load_no_command_and_nothing_below(cli: CommandLine, option: str) -> None:
    loaded = packages(imported(cli, [option]))
    assert {name for name in loaded if "." not in name} == FIRST
    assert "cli.commands" not in loaded
    assert NOT_EVEN & imported(cli, [option]) <= {"json"}


@pytest.mark.parametrize(
    ("arguments", "unneeded"),
    [
        (["list"], TO_LAUNCH | TO_ESTIMATE),
        (["path", "REF"], TO_LAUNCH | TO_ESTIMATE),
        (["inspect", "REF"], TO_LAUNCH),
        (["estimate", "REF", "--budget", "8GiB"], TO_LAUNCH),
    ],
)
def test_a_command_loads_no_packages_that_it_does_not_use(
    cli: CommandLine, named: str, arguments: list[str], unneeded: set[str]
) -> None:
    command = [named if word == "REF" else word for word in arguments]
    assert unneeded & packages(imported(cli, command)) == set()


def test_a_pull_by_digest_of_what_is_here_loads_nothing_that_fetches(
    cli: CommandLine, named: str
) -> None:
    (model,) = json.loads(cli("list", "--json").stdout)
    pinned = f"{named.rpartition(':')[0]}@{model['id']}"
    unneeded = {"registry.http", "registry.huggingface", "transfer.fetch", "transfer.engine"}
    unneeded |= {"operations.package", "other_stores", *TO_ESTIMATE} - {"runtime.base"}
    modules = imported(cli, ["pull", pinned])
    assert "operations.pull" in packages(modules)
    assert unneeded & packages(modules) == set()
    assert {"ssl", "socket", "http.client", "email"} & modules == set()


@pytest.mark.parametrize("command", ["pull", "push"])
def test_who_speaks_to_one_registry_loads_nothing_of_other_sources(
    cli: CommandLine, named: str, command: str
) -> None:
    loaded = imported(cli, [command, named])
    others = ("huggingface.api", "huggingface.source", "fallback", "oci.referrers", "lan")
    assert {f"modelrunner.registry.{name}" for name in others} & loaded == set()


@pytest.mark.skipif(may_have_gpu(), reason="where a GPU may be, a runtime is asked for it")
@pytest.mark.parametrize("arguments", [["card", "ai/smollm2"], ["cards"]])
def test_cards_load_nothing_that_launches(cli: CommandLine, arguments: list[str]) -> None:
    assert TO_LAUNCH & packages(imported(cli, arguments)) == set()


@pytest.mark.parametrize(
    "arguments", [["estimate", "NAME", "--budget", "8GiB"], ["pull", "NAME", "--json"], ["list"]]
)
def test_values_need_no_generated_code(cli: CommandLine, named: str, arguments: list[str]) -> None:
    words = [named if word == "NAME" else word for word in arguments]
    # the code of each class of `dataclasses` is compiled at every start
    assert "dataclasses" not in imported(cli, words)


def packages(modules: set[str]) -> set[str]:
    """What is loaded of the program: its packages, and theirs."""
    parts = [name.split(".") for name in modules if name.startswith("modelrunner.")]
    return {".".join(part[1:depth]) for part in parts for depth in (2, 3)}


def test_no_garbage_is_looked_for_while_a_command_is_imported(cli: CommandLine, named: str) -> None:
    program = """
import atexit, gc, sys
gc.collect(); gc.disable(); looked = []
gc.callbacks.append(lambda phase, info: looked.append(phase))
from modelrunner.__main__ import main
gc.enable()
try:
    main()
finally:
    print(looked, file=sys.stderr)
"""
    for words in (["list"], ["estimate", named, "--budget", "8GiB"], ["run", "--help"]):
        done = subprocess.run(
            [sys.executable, "-c", program, *words],
            capture_output=True,
            env=dict(cli.environ),
            check=True,
        )
        assert done.stderr.splitlines()[-1] == b"[]"


def imported(cli: CommandLine, arguments: list[str]) -> set[str]:
    """The modules that a command has imported at its end."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments],
        capture_output=True,
        env=dict(cli.environ),
        check=True,
    )
    code, modules = json.loads(done.stderr.splitlines()[-1])
    assert code == 0
    return set(modules)


def test_pull_and_push_do_without_the_client_that_lists_tags_and_what_it_needs(
    cli: CommandLine, registry: Registry, tiny: Artifact
) -> None:
    registry.add(tiny, "team/tiny", ["1"])
    name = registry.reference("team/tiny:1")
    pinned = f"{registry.reference('team/tiny')}@{tiny.digest}"
    client = {"oras", "oras.provider", "jsonschema", "requests", "urllib.request"}
    for _time in ("new", "up to date"):
        modules = imported(cli, ["pull", name])
        assert "modelrunner.registry.http.direct.pool" in modules
        assert (client | {"huggingface_hub", "httpx2"}) & modules == set()
        # what goes straight to a server needs none of these, and what is plain no TLS
        without = {"urllib3", "http.client", "email", "ssl", "logging", "subprocess"}
        assert without & modules == set()
        # what reads the models of other programs, and packages' names, which take long to load
        assert {"modelrunner.other_stores.found", "modelrunner.system.packages"} & modules == set()
    # what is there and named by its digest needs no request at all
    assert {*client, "modelrunner.registry.http.direct.pool"} & imported(
        cli, ["pull", pinned]
    ) == set()
    assert client & imported(cli, ["push", name]) == set()
    assert client <= imported(cli, ["tags", registry.reference("team/tiny")])


def test_windows_is_told_to_use_wsl() -> None:
    program = "import sys; sys.platform = 'win32'; from modelrunner.__main__ import main; main()"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False)
    said = (
        "error: Windows is supported in WSL 2 only\n"
        "hint: run `wsl --install`, open the Linux that it brings, and install modelrunner there\n"
    )
    assert (done.returncode, done.stdout, done.stderr.decode()) == (2, b"", said)
