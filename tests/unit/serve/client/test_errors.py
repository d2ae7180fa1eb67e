"""What clients are told of errors that are about this machine."""

import pytest

from modelrunner.errors import DiskFullError, ModelRunnerError, RuntimeFailedError, TransferError
from modelrunner.serve.client.errors import refusal_for


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            RuntimeFailedError(
                "failed to load draft model, '/home/me/.modelrunner/store/v1/views/ab/tiny.gguf'",
                hint="see the log: /home/me/.modelrunner/state/serve/12434.log",
            ),
            "failed to load draft model, 'tiny.gguf'; see the log: 12434.log",
        ),
        (
            DiskFullError("the disk is full: /srv/models/store/v1/ingest/ab.partial", hint="wait"),
            "the disk is full: ab.partial; wait",
        ),
        (
            TransferError("http://127.0.0.1:5000/v2/team/model: HTTP status 500", hint="wait"),
            "http://127.0.0.1:5000/v2/team/model: HTTP status 500; wait",
        ),
        (
            TransferError("localhost:5000/team/model:1 and hf.co/team/model:Q4", hint="wait"),
            "localhost:5000/team/model:1 and hf.co/team/model:Q4; wait",
        ),
        (
            RuntimeFailedError("m is a reranking model", hint="use POST /v1/rerank"),
            "m is a reranking model; use POST /v1/rerank",
        ),
    ],
)
def test_clients_see_the_name_of_a_file_and_not_where_it_lies(
    error: ModelRunnerError, message: str
) -> None:
    assert refusal_for(error).message == message
