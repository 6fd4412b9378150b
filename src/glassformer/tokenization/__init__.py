"""Tokenizers: byte-level BPE, WordPiece, symbols, characters, bytes, and those of published models.

Every tokenizer implements ``contracts.Tokenizer``. Special tokens in a text are ordinary text: ``encode``
never turns ``<|endoftext|>`` in a document into the end-of-text token, whose id is
``tokenizer.end_of_text``.
"""

from typing import TYPE_CHECKING

from glassformer.deprecation import renamed_attributes
from glassformer.tokenization.base import TOKENIZER_FILE, printable_label, safe_decode, token_label
from glassformer.tokenization.bpe import BPETokenizer
from glassformer.tokenization.character_level import ByteTokenizer, CharacterTokenizer
from glassformer.tokenization.io import VOCABULARY_FILES, has_tokenizer, load_tokenizer
from glassformer.tokenization.pretrained import PretrainedTokenizer
from glassformer.tokenization.special_tokens import END_OF_TEXT, MASK, encode_typed_text, encode_with_masks
from glassformer.tokenization.symbols import SymbolTokenizer
from glassformer.tokenization.tiktoken_format import find_gpt2_ranks
from glassformer.tokenization.wordpiece import WordPieceTokenizer

__all__ = [
    "END_OF_TEXT",
    "MASK",
    "TOKENIZER_FILE",
    "VOCABULARY_FILES",
    "BPETokenizer",
    "ByteTokenizer",
    "CharacterTokenizer",
    "PretrainedTokenizer",
    "SymbolTokenizer",
    "WordPieceTokenizer",
    "encode_typed_text",
    "encode_with_masks",
    "find_gpt2_ranks",
    "has_tokenizer",
    "load_tokenizer",
    "printable_label",
    "safe_decode",
    "token_label",
]

if not TYPE_CHECKING:
    __getattr__ = renamed_attributes(__name__, {"visible": "printable_label"})
