"""One question with everything that a script may ask for: tools, forms, several answers."""

import json
import signal
import subprocess
from pathlib import Path

import pytest

from tests.conftest import CommandLine
from tests.support.openai_server import OpenAIServer, calls, says, waits
from tests.support.terminal import chatting

pytestmark = pytest.mark.model

SMOLLM2 = "ai/smollm2:135M-Q4_1"
QUESTION = "What is the capital of France? Answer in one sentence."
LIKELIEST = ("--temperature", "0")
WEATHER = '''
def get_weather(city: str) -> dict:
    """Tells the weather of a city."""
    print("noise")
    return {"city": city, "degrees": 21}
'''


@pytest.fixture
def weather(tmp_path: Path) -> str:
    file = tmp_path / "weather.py"
    file.write_text(WEATHER)
    return str(file)


def test_a_tool_is_run_and_nothing_but_the_answer_is_on_stdout(
    models: CommandLine, weather: str
) -> None:
    with OpenAIServer() as server:
        server.next(calls(("get_weather", '{"city": "Paris"}')), says("It has 21 degrees."))
        done = models(
            "run", SMOLLM2, "Weather?", "--runtime", server.url, "--tools", weather, "--yes-tools"
        )
    assert (done.returncode, done.stdout) == (0, "It has 21 degrees.\n")
    assert done.stderr.splitlines()[-2:] == [
        'calling get_weather(city="Paris")',
        'get_weather answers: {"city": "Paris", "degrees": 21}',
    ]
    result = server.requests[1].body["messages"][-1]
    assert json.loads(result["content"]) == {"city": "Paris", "degrees": 21}


def test_a_pipe_gets_the_answer_of_another_server_as_it_comes(models: CommandLine) -> None:
    with OpenAIServer(chat_template="{{ messages }}") as server:
        server.next(waits("Hello"))
        process = subprocess.Popen(
            models.argv("run", SMOLLM2, "Hi", "--runtime", server.url, "--quiet"),
            env=models.environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
        )
        # the server says no more until the client goes away
        with process:
            assert process.stdout is not None
            assert process.stdout.read(5) == b"Hello"
            process.kill()
            assert process.wait() == -signal.SIGKILL


@pytest.mark.parametrize("command", [("run",), ("serve", "--detach", "--port", "0")])
def test_of_a_server_that_runs_already_nothing_is_said_of_this_machines_memory(
    models: CommandLine, command: tuple[str, ...]
) -> None:
    with OpenAIServer() as server:
        server.next(says("42."))
        question = ["Hi"] if command == ("run",) else []
        url = f"{server.url}/v1"
        done = models(command[0], SMOLLM2, *question, *command[1:], "--runtime", url)
        models("stop", "--all")
    assert done.returncode == 0
    assert done.stderr.splitlines()[0] == (
        f"{SMOLLM2}: using the server at {url}; its memory and context are not known"
    )


@pytest.mark.parametrize(("template", "answer"), [(None, "42.\n"), ("{{ messages }}", None)])
def test_thoughts_that_only_end_are_hidden_unless_the_server_shows_that_there_are_none(
    models: CommandLine, template: str | None, answer: str | None
) -> None:
    with OpenAIServer(chat_template=template) as server:
        server.next(says("a plan", "</think>", "42."))
        done = models("run", SMOLLM2, "Hi", "--runtime", server.url)
    assert (done.returncode, done.stdout) == (0, answer or "a plan</think>42.\n")


def test_calls_and_results_are_in_the_json(models: CommandLine, weather: str) -> None:
    with OpenAIServer() as server:
        server.next(calls(("get_weather", '{"city": "Paris"}')), says("21."))
        done = models(
            *("run", SMOLLM2, "Weather?", "--runtime", server.url, "--json"),
            *("--tools", weather, "--yes-tools"),
        )
    found = json.loads(done.stdout)
    (made,) = found["tool_calls"]
    assert (found["answer"], made["name"], made["arguments"]) == (
        "21.",
        "get_weather",
        {"city": "Paris"},
    )
    assert json.loads(made["result"]) == {"city": "Paris", "degrees": 21}


def test_a_call_that_nobody_answers_is_the_answer(models: CommandLine, tmp_path: Path) -> None:
    file = tmp_path / "tools.json"
    file.write_text('[{"name": "ask_me"}]')
    with OpenAIServer() as server:
        server.next(calls(("ask_me", '{"x": 1}')))
        done = models("run", SMOLLM2, "hi", "--runtime", server.url, "--tools", str(file))
    assert done.returncode == 0
    assert json.loads(done.stdout) == {
        "id": "c0",
        "name": "ask_me",
        "arguments": {"x": 1},
        "result": None,
    }


def test_a_model_whose_template_knows_no_tools_is_said_not_to_hear_of_them(
    models: CommandLine, weather: str
) -> None:
    args = ("Say hi.", "--tools", weather, "--yes-tools", "--max-tokens", "4")
    told = "does not support tools: the model may never see them"
    assert told in models("run", SMOLLM2, *args).stderr
    assert told not in models("run", "ai/granite-4.0-micro", *args).stderr


