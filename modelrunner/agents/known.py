"""Every app that `launch` knows, by its name on the command line."""

from collections.abc import Mapping

from modelrunner.agents.aider import AIDER
from modelrunner.agents.app import App
from modelrunner.agents.claude import CLAUDE
from modelrunner.agents.codex import CODEX
from modelrunner.agents.goose import GOOSE
from modelrunner.agents.open_webui import OPEN_WEBUI
from modelrunner.agents.opencode import OPENCODE
from modelrunner.agents.variables import VARIABLES

APPS: Mapping[str, App] = {
    app.name: app for app in (CLAUDE, CODEX, OPENCODE, GOOSE, AIDER, OPEN_WEBUI, VARIABLES)
}
