"""Goose, by OpenAI's chat completions, all in variables."""

from modelrunner.agents.app import PATIENCE_S, App, Endpoint, Place, Setup


def _setup(endpoint: Endpoint, place: Place) -> Setup:
    environment = {
        "GOOSE_PROVIDER": "openai",
        "GOOSE_MODEL": endpoint.model,
        "GOOSE_CONTEXT_LIMIT": str(endpoint.context),
        "GOOSE_MAX_TOKENS": str(endpoint.answer),
        "OPENAI_HOST": endpoint.url,
        "OPENAI_BASE_PATH": "v1/chat/completions",
        "OPENAI_API_KEY": endpoint.key,
        "OPENAI_TIMEOUT": str(PATIENCE_S),
    }
    # other models for planning, or a second address, would be asked elsewhere
    removed = (
        "GOOSE_LEAD_MODEL",
        "GOOSE_LEAD_PROVIDER",
        "GOOSE_PLANNER_MODEL",
        "GOOSE_PLANNER_PROVIDER",
        "OPENAI_BASE_URL",
        "OPENAI_CUSTOM_HEADERS",
        "OPENAI_ORGANIZATION",
        "OPENAI_PROJECT",
    )
    return Setup(("goose", *(place.arguments or ("session",))), environment, removed)


GOOSE = App(
    name="goose",
    title="Goose",
    program="goose",
    install="curl -fsSL https://github.com/block/goose/releases/download/stable/download_cli.sh"
    " | bash",
    setup=_setup,
    elsewhere=(".local/bin/goose",),
)
