"""Open WebUI, by OpenAI's chat completions: a page in the browser.

Its settings are kept in its database, where the next start's address would not
count; and it listens on every address of the machine.
"""

from hashlib import sha256

from modelrunner.agents.app import App, Endpoint, Place, Setup

_PORT = "8080"


def _setup(endpoint: Endpoint, place: Place) -> Setup:
    environment = {
        "OPENAI_API_BASE_URL": endpoint.openai,
        "OPENAI_API_BASE_URLS": endpoint.openai,
        "OPENAI_API_KEY": endpoint.key,
        "OPENAI_API_KEYS": endpoint.key,
        "DEFAULT_MODELS": endpoint.model,
        "TASK_MODEL_EXTERNAL": endpoint.model,
        "ENABLE_OPENAI_API": "True",
        "ENABLE_OLLAMA_API": "False",
        "ENABLE_PERSISTENT_CONFIG": "False",
        # one user, on loopback
        "WEBUI_AUTH": "False",
        "WEBUI_SECRET_KEY": sha256(endpoint.key.encode()).hexdigest(),
        "DATA_DIR": place.environ.get("DATA_DIR") or str(place.data),
        "ANONYMIZED_TELEMETRY": "False",
        "DO_NOT_TRACK": "True",
    }
    command = ("open-webui", "serve", "--host", "127.0.0.1", "--port", _PORT, *place.arguments)
    return Setup(command, environment, ("OLLAMA_BASE_URL", "OLLAMA_BASE_URLS"))


OPEN_WEBUI = App(
    name="open-webui",
    title="Open WebUI",
    program="open-webui",
    install="uv tool install --python 3.12 open-webui",
    setup=_setup,
    agent=False,
    elsewhere=(".local/bin/open-webui",),
)
