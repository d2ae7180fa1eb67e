"""JSON of any shape where a registry, a token service, the Hub or a search should speak."""

import contextlib
import json
from io import BytesIO

import urllib3
from hypothesis import given
from hypothesis import strategies as st

from modelrunner.errors import ModelRunnerError
from modelrunner.registry.docker_hub import next_page, repositories_in
from modelrunner.registry.http.connections import Response
from modelrunner.registry.http.endpoint import Endpoint
from modelrunner.registry.http.responses import error_for
from modelrunner.registry.http.tokens import Tokens
from modelrunner.registry.huggingface.api import hits_in
from modelrunner.wire import parse_json


class Answering:
    """An exchange that answers every request with this body."""

    def __init__(self, raw):
        self._raw = raw

    def send(self, _method, url, **_more):
        raw = urllib3.HTTPResponse(BytesIO(self._raw), status=200, preload_content=False)
        return Response(raw, url, {})


def tags_in(raw):
    """The tags that a registry lists with this body."""
    # it imports oras, which takes longer than most tests
    from modelrunner.registry.oci.oras_client import OrasClient

    endpoint = Endpoint.of_registry("r.example")
    return OrasClient(Answering(raw), endpoint, "o/m", scope="", error_of=None).tags()


LEAVES = (
    st.none()
    | st.booleans()
    | st.integers(-(10**25), 10**25)
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["9" * 5000, "\ud800", "\x9b", "https://[", "sha256:x"])
)
KEYS = st.sampled_from(
    [
        "token",
        "access_token",
        "expires_in",
        "tags",
        "errors",
        "code",
        "message",
        "detail",
        "near",
        "id",
        "gguf",
        "total",
        "architecture",
        "siblings",
        "rfilename",
        "downloads",
        "likes",
        "namespace",
        "name",
        "description",
        "pull_count",
        "star_count",
        "results",
        "next",
    ]
)
SHAPES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=6),
    max_leaves=12,
)


@given(SHAPES)
def test_no_shape_breaks_whoever_reads_it(value):
    raw = json.dumps(value).encode()
    error_for(403, {}, raw, what="m", registry="r")
    error_for(404, {}, raw, what="m", registry="r")
    list(hits_in(value))
    list(hits_in([value]))
    list(repositories_in([value]))
    next_page("https://hub.docker.com/v2/", value)
    with contextlib.suppress(ModelRunnerError):
        assert all(isinstance(tag, str) for tag in tags_in(raw))
    try:
        body = parse_json(raw)
    except ValueError:
        return
    service = Tokens(Endpoint.of_registry("ghcr.io"), lambda: None, lambda *_asked: (200, {}, body))
    try:
        answer = service.answer('Bearer realm="https://ghcr.io/token"', "repository:o/m:pull")
    except ModelRunnerError:
        return
    assert answer is not None
    assert answer.startswith("Bearer ")
