"""The "Model shape" table: hyperparameters by size, with which memory can be computed.

```
| Shape      | 1B    | 3B    |
|------------|-------|-------|
| Layers     | 16    | 28    |
| KV heads   | 8     | 8     |
```

One column a size label, the label that tags begin with. `-` is a value that does not apply.
"""

import re
from collections.abc import Mapping

from modelrunner.cards.card import Shape, ShapeValue
from modelrunner.cards.markdown import Table, label, plain

# The name in the table, and the name by which the value is known everywhere else.
FIELDS: Mapping[str, str] = {
    "Architecture": "arch",
    "Layers": "layers",
    "Embedding": "embedding",
    "Heads": "heads",
    "KV heads": "kv_heads",
    "Head size": "head_size",
    "Feed forward": "feed_forward",
    "Vocabulary": "vocab",
    "Trained context": "context",
    "Tied output": "tied",
    "Sliding window": "window",
    "Experts": "experts",
    "Experts used": "experts_used",
    "Expert feed forward": "expert_feed_forward",
    "Shared feed forward": "shared_feed_forward",
    "Dense layers": "dense_layers",
    "Attention layers": "attention_layers",
    "Recurrent inner size": "ssm_inner",
    "Recurrent heads": "ssm_heads",
    "Recurrent state size": "ssm_state",
    "Recurrent groups": "ssm_groups",
    "Recurrent convolution": "ssm_conv",
}
_BY_LABEL = {label(name): key for name, key in FIELDS.items()}
_NUMBER = r"\d{1,12}"
_NUMBERS = r"\d{1,6}(?:, ?\d{1,6})+"


def parse_shapes(table: Table) -> Mapping[str, Shape]:
    """The shapes by size label; rows with unknown names and cells with `-` are left out."""
    shapes: dict[str, dict[str, ShapeValue]] = {}
    for row in table.rows:
        key = _BY_LABEL.get(label(row[0]))
        if key is None:
            continue
        for size, cell in zip(table.columns[1:], row[1:], strict=False):
            value = _value(key, plain(cell))
            if value is not None:
                shapes.setdefault(plain(size), {})[key] = value
    return shapes


def format_value(value: ShapeValue | None) -> str:
    """A value as the table shows it."""
    match value:
        case None:
            return "-"
        case bool():
            return "yes" if value else "no"
        case tuple():
            return ", ".join(map(str, value))
        case _:
            return str(value)


def _value(key: str, text: str) -> ShapeValue | None:
    if key == "arch":
        return text if text not in ("", "-") else None
    if key == "tied":
        return {"yes": True, "no": False}.get(text.casefold())
    text = text.replace(",", "") if key != "attention_layers" else text
    if re.fullmatch(_NUMBERS, text) or (key == "attention_layers" and re.fullmatch(_NUMBER, text)):
        # bounded: twelve digits, see `_NUMBER`
        return tuple(int(number) for number in text.split(","))
    # bounded: twelve digits, see `_NUMBER`
    return int(text) if re.fullmatch(_NUMBER, text) else None
