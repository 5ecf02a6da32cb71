"""Saves a language model of 2 layers with random weights and a tokenizer of 60 words.

python tiny_language_model.py FOLDER
"""

from __future__ import annotations

import sys

from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast, set_seed

SPECIAL = {"pad_token": "<pad>", "eos_token": "<eos>", "unk_token": "<unk>"}
words = [*SPECIAL.values(), *(f"w{number}" for number in range(60))]
numbers = {word: number for number, word in enumerate(words)}
plain = Tokenizer(WordLevel(numbers, unk_token="<unk>"))
plain.pre_tokenizer = Whitespace()
tokenizer = PreTrainedTokenizerFast(tokenizer_object=plain, **SPECIAL)
tokenizer.save_pretrained(sys.argv[1])

set_seed(0)
config = GPT2Config(
    vocab_size=len(words),
    n_positions=64,
    n_embd=32,
    n_layer=2,
    n_head=2,
    bos_token_id=1,
    eos_token_id=1,
    pad_token_id=0,
)
GPT2LMHeadModel(config).save_pretrained(sys.argv[1])
