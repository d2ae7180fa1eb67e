"""What `serve` says of its address."""

from modelrunner.cli.steps.serving import ollama_note


def test_the_port_of_ollama_is_named_as_such() -> None:
    assert ollama_note("http://127.0.0.1:11434", 11434) == (
        "OLLAMA_HOST=http://127.0.0.1:11434 is the default of Ollama's clients: they use it as it"
        " is"
    )
    assert ollama_note("http://127.0.0.1:12434", 12434) is None
