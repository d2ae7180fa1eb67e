"""A small Llama in safetensors, with its tokenizer; for a Python that has transformers.

python tests/support/tiny_transformers.py FOLDER
"""

import sys
from pathlib import Path

import sentencepiece
import torch
from transformers import LlamaConfig, LlamaForCausalLM

folder = Path(sys.argv[1])
folder.mkdir(parents=True)
text = folder / "words.txt"
words = [f"word{number} and more of {number}" for number in range(400)]
text.write_text("\n".join(words))
sentencepiece.SentencePieceTrainer.train(
    input=str(text), model_prefix=str(folder / "tokenizer"), vocab_size=256, model_type="bpe",
    byte_fallback=False, hard_vocab_limit=False,
)  # fmt: skip
vocabulary = sentencepiece.SentencePieceProcessor(str(folder / "tokenizer.model")).vocab_size()
(folder / "tokenizer.vocab").unlink()
text.unlink()
torch.manual_seed(0)
config = LlamaConfig(
    vocab_size=vocabulary, hidden_size=64, intermediate_size=128, num_hidden_layers=2,
    num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=512,
)  # fmt: skip
LlamaForCausalLM(config).save_pretrained(folder, safe_serialization=True)
