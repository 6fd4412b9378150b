"""Corpora, their splits, token files on disk, and batches drawn from them.

files = build_token_files("sotu", tokenizer, "cache")
batches = Batches(files.train, batch_size=8, seq_len=256, seed=0)
batches.batch(step=0)                                      # (8, 257)
for inputs, targets in windows(files.validation, seq_len=256, batch_size=8): ...
"""

from typing import TYPE_CHECKING

from glassformer.data.batches import Batches, windows
from glassformer.data.corpora import DEFAULT_CORPUS, Document, Source, chunk_text, documents
from glassformer.data.progress import ConsoleProgress, CountProgress, Progress, SilentProgress
from glassformer.data.splits import DEFAULT_FRACTIONS, SPLITS, Chunk, Corpus
from glassformer.data.token_file_builder import build_token_files
from glassformer.data.token_files import TokenFile, TokenFileError, TokenFiles
from glassformer.deprecation import renamed_attributes

__all__ = [
    "DEFAULT_CORPUS",
    "DEFAULT_FRACTIONS",
    "SPLITS",
    "Batches",
    "Chunk",
    "ConsoleProgress",
    "Corpus",
    "CountProgress",
    "Document",
    "Progress",
    "SilentProgress",
    "Source",
    "TokenFile",
    "TokenFileError",
    "TokenFiles",
    "build_token_files",
    "chunk_text",
    "documents",
    "windows",
]

if not TYPE_CHECKING:
    __getattr__ = renamed_attributes(__name__, {"Piece": "Chunk", "pieces": "chunk_text"})
