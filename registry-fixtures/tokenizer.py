"""Vocabularies as GGUF keeps them: byte-level BPE for models that talk, word pieces for BERT.

```
BPE          the control tokens | one token a byte | every word of the sentence and its beginnings
WordPiece    the control tokens | letters and digits, at a word's start and inside | some words
```
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from gguf import GGUFWriter, TokenType

SENTENCE = (
    "Hello", "!", " I", " am", " a", " tiny", " model", ":", " my", " weights", " were", " made",
    " by", " hand", ",", " so", " this", " is", " all", " they", " can", " say", ".",
)  # fmt: skip

WORD_START = "\u2581"  # how GGUF marks a word piece that begins a word


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """Tokens by number, what kind each is, and for BPE which pairs merge.

    Attributes:
        walks: What the model says, see `weights.recital`; first `SENTENCE` and the end.
    """

    tokens: tuple[str, ...]
    types: tuple[TokenType, ...]
    merges: tuple[str, ...] = ()
    walks: tuple[tuple[int, ...], ...] = ()

    def __len__(self) -> int:
        return len(self.tokens)

    def number(self, token: str) -> int:
        """The number of a token."""
        return self.tokens.index(token)


def byte_level(
    control: Sequence[str],
    defined: Sequence[str] = (),
    *,
    end: str,
    walks: Sequence[Sequence[str]] = (),
) -> Vocabulary:
    """A BPE vocabulary that can spell anything and has each word of `SENTENCE` as one token.

    Args:
        control: Tokens that text never becomes, such as those between messages.
        defined: Tokens that stand for themselves in text.
        end: The control token that ends an answer.
        walks: What to say besides the sentence, see `weights.recital`.
    """
    letters = _letters()
    words = [_spelt(word, letters) for word in SENTENCE]
    alphabet = [letters[byte] for byte in range(256)]
    pairs = {word[:cut] + word[cut]: f"{word[:cut]} {word[cut]}" for word, cut in _cuts(words)}
    tokens = (*control, *defined, *alphabet, *pairs)
    types = [TokenType.CONTROL] * len(control) + [TokenType.USER_DEFINED] * len(defined)
    types += [TokenType.NORMAL] * (len(tokens) - len(types))
    spelt = [(*words, end), *([_spelt(token, letters) for token in walk] for walk in walks)]
    numbers = tuple(tuple(tokens.index(token) for token in walk) for walk in spelt)
    return Vocabulary(tokens, tuple(types), tuple(pairs.values()), numbers)


def word_pieces(words: Sequence[str]) -> Vocabulary:
    """A BERT vocabulary that can spell lower-case text and has the given words."""
    control = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
    signs = "abcdefghijklmnopqrstuvwxyz0123456789"
    starts = [WORD_START + sign for sign in (*signs, *".,:;!?-'", *words)]
    tokens = (*control, *starts, *signs)
    types = [TokenType.CONTROL] * len(control) + [TokenType.NORMAL] * (len(tokens) - len(control))
    return Vocabulary(tokens, tuple(types))


def describe(writer: GGUFWriter, model: str, pre: str, vocabulary: Vocabulary) -> None:
    """Writes the vocabulary's key-values: all but the numbers of the special tokens."""
    writer.add_tokenizer_model(model)
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(vocabulary.tokens)
    writer.add_token_types(vocabulary.types)
    if vocabulary.merges:
        writer.add_token_merges(vocabulary.merges)


def _cuts(words: Sequence[str]) -> Iterator[tuple[str, int]]:
    """Every place where a word is its beginning plus one letter."""
    for word in words:
        for cut in range(1, len(word)):
            yield word, cut


def _spelt(word: str, letters: dict[int, str]) -> str:
    return "".join(letters[byte] for byte in word.encode())


def _letters() -> dict[int, str]:
    """The letter that stands for each byte: itself where it prints, else one from 256 up."""
    printing = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printing]
    spare = {byte: chr(256 + place) for place, byte in enumerate(others)}
    return {byte: chr(byte) for byte in printing} | spare
