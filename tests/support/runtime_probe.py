"""A child process that loads one model with xllamacpp and asks it one question.

Reads `{"model", "endpoint", "question", "embedding", "eye"}` from stdin; prints the JSON answer.
"""

import json
import os
import sys
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import xllamacpp


def main() -> None:
    task = json.load(sys.stdin)
    parameters = xllamacpp.CommonParams()
    parameters.model.path = task["model"]
    parameters.hostnames = ["127.0.0.1"]
    parameters.n_ctx = 1024
    parameters.n_parallel = 1
    parameters.cpuparams.n_threads = 1
    parameters.api_keys = ["k"]
    parameters.embedding = task["embedding"]
    if task["eye"]:
        parameters.mmproj.path = task["eye"]
    server = xllamacpp.Server(parameters)
    request = Request(
        server.listening_address + task["endpoint"],
        json.dumps(task["question"]).encode(),
        {"Authorization": "Bearer k", "Content-Type": "application/json"},
    )
    try:
        answer = urlopen(request, timeout=50).read()
    except HTTPError as error:
        answer = error.read()
    sys.stdout.write(answer.decode().strip() + "\n")
    sys.stdout.flush()
    os._exit(0)  # the server's threads need no ceremony


if __name__ == "__main__":
    main()
