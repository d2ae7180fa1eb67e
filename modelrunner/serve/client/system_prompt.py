"""The system prompt of a model, for requests that bring none, where each API has it.

The prompt is put into the body of a request; all else of it stays as it was.
"""

import json
from collections.abc import Mapping

from modelrunner.serve.client.fields import Fields

_PLACES: Mapping[str, str] = {
    "chat/completions": "messages",
    "messages": "system",
    "messages/count_tokens": "system",
    "responses": "instructions",
}
"""The field of each endpoint that takes a system prompt. `completions` continue text as it is."""


def add_system_prompt(raw: bytearray, fields: Fields, endpoint: str, text: str) -> None:
    """Put a system prompt into the body of a request that has none of its own.

    Args:
        raw: The body, which is changed.
        fields: What was read of it.
        endpoint: What is asked.
        text: The prompt.
    """
    place = _PLACES.get(endpoint)
    if place is None or place not in fields.without_system:
        return
    if place != "messages":
        # behind all others: of two fields of a name, as where one is null, parsers take the last
        at = raw.rindex(b"}")
        raw[at:at] = f',"{place}":{json.dumps(text)}'.encode()
    elif fields.messages_at is not None:
        message = {"role": "system", "content": text}
        raw[fields.messages_at : fields.messages_at] = f"{json.dumps(message)},".encode()
