"""The `config.json` of Transformers: what a model is, and what its memory depends on.

    {"architectures": ["LlamaForCausalLM"], "num_hidden_layers": 16, "num_key_value_heads": 8, ...}

Models with images have the part that writes text in an object of its own. Numbers of strangers have
bounds; what is not understood is unknown. Sources: huggingface transformers
`configuration_utils.py` and the configurations of its models, vLLM
`vllm/transformers_utils/config.py`.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple, Self

from modelrunner.errors import MalformedSafetensorsError
from modelrunner.frozen import frozen
from modelrunner.text import sanitize_line
from modelrunner.wire import parse_document

Kind = Literal["full", "sliding", "state", "none"]
"""What a layer keeps of a context: all of it, a window, a state that does not grow, or nothing."""

MAX_BYTES = 4 * 1024 * 1024
_MOST_LAYERS = 4096
_MOST = 2**40
_INSIDE = ("text_config", "llm_config", "language_config", "thinker_config", "decoder")
_LAYERS = ("num_hidden_layers", "n_layer", "num_layers", "n_layers")
_HEADS = ("num_attention_heads", "n_head", "n_heads")
_KV_HEADS = ("num_key_value_heads", "n_head_kv", "num_kv_heads", "multi_query_group_num")
_HIDDEN = ("hidden_size", "n_embd", "d_model", "dim")
_CONTEXTS = ("max_position_embeddings", "n_positions", "max_seq_len", "seq_length", "n_ctx")
_KINDS: Mapping[str, Kind] = {
    "full_attention": "full",
    "attention": "full",
    "sliding_attention": "sliding",
    "chunked_attention": "sliding",
    "linear_attention": "state",
    "mamba": "state",
    "mamba2": "state",
    "conv": "state",
    "recurrent": "state",
    "moe": "none",
    "mlp": "none",
}
_LETTERS: Mapping[str, Kind] = {"M": "state", "*": "full", "-": "none", "E": "none"}
_DEFAULTS: Mapping[str, Mapping[str, int]] = {
    "gemma2": {"head_dim": 256, "sliding_window": 4096, "sliding_window_pattern": 2},
    "gemma3_text": {
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "head_dim": 256,
        "max_position_embeddings": 131072,
        "sliding_window": 4096,
        "sliding_window_pattern": 6,
    },
}
"""What published configs leave out, and Transformers fills in, by the type of the model."""

_ALL_SLIDE = ("mistral", "mixtral")
"""Types whose window, where there is one, is that of every layer."""
_GENERATES = ("ForCausalLM", "ForConditionalGeneration", "LMHeadModel")
_WHOLE = {"bfloat16": "BF16", "float16": "F16", "float32": "F32", "float64": "F64"}


class LayerState(NamedTuple):
    """What a layer with a state keeps of a conversation, in elements.

    Attributes:
        convolution: Of the last tokens.
        recurrent: Of all before.
        is_whole: Whether that part is in 32 bits, whatever the weights are in.
    """

    convolution: int
    recurrent: int
    is_whole: bool = False

    def size(self, element: int) -> int:
        """Return its bytes, by those of an element of the model."""
        return self.convolution * element + self.recurrent * (4 if self.is_whole else element)


@frozen
class TransformersConfig:
    """What a `config.json` says; None is unknown.

    Attributes:
        architecture: The class of the model, or else its type.
        context: Tokens that it was trained for.
        dtype: The type of its weights, as safetensors calls it.
        quantization: How they are quantized: `GPTQ 4-bit`, `FP8`, ...
        bits: Bits of a quantized parameter.
        kinds: What each layer keeps.
        window: Tokens of a window.
        kv_heads: Heads of keys and values.
        head_dim: Elements of a head.
        latent: Elements of a token that a layer keeps where keys and values are one vector (MLA).
        generates: Whether it writes text, so that there is a cache.
        state: What a layer with a state keeps.
    """

    architecture: str | None = None
    context: int | None = None
    dtype: str | None = None
    quantization: str | None = None
    bits: int | None = None
    kinds: tuple[Kind, ...] = ()
    window: int | None = None
    kv_heads: int | None = None
    head_dim: int | None = None
    latent: int | None = None
    generates: bool = True
    state: LayerState | None = None

    @classmethod
    def parse(cls, raw: bytes, name: str = "config.json") -> Self:
        """Read a `config.json`.

        Raises:
            MalformedSafetensorsError: It is too large, or not a JSON object.
        """
        if len(raw) > MAX_BYTES:
            raise MalformedSafetensorsError(f"{name} has more than {MAX_BYTES} bytes")
        try:
            # what nobody reads may be out of bounds: configs have `Infinity`
            value = parse_document(raw)
        except ValueError as exc:
            raise MalformedSafetensorsError(f"{name} is not JSON") from exc
        if not isinstance(value, dict):
            raise MalformedSafetensorsError(f"{name} is not a JSON object")
        text = _with_defaults(_text_part(value))
        named = value.get("architectures")
        first = named[0] if isinstance(named, list) and named else None
        architecture = _line(first) or _line(value.get("model_type"))
        method, bits = _quantized(value, text)
        heads, hidden = _number(text, _HEADS), _number(text, _HIDDEN)
        head_dim = _number(text, ("head_dim",))
        if head_dim is None and heads and hidden:
            head_dim = hidden // heads
        kv_lora, rope = _number(text, ("kv_lora_rank",)), _number(text, ("qk_rope_head_dim",))
        return cls(
            architecture,
            _number(text, _CONTEXTS),
            _dtype(value, text),
            method,
            bits,
            _kinds(text),
            _number(text, ("sliding_window", "attention_chunk_size")),
            _kv_heads(text, heads),
            head_dim,
            kv_lora + rope if kv_lora and rope else None,
            architecture is None or not isinstance(first, str) or first.endswith(_GENERATES),
            _state(text),
        )

    @property
    def is_known(self) -> bool:
        """Whether the size of its cache can be computed."""
        has_heads = self.latent is not None or None not in (self.kv_heads, self.head_dim)
        return not self.generates or (bool(self.kinds) and has_heads)

    @property
    def has_states(self) -> bool:
        """Whether there are layers with a state that does not grow."""
        return "state" in self.kinds

    def states(self, element: int) -> int | None:
        """Bytes of the states of a conversation; None where that is not known.

        Args:
            element: Bytes of an element.
        """
        if not self.has_states or not self.generates:
            return 0
        return None if self.state is None else self.kinds.count("state") * self.state.size(element)

    def cached(self, tokens: int, *, windows: bool = True) -> int | None:
        """Elements of the KV cache of a conversation; None where that is not known.

        Args:
            tokens: Of the conversation.
            windows: Whether a layer with a window keeps no more than that.
        """
        if not self.generates:
            return 0
        if not self.is_known:
            return None
        each = self.latent or 2 * (self.kv_heads or 0) * (self.head_dim or 0)
        kept = min(tokens, self.window or tokens) if windows else tokens
        full, sliding = (self.kinds.count(kind) for kind in ("full", "sliding"))
        return each * (full * tokens + sliding * kept)


def _text_part(value: Mapping[str, Any]) -> Mapping[str, Any]:
    """The object that describes what writes text."""
    part = value
    for _ in range(len(_INSIDE)):
        inside = next((part[key] for key in _INSIDE if isinstance(part.get(key), dict)), None)
        if inside is None or _number(part, _LAYERS) is not None:
            return part
        part = inside
    return part


def _with_defaults(text: Mapping[str, Any]) -> Mapping[str, Any]:
    kind = text.get("model_type")
    return {**_DEFAULTS.get(kind, {}), **text} if isinstance(kind, str) else text


def _state(text: Mapping[str, Any]) -> LayerState | None:
    """What a layer with a state keeps, as vLLM computes it: `mamba_utils.py`, for one GPU."""
    return _gated_delta(text) or _mamba2(text) or _mamba(text) or _short_convolution(text)


def _gated_delta(text: Mapping[str, Any]) -> LayerState | None:
    names = ("num_key_heads", "num_value_heads", "key_head_dim", "value_head_dim")
    match [_number(text, (f"linear_{name}",)) for name in (*names, "conv_kernel_dim")]:
        case [int(keys), int(values), int(key), int(value), int(kernel)]:
            width = 2 * keys * key + values * value
            return LayerState((kernel - 1) * width, values * value * key, _is_whole(text))
        case _:
            return None


def _mamba2(text: Mapping[str, Any]) -> LayerState | None:
    names = (
        ("mamba_n_heads", "mamba_num_heads"),
        ("mamba_d_head", "mamba_head_dim"),
        ("mamba_d_state", "ssm_state_size"),
        ("mamba_n_groups", "n_groups"),
        ("mamba_d_conv", "conv_kernel"),
    )
    match [_number(text, each) for each in names]:
        case [int(heads), int(head), int(state), int(groups), int(kernel)]:
            width = heads * head + 2 * groups * state
            return LayerState((kernel - 1) * width, heads * head * state, _is_whole(text))
        case _:
            return None


def _mamba(text: Mapping[str, Any]) -> LayerState | None:
    names = (_HIDDEN, ("mamba_expand",), ("mamba_d_state",), ("mamba_d_conv",))
    match [_number(text, each) for each in names]:
        case [int(hidden), int(expand), int(state), int(kernel)]:
            width = hidden * expand
            return LayerState((kernel - 1) * width, width * state, _is_whole(text))
        case _:
            return None


def _short_convolution(text: Mapping[str, Any]) -> LayerState | None:
    hidden, kernel = _number(text, _HIDDEN), _number(text, ("conv_L_cache",))
    return LayerState((kernel - 1) * hidden, 0) if hidden and kernel else None


def _is_whole(text: Mapping[str, Any]) -> bool:
    return text.get("mamba_ssm_dtype") == "float32"


def _number(value: Mapping[str, Any], keys: Sequence[str]) -> int | None:
    found = (value.get(key) for key in keys)
    return next(
        (
            entry
            for entry in found
            if isinstance(entry, int) and not isinstance(entry, bool) and 0 < entry < _MOST
        ),
        None,
    )


def _line(value: object) -> str | None:
    return (sanitize_line(value, 80) or None) if isinstance(value, str) else None


def _kv_heads(text: Mapping[str, Any], heads: int | None) -> int | None:
    if text.get("multi_query") is True and not text.get("new_decoder_architecture"):
        return 1
    return _number(text, _KV_HEADS) or heads


def _kinds(text: Mapping[str, Any]) -> tuple[Kind, ...]:
    layers = _number(text, _LAYERS)
    if layers is None or layers > _MOST_LAYERS:
        return ()
    listed = text.get("layer_types") or text.get("layers_block_type")
    if isinstance(listed, list) and len(listed) == layers:
        # what is not known may keep everything
        return tuple(_KINDS.get(str(kind), "full") for kind in listed)
    letters = text.get("hybrid_override_pattern")
    if isinstance(letters, str) and len(letters) == layers:
        return tuple(_LETTERS.get(letter, "full") for letter in letters)
    return _by_rule(text, layers)


def _by_rule(text: Mapping[str, Any], layers: int) -> tuple[Kind, ...]:
    """What each layer keeps, where that is not listed but follows a rule."""
    every = _number(text, ("attn_layer_period",))
    if every is not None:
        offset = _number(text, ("attn_layer_offset",)) or 0
        return tuple("full" if i % every == offset else "state" for i in range(layers))
    interval = _number(text, ("full_attention_interval",))
    if interval is not None:
        return tuple("state" if (i + 1) % interval else "full" for i in range(layers))
    pattern = _number(text, ("sliding_window_pattern",))
    if pattern is not None and _number(text, ("sliding_window",)) is not None:
        return tuple("sliding" if (i + 1) % pattern else "full" for i in range(layers))
    slides = text.get("model_type") in _ALL_SLIDE and _number(text, ("sliding_window",))
    kind: Kind = "sliding" if slides else "full"
    return (kind,) * layers


def _dtype(value: Mapping[str, Any], text: Mapping[str, Any]) -> str | None:
    said = (part.get(key) for part in (value, text) for key in ("dtype", "torch_dtype"))
    return next((_WHOLE[kind] for kind in said if isinstance(kind, str) and kind in _WHOLE), None)


def _quantized(value: Mapping[str, Any], text: Mapping[str, Any]) -> tuple[str | None, int | None]:
    """How the weights are quantized, and into how many bits."""
    for part in (value, text):
        found = part.get("quantization_config") or part.get("quantization")
        if not isinstance(found, dict):
            continue
        method = _line(found.get("quant_method")) or "MLX"
        bits = _number(found, ("bits", "w_bit")) or (
            4 if found.get("load_in_4bit") is True else None
        )
        known = bits if bits in (2, 3, 4, 8) else None
        name = method.upper().replace("_", "-")
        return (f"{name} {known}-bit" if known else name), known
    return None, None
