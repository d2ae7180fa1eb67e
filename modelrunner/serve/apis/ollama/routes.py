"""The addresses of Ollama's API."""

from starlette.routing import Route

from modelrunner.serve.apis.ollama.changes import Changes
from modelrunner.serve.apis.ollama.inference.exchange import Exchange
from modelrunner.serve.apis.ollama.models import Models
from modelrunner.serve.apis.served import Server
from modelrunner.serve.relay import Relay


def routes(server: Server) -> list[Route]:
    """`/api`."""
    models, changes = Models(server), Changes(server)
    pool, bodies = server.pool, server.bodies
    exchange = Exchange(pool, bodies)
    asked = {
        "api/chat": exchange.chat,
        "api/generate": exchange.generate,
        "api/embed": exchange.embed,
        "api/embeddings": exchange.embeddings,
    }
    relays = {name: Relay(pool, name, bodies, translate) for name, translate in asked.items()}
    return [
        *(Route(f"/{name}", relay, methods=["POST"]) for name, relay in relays.items()),
        Route("/api/version", models.version, methods=["GET"]),
        Route("/api/tags", models.tags, methods=["GET"]),
        Route("/api/ps", models.running, methods=["GET"]),
        Route("/api/show", models.show, methods=["POST"]),
        Route("/api/pull", changes.pull, methods=["POST"]),
        Route("/api/copy", changes.copy, methods=["POST"]),
        Route("/api/delete", changes.delete, methods=["DELETE"]),
        Route("/api/create", changes.create, methods=["POST"]),
        Route("/api/push", changes.push, methods=["POST"]),
        Route("/api/me", changes.account, methods=["POST"]),
        Route("/api/signout", changes.account, methods=["POST"]),
        Route("/api/blobs/{digest}", changes.blob, methods=["HEAD", "POST"]),
    ]
