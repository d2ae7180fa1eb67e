"""Strategies: what registries may say that is not so, drawn by Hypothesis."""

import hashlib
import json
from collections.abc import Mapping

from hypothesis import strategies as st

from tests.support.artifacts import Artifact, docker_artifact, index_artifact, modelpack_artifact
from tests.support.faults.liar import (
    KINDS,
    Body,
    Chunked,
    Cut,
    Header,
    Json,
    Lie,
    Silence,
    Status,
    altered,
)

_DIGEST = "sha256:" + "ab" * 32
_LONG = "9" * 5000

numbers = st.sampled_from(
    [
        *(
            "",
            "-1",
            "0",
            "1",
            "7",
            " 12 ",
            "1e3",
            "0x10",
            "1_000",
            "5, 5",
            "+3",
            "١٢",
            "nan",
            "inf",
        ),
        *(str(2**63 - 1), str(2**63), str(2**64), _LONG, "-" + _LONG),
    ]
)
odd_texts = st.one_of(
    st.text(st.characters(codec="utf-8", exclude_characters="\r\n\0"), max_size=40),
    st.sampled_from(
        [
            *("\x1b]0;title\x07\x9b31m", "\u202egnp.exe", "a" * 70_000, "../../../../etc/passwd"),
            *("C:\\con", "-rf", ".", "..", "~", "$(id)", "%s%n", "\x7f\x85\u2028"),
        ]
    ),
)
urls = st.sampled_from(
    [
        *(
            "",
            "/",
            "//",
            "?",
            "#",
            "..",
            "https://",
            "http://[",
            "http://[::1",
            "http://a:b",
            ":80",
        ),
        *("http://127.0.0.1:1/", "http://127.0.0.1:99999/", "http://127.0.0.1:-1/", "http:///v2/"),
        *("file:///etc/passwd", "ftp://127.0.0.1/", "gopher://127.0.0.1:1/_", "javascript:0"),
        *("http://169.254.169.254/latest/", "http://0.0.0.0:1/", "http://localhost:1/\u202e"),
        *("http://user:secret@127.0.0.1:1/", "http://xn--/", "http://" + "a" * 300 + "/"),
        *("/v2/ai/lied/blobs/x", "/v2/", "http://127.0.0.1:1/%00%zz", "http://\u2025/"),
    ]
)
digests = st.sampled_from(
    [
        *(
            "",
            _DIGEST,
            _DIGEST.upper(),
            _DIGEST[:-1],
            _DIGEST + "0",
            "sha256:",
            "sha256:../../../x",
        ),
        *("sha512:" + "ab" * 64, "md5:" + "ab" * 16, "sha256:" + "zz" * 32, "x", ":", _LONG),
    ]
)
types = st.sampled_from(
    [
        *(
            "",
            "text/html",
            "application/json; charset=utf-99",
            "application/octet-stream",
            "x/y" * 9000,
        ),
        *("application/vnd.oci.image.index.v1+json", "application/vnd.oci.image.manifest.v1+json"),
        *("application/vnd.docker.distribution.manifest.v1+prettyjws", "multipart/byteranges", ";"),
        *("application/vnd.docker.distribution.manifest.list.v2+json", "application/vnd.docker.ai"),
    ]
)
spans = st.one_of(
    st.sampled_from(
        ["", "bytes", "bytes */5", "bytes 5-2/10", "bytes 0-0/1", "bytes 0-/9", "items 0-1/2", "x"]
    ),
    st.builds("bytes {}-{}/{}".format, numbers, numbers, numbers),
)
challenges = st.one_of(
    st.sampled_from(
        [
            *("", "Bearer", "Basic", "Basic realm=", "Negotiate", "Digest realm=x", ",", '"', "="),
            *('Bearer realm="', 'Bearer realm="x",' * 200, "Bearer realm=x, Basic realm=y"),
            'Bearer a="\\',
        ]
    ),
    st.builds('Bearer realm="{}",service="{}",scope="{}"'.format, urls, odd_texts, odd_texts),
)
links = st.one_of(
    st.sampled_from(["<", "<>", '<>; rel="next"', '; rel="next"', 'x; rel="next"', "," * 9000]),
    st.builds('<{}>; rel="next"'.format, urls),
    st.just('</v2/ai/lied/tags/list?n=1>; rel="next"'),
)
times = st.one_of(
    numbers,
    st.sampled_from(
        ["Wed, 21 Oct 2099 07:28:00 GMT", "Wed, 99 Foo 0000 99:99:99 XYZ", "tomorrow", "0.0001"]
    ),
)

