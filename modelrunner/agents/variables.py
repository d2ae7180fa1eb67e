"""Anything else: the variables that OpenAI's, Anthropic's and Ollama's libraries read.

With arguments these are a program that gets them, as after `env` of a shell.
"""

from modelrunner.agents.app import App, Endpoint, Place, Setup


def _setup(endpoint: Endpoint, place: Place) -> Setup:
    environment = {
        "OPENAI_BASE_URL": endpoint.openai,
        "OPENAI_API_BASE": endpoint.openai,
        "OPENAI_API_KEY": endpoint.key,
        "OPENAI_MODEL": endpoint.model,
        "ANTHROPIC_BASE_URL": endpoint.url,
        "ANTHROPIC_AUTH_TOKEN": endpoint.key,
        "ANTHROPIC_MODEL": endpoint.model,
        "OLLAMA_HOST": endpoint.url,
        "OLLAMA_API_KEY": endpoint.key,
        "OLLAMA_MODEL": endpoint.model,
        "OLLAMA_CONTEXT_LENGTH": str(endpoint.context),
    }
    return Setup(place.arguments, environment, ("ANTHROPIC_API_KEY",))


VARIABLES = App(
    name="env",
    title="the program",
    program="",
    install="",
    setup=_setup,
    agent=False,
)
