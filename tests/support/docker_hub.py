"""Docker Hub's API on loopback, as far as descriptions go: what a repository's page says.

    with Hub() as hub:
        hub.add("team/model", "# Model")
        hub.answer(429, times=1)

It misbehaves like every `Origin` here. Faults aimed at `on="repository"` hit descriptions only.
"""

import json
import re

from tests.support.registry_messages import Reply, Request, json_reply
from tests.support.registry_server import Origin

_REPOSITORY = re.compile(r"/v2/namespaces/(?P<namespace>[^/]+)/repositories/(?P<name>[^/]+)/?")
_LIST = re.compile(r"/v2/repositories/(?P<namespace>[^/]+)/?")
_MISSING = {"message": "object not found", "errinfo": {}}


class Hub(Origin):
    """The API; `url` is what `MODELRUNNER_HUB_API` has to be."""

    def __init__(self) -> None:
        super().__init__()
        self._pages: dict[str, object] = {}
        self.pulls: dict[str, int] = {}
        self.page_size = 100

    def add(self, repository: str, full_description: object) -> None:
        """Publish a page; the description is text, or nonsense."""
        self._pages[repository] = full_description

    def remove(self, repository: str) -> None:
        """Take the repository away."""
        del self._pages[repository]

    def say(self, document: object, times: int | None = None) -> None:
        """Answer 200 and this JSON, or these bytes, whatever is asked."""
        body = document if isinstance(document, bytes) else json.dumps(document).encode()
        self.answer(200, times, {"Content-Type": "application/json"}, body)

    def classify(self, request: Request) -> None:
        match = _REPOSITORY.fullmatch(request.path)
        if match:
            request.kind = "repository"
            request.repository = f"{match['namespace']}/{match['name']}"
        elif match := _LIST.fullmatch(request.path):
            request.kind, request.repository = "list", match["namespace"]

    def respond(self, request: Request) -> Reply:
        if request.kind == "list":
            return self._list(request)
        if request.kind != "repository" or request.repository not in self._pages:
            return json_reply(404, _MISSING)
        if request.method != "GET":
            return json_reply(405, {"detail": f'Method "{request.method}" not allowed.'})
        headers = {"X-RateLimit-Limit": "180", "X-RateLimit-Remaining": "179"}
        page = self._about(request.repository) | {
            "full_description": self._pages[request.repository],
            "permissions": {"read": True, "write": False, "admin": False},
            "immutable_tags_settings": {"enabled": False, "rules": []},
        }
        return json_reply(200, page, headers)

    def _list(self, request: Request) -> Reply:
        names = sorted(name for name in self._pages if name.startswith(f"{request.repository}/"))
        if not names:
            return json_reply(404, _MISSING)
        number = int(request.query.get("page", "1"))
        size = min(int(request.query.get("page_size", "10")), self.page_size)
        rest = names[(number - 1) * size :]
        following = f"{self.url}{request.path}?page={number + 1}&page_size={size}"
        document = {
            "count": len(names),
            "next": following if len(rest) > size else None,
            "previous": None,
            "results": [self._about(name) for name in rest[:size]],
        }
        return json_reply(200, document)

    def _about(self, repository: str) -> dict[str, object]:
        namespace, _, name = repository.partition("/")
        return {
            "user": namespace,
            "name": name,
            "namespace": namespace,
            "repository_type": "image",
            "status": 1,
            "status_description": "active",
            "description": f"{name} in a sentence",
            "is_private": False,
            "is_automated": False,
            "star_count": 3,
            "pull_count": self.pulls.get(repository, 12345),
            "last_updated": "2025-10-07T14:00:00.000000Z",
            "date_registered": "2025-10-02T09:00:00.000000Z",
            "collaborator_count": 0,
            "affiliation": None,
            "hub_user": namespace,
            "has_starred": False,
            "media_types": ["application/vnd.docker.ai.model.config.v0.1+json"],
            "content_types": ["unrecognized"],
            "categories": [],
        }
