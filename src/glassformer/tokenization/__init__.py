"""Text to ids and back: trained here (BPE, WordPiece, symbols, characters, bytes) or published elsewhere.

Every tokenizer keeps ``contracts.Tokenizer``. In all of them a text is only a text: ``<|endoftext|>`` spelled
out in it is encoded as the letters it is made of, so that no text can forge the end of a document. The
separator itself is written by its id, ``tokenizer.end_of_text``.
"""

from glassformer.tokenization.bpe import BPETokenizer
from glassformer.tokenization.byte import ByteTokenizer
from glassformer.tokenization.character import CharacterTokenizer
from glassformer.tokenization.labels import visible
from glassformer.tokenization.names import END_OF_TEXT, TOKENIZER_FILE
from glassformer.tokenization.pretrained import PretrainedTokenizer
from glassformer.tokenization.ranks import find_gpt2_ranks
from glassformer.tokenization.saved import has_tokenizer, load_tokenizer
from glassformer.tokenization.symbols import SymbolTokenizer
from glassformer.tokenization.vocabulary_files import VOCABULARY_FILES
from glassformer.tokenization.wordpiece import WordPieceTokenizer

__all__ = [
    "END_OF_TEXT",
    "TOKENIZER_FILE",
    "VOCABULARY_FILES",
    "BPETokenizer",
    "ByteTokenizer",
    "CharacterTokenizer",
    "PretrainedTokenizer",
    "SymbolTokenizer",
    "WordPieceTokenizer",
    "find_gpt2_ranks",
    "has_tokenizer",
    "load_tokenizer",
    "visible",
]
