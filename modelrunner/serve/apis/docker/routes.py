"""The addresses of Docker Model Runner's API."""

from starlette.routing import Route

from modelrunner.serve.apis.docker.configure import Configure
from modelrunner.serve.apis.docker.engines import Engines
from modelrunner.serve.apis.docker.logs import Logs
from modelrunner.serve.apis.docker.models import Models
from modelrunner.serve.apis.docker.score import Score
from modelrunner.serve.apis.docker.store import Changes
from modelrunner.serve.apis.served import Server
from modelrunner.serve.relay import Relay

_ENGINES = ("/engines", "/engines/{engine}")


def routes(server: Server) -> list[Route]:
    """`/models`, `/engines`, `/version` and `/logs`."""
    models, changes, engines = Models(server), Changes(server), Engines(server)
    configure, logs = Configure(server), Logs(server)
    pool, bodies = server.pool, server.bodies
    score = Relay(pool, "score", bodies, Score(bodies))
    found = [
        Route("/models", models.all, methods=["GET"]),
        Route("/models/create", changes.create, methods=["POST"]),
        Route("/models/load", changes.load, methods=["POST"]),
        Route("/models/purge", changes.purge, methods=["DELETE"]),
        Route("/models/{model:path}/tag", changes.tag, methods=["POST"]),
        Route("/models/{model:path}/push", changes.push, methods=["POST"]),
        Route("/models/{model:path}/repackage", changes.repackage, methods=["POST"]),
        Route("/models/{model:path}/export", changes.export, methods=["GET"]),
        Route("/models/{model:path}", models.one, methods=["GET"]),
        Route("/models/{model:path}", changes.delete, methods=["DELETE"]),
        Route("/engines/status", engines.status, methods=["GET"]),
        Route("/engines/ps", engines.running, methods=["GET"]),
        Route("/engines/df", engines.disk_usage, methods=["GET"]),
        Route("/engines/unload", engines.unload, methods=["POST"]),
        Route("/engines/install-backend", engines.install, methods=["POST"]),
        Route("/engines/uninstall-backend", engines.install, methods=["POST"]),
        Route("/engines/_configure", configure.show, methods=["GET"]),
        Route("/engines/requests", logs.requests, methods=["GET"]),
        Route("/logs", logs.logs, methods=["GET"]),
        Route("/version", engines.version, methods=["GET"]),
    ]
    return [
        *found,
        *(Route(f"{each}/_configure", configure.change, methods=["POST"]) for each in _ENGINES),
        *(Route(f"{prefix}/score", score, methods=["POST"]) for prefix in ("", "/v1", *_ENGINES)),
    ]
