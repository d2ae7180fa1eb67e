"""Requests whose bodies come in chunks."""

import json


def mixed_chunks() -> tuple[bytes, str]:
    """A chat whose body comes in large chunks and in many of a byte, and what is said in it.

    Small ones are parsed in steps, for the sake of other clients; what follows them waits.
    """
    text = "w" * 300_000 + "abc" * 4000 + "v" * 300_000
    body = json.dumps({"messages": [{"role": "user", "content": text}]}).encode()
    begin = body.index(b"abc")
    end = begin + 12_000
    chunks = [body[:begin], *(bytes([each]) for each in body[begin:end]), body[end:]]
    head = (
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n"
        b"Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    framed = b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks)
    return head + framed + b"0\r\n\r\n", text
