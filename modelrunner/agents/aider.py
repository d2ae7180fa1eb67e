"""Aider, by OpenAI's chat completions.

It edits files by blocks in its answers, and needs no tools. The `.env` of a project counts more
than the environment, and what the command line says more than both.
"""

import json

from modelrunner.agents.app import PATIENCE_S, App, Endpoint, Place, Setup

_METADATA = "models.json"
_ENVIRONMENT = "aider.env"


def _setup(endpoint: Endpoint, place: Place) -> Setup:
    model = f"openai/{endpoint.model}"
    facts = {
        "litellm_provider": "openai",
        "mode": "chat",
        "max_input_tokens": endpoint.context - endpoint.answer,
        "max_output_tokens": endpoint.answer,
        "max_tokens": endpoint.answer,
        "input_cost_per_token": 0,
        "output_cost_per_token": 0,
        "supports_vision": endpoint.images,
    }
    environment = {
        "OPENAI_API_BASE": endpoint.openai,
        "OPENAI_API_KEY": endpoint.key,
        # prices of models are not fetched from elsewhere
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    }
    command = (
        "aider",
        *("--model", model, "--weak-model", model, "--editor-model", model),
        *("--model-metadata-file", str(place.folder / _METADATA)),
        *("--env-file", str(place.folder / _ENVIRONMENT)),
        *("--timeout", str(PATIENCE_S)),
        "--no-check-update",
        "--no-show-model-warnings",
        "--no-analytics",
        *place.arguments,
    )
    lines = "".join(f"{key}={value}\n" for key, value in environment.items())
    return Setup(
        command,
        environment,
        ("OPENAI_API_TYPE", "OPENAI_ORGANIZATION", "OPENAI_BASE_URL"),
        {_METADATA: json.dumps({model: facts}, indent=2) + "\n", _ENVIRONMENT: lines},
    )


AIDER = App(
    name="aider",
    title="Aider",
    program="aider",
    install="uv tool install --python 3.12 aider-chat",
    setup=_setup,
    # version 0.86.2: 776, and a map of the repository that it fits into the window
    prompt=1_000,
    agent=False,
    elsewhere=(".local/bin/aider",),
)
