"""The addresses of Ollama's API."""

from starlette.routing import Route

from modelrunner.serve.apis.ollama.changes import Changes
from modelrunner.serve.apis.ollama.models import Models
from modelrunner.serve.apis.served import Server


def routes(server: Server) -> list[Route]:
    """`/api`."""
    models, changes = Models(server), Changes(server)
    return [
        Route("/api/version", models.version, methods=["GET"]),
        Route("/api/tags", models.tags, methods=["GET"]),
        Route("/api/ps", models.running, methods=["GET"]),
        Route("/api/show", models.show, methods=["POST"]),
        Route("/api/pull", changes.pull, methods=["POST"]),
        Route("/api/copy", changes.copy, methods=["POST"]),
        Route("/api/delete", changes.delete, methods=["DELETE"]),
        Route("/api/create", changes.create, methods=["POST"]),
        Route("/api/push", changes.push, methods=["POST"]),
        Route("/api/blobs/{digest}", changes.blob, methods=["HEAD", "POST"]),
    ]