_HEADERS: Mapping[str, st.SearchStrategy[str]] = {
    "Content-Length": numbers,
    "Content-Range": spans,
    "Content-Type": types,
    "Content-Encoding": st.sampled_from(["", "gzip", "deflate", "br", "zstd", "gzip, gzip", "x"]),
    "Transfer-Encoding": st.sampled_from(["chunked", "gzip, chunked", "identity", "x", ""]),
    "Docker-Content-Digest": digests,
    "Docker-Distribution-Api-Version": odd_texts,
    "WWW-Authenticate": challenges,
    "Location": urls,
    "Link": links,
    "Retry-After": times,
    "Date": times,
    "ETag": odd_texts,
    "Accept-Ranges": st.sampled_from(["", "none", "bytes", "x"]),
    "RateLimit-Remaining": numbers,
    "OCI-Subject": digests,
    "OCI-Filters-Applied": odd_texts,
    "OCI-Chunk-Min-Length": numbers,
    "Range": st.one_of(spans, numbers),
    "Set-Cookie": odd_texts,
    "Warning": odd_texts,
    "X-Error-Code": odd_texts,
    "X-Repo-Commit": odd_texts,
    "X-Linked-Etag": digests,
    "X-Linked-Size": numbers,
}

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from([-1, 0, 2**31, 2**53 + 1, 2**63 - 1, 2**63, 2**64, 10**400, 1e308, 0.5, -0.0]),
    odd_texts,
    digests,
    urls,
    numbers,
    types,
)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=9), inner, max_size=4)
    ),
    max_leaves=6,
)
_KEYS = (
    *(
        "digest",
        "size",
        "mediaType",
        "layers",
        "config",
        "manifests",
        "annotations",
        "tags",
        "token",
    ),
    *("access_token", "expires_in", "errors", "message", "detail", "schemaVersion", "artifactType"),
    *("subject", "platform", "urls", "data", "org.cncf.model.filepath", "__proto__", ""),
)

_WHOLE = (
    *(b"", b"null", b"[]", b"{}", b"0", b'""', b"{", b"\xff\xfe", b"\0" * 100, b"true"),
    *(b"[" * 100_000, b'{"a":' * 20_000, b"9" * 10_000, b"1e999", b"NaN", b'{"a":1,"a":2}'),
    *(b"\xef\xbb\xbf{}", b'"\\ud800"', b"<!DOCTYPE html><h1>Sign in</h1>", b'{"errors":{}}'),
    *(b'{"errors":[null,1,{"code":[],"message":{}}]}', b'{"errors":[{"code":"\\u001b[31m"}]}'),
    *(b'{"tags":null}', b'{"tags":[null,1,"\\u0000"]}', b'{"token":""}', b'{"token":"a\\nb"}'),
    *(b'{"schemaVersion":2}', b'{"schemaVersion":1,"fsLayers":[]}', b'{"manifests":[{}]}'),
)

_changes = st.one_of(
    st.builds(
        Status,
        st.one_of(
            st.integers(100, 599).map("{} Some".format),
            st.sampled_from(
                ["200", "99 Low", "1000 High", "-1 X", "abc", "", "200 " + "x" * 70_000]
            ),
            st.sampled_from(
                ["401 U", "403 D", "404 N", "416 R", "429 T", "503 S", "206 P", "307 M"]
            ),
        ),
    ),
    st.sampled_from(sorted(_HEADERS)).flatmap(
        lambda name: st.lists(_HEADERS[name], max_size=2).map(
            lambda texts: Header(name, tuple(texts))
        )
    ),
    st.builds(Body, st.one_of(st.sampled_from(_WHOLE), st.binary(max_size=200))),
    st.builds(Json, st.integers(0, 200), values, st.none() | st.sampled_from(_KEYS)),
    st.builds(Json, st.integers(0, 200), values),
    st.builds(Cut, st.sampled_from([-5000, -1, 1, 10, 5000, 10**9])),
    st.builds(
        Chunked,
        st.lists(
            st.sampled_from(["", "", "0", "-5", "ffffffffff", "zz", "3;x=y", "f" * 5000]),
            max_size=3,
        ).map(tuple),
        st.booleans(),
    ),
    st.builds(Silence),
)

lies = st.lists(
    st.builds(
        Lie,
        st.sampled_from(KINDS),
        _changes,
        st.sampled_from([0, 0, 0, 1, 2]),
        st.sampled_from([1, 2, 1000]),
    ),
    min_size=1,
    max_size=4,
)
"""Each about a kind of request."""


@st.composite
def artifacts(draw: st.DrawFn, weights: bytes) -> Artifact:
    """A model whose manifest, config or index says what it should not, in right digests."""
    make = draw(st.sampled_from([docker_artifact, modelpack_artifact]))
    artifact = make(weights, license=b"free", template=b"{{ messages }}")
    manifest, blobs = json.loads(artifact.manifest), dict(artifact.blobs)
    if draw(st.booleans()):
        config = altered(json.loads(artifact.config), draw(st.integers(0, 60)), draw(values))
        content = _encoded(config)
        digest = "sha256:" + hashlib.sha256(content).hexdigest()
        blobs[digest] = content
        manifest["config"] |= {"digest": digest, "size": len(content)}
    for _ in range(draw(st.integers(0, 2))):
        key = draw(st.none() | st.sampled_from(_KEYS))
        manifest = altered(manifest, draw(st.integers(0, 120)), draw(values), key)
    made = Artifact(_encoded(manifest), artifact.media_type, blobs)
    if not draw(st.booleans()):
        return made
    platforms = [{"os": "linux", "architecture": "amd64"}]
    index = index_artifact(made, platforms=draw(st.sampled_from([platforms, None])))
    document = altered(json.loads(index.manifest), draw(st.integers(0, 20)), draw(values))
    return Artifact(_encoded(document), index.media_type, children=(made,))


def _encoded(document: object) -> bytes:
    return json.dumps(document).encode("utf-8", "surrogatepass")