@pytest.mark.parametrize(
    ("options", "says_why"),
    [
        (("--tools", "{weather}"), "tools need confirmation, and stdin is not a terminal"),
        (("--tools", "nowhere.py"), "nowhere.py: file not found"),
        (("--yes-tools",), "--yes-tools needs --tools"),
        (("--format", "nowhere.json"), "--format: cannot read nowhere.json"),
        (("--format", "{weather}"), "expected JSON at line 2"),
        (("-n", "0"), "-n"),
        (
            ("--tools", "{weather}", "--yes-tools", "--runtime", "llama-cpp-python"),
            "llama-cpp-python",
        ),
    ],
)
def test_what_cannot_be_is_refused_before_a_model_starts(
    models: CommandLine, weather: str, options: tuple[str, ...], says_why: str
) -> None:
    if "llama-cpp-python" in options:
        pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed")
    done = models("run", SMOLLM2, "hi", *(option.format(weather=weather) for option in options))
    assert (done.returncode, done.stdout) == (2, "")
    assert says_why in done.stderr


def test_an_answer_follows_a_schema(models: CommandLine, tmp_path: Path) -> None:
    schema = {
        "type": "object",
        "properties": {
            "name": {"type": "string", "maxLength": 20},
            "age": {"type": "integer", "minimum": 0, "maximum": 120},
        },
        "required": ["name", "age"],
        "additionalProperties": False,
    }
    file = tmp_path / "person.json"
    file.write_text(json.dumps(schema))
    done = models("run", SMOLLM2, "Anna is 7 years old.", "--format", str(file), "-q")
    assert done.returncode == 0
    found = json.loads(done.stdout)
    assert set(found) == {"name", "age"}
    assert 0 <= found["age"] <= 120


def test_json_that_was_cut_is_a_capacity_error_and_not_on_stdout(models: CommandLine) -> None:
    options = ("--format", "json", "--max-tokens", "2")
    done = models("run", SMOLLM2, "An object about Paris.", *options, "--json")
    assert (done.returncode, done.stdout) == (7, "")
    assert json.loads(done.stderr.splitlines()[-1])["error"]["code"] == "answer_cut"


def test_several_answers(models: CommandLine) -> None:
    options = ("-n", "3", "--seed", "3", "--max-tokens", "6", "-q", "--json")
    found = json.loads(models("run", SMOLLM2, "Name a colour.", *options).stdout)
    answers = [each["answer"] for each in found]
    assert len(answers) == 3
    assert len(set(answers)) > 1
    again = json.loads(models("run", SMOLLM2, "Name a colour.", *options).stdout)
    assert [each["answer"] for each in again] == answers


def test_an_answer_stops_where_it_would_say_this(models: CommandLine) -> None:
    whole = models("run", SMOLLM2, QUESTION, *LIKELIEST, "-q").stdout
    assert "Paris" in whole
    cut = models("run", SMOLLM2, QUESTION, *LIKELIEST, "-q", "--stop", "Paris").stdout
    assert cut.rstrip("\n") == whole.partition("Paris")[0].rstrip("\n")


def test_in_a_chat_the_person_is_asked(models: CommandLine, weather: str) -> None:
    wanted = calls(("get_weather", '{"city": "Paris"}'))
    with OpenAIServer() as server:
        server.next(wanted, says("So be it."), wanted, says("It has 21 degrees."))
        with chatting(models, "--runtime", server.url) as (terminal, process):
            terminal.type(f"/tools {weather}\r")
            terminal.wait_for("get_weather(city): Tells the weather of a city.")
            terminal.type("Weather?\r")
            terminal.wait_for('call get_weather(city="Paris")? [y]es, [n]o, [a]lways: ')
            terminal.type("n\r")
            terminal.wait_for("So be it.")
            terminal.type("Again.\r")
            terminal.wait_for("[a]lways: ")
            terminal.type("y\r")
            terminal.wait_for("It has 21 degrees.")
            terminal.type("/bye\r")
            assert process.wait(60) == 0
    refused, allowed = (server.requests[at].body["messages"][-1] for at in (1, 3))
    assert "denied" in refused["content"]
    assert json.loads(allowed["content"]) == {"city": "Paris", "degrees": 21}


def test_ctrl_c_at_the_question_calls_nothing_and_the_chat_goes_on(
    models: CommandLine, weather: str
) -> None:
    with OpenAIServer() as server:
        server.next(calls(("get_weather", '{"city": "Paris"}')), says("Well."))
        with chatting(models, "--runtime", server.url, "--tools", weather) as (terminal, process):
            terminal.type("Weather?\r")
            terminal.wait_for("[a]lways: ")
            terminal.type("\x03")
            terminal.wait_for("(stopped)")
            terminal.type("And now?\r")
            terminal.wait_for("Well.")
            terminal.type("/bye\r")
            assert process.wait(60) == 0
    # what has no answer is not sent again
    assert [m["content"] for m in server.requests[1].body["messages"]] == ["And now?"]


def test_a_server_is_told_of_sampling_what_the_person_says_and_the_seed_of_a_script(
    models: CommandLine,
) -> None:
    with OpenAIServer() as server:
        server.next(says("a"), says("b"))
        asked = ("run", SMOLLM2, "Hi", "--runtime", server.url)
        models(*asked)
        done = models(*asked, "--temperature", "0.5", "--seed", "7", "--verbose")
    names = {"temperature", "repeat_penalty", "top_p", "seed"}
    said = [{k: v for k, v in each.body.items() if k in names} for each in server.requests]
    assert said == [{"seed": 42}, {"temperature": 0.5, "seed": 7}]
    assert "sampling: temperature 0.5 (option); seed 7\n" in done.stderr
