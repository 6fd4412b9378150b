"""Token files: the token ids of each split on disk, memory-mapped, with a checksummed header.

A folder of token files holds ``train.bin``, ``validation.bin`` and ``test.bin`` (little-endian integers), the
``tokenizer.json`` that produced them, and ``header.json``, which is written last: a folder without it is not
finished. The header has the size and the CRC-32 of each file, and a hash of itself.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import zlib
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias, overload

import numpy as np
import numpy.typing as npt

from glassformer.contracts import Tokenizer
from glassformer.files import atomic_write, read_json
from glassformer.tokenization import TOKENIZER_FILE, load_tokenizer

FORMAT = "glassformer tokens"
VERSION = 1
HEADER = "header.json"
READ_BYTES = 2**23

Tokens: TypeAlias = npt.NDArray[np.unsignedinteger[Any]]


class TokenFileError(ValueError):
    """Token files are missing, unfinished, damaged, or of another version."""


@dataclass(frozen=True)
class TokenFile:
    """The token ids of one split: ``len(file)``, ``file[a:b]``; only the requested part is read from disk.

    Raises:
        TokenFileError: another program has truncated the file since it was mapped.
    """

    path: Path
    vocab_size: int
    num_tokens: int
    num_bytes: int
    """UTF-8 bytes of the text, without end-of-text tokens; the divisor of bits per byte."""
    num_documents: int
    """Documents that have text in this split."""
    crc32: int

    @property
    def dtype(self) -> np.dtype[np.unsignedinteger[Any]]:
        """Storage type of a token: ``uint16`` for up to 65,536 ids, else ``uint32``."""
        return token_dtype(self.vocab_size)

    @cached_property
    def tokens(self) -> Tokens:
        """All tokens as a read-only memory-mapped array.

        If another program truncates the file, reading the array ends the process (SIGBUS); ``file[a:b]``
        raises an error instead.
        """
        if self.num_tokens == 0:  # an empty file cannot be mapped
            return np.empty(0, dtype=self.dtype)
        return np.memmap(self.path, dtype=self.dtype, mode="r", shape=(self.num_tokens,))

    def __len__(self) -> int:
        return self.num_tokens

    @overload
    def __getitem__(self, index: int) -> np.unsignedinteger[Any]: ...
    @overload
    def __getitem__(self, index: slice) -> Tokens: ...
    def __getitem__(self, index: int | slice) -> np.unsignedinteger[Any] | Tokens:
        """Return one token, or a copy of a slice of tokens."""
        expected = self.num_tokens * self.dtype.itemsize
        mapped: Any = self.tokens.base  # None for an empty file
        if isinstance(mapped, mmap.mmap) and (size := mapped.size()) < expected:
            raise TokenFileError(
                f"{self.path} was truncated while it was in use: "
                f"it has {size:,} bytes instead of {expected:,}"
            )
        selected: np.unsignedinteger[Any] | Tokens = self.tokens[index].copy()
        return selected

    def check(self, content: bool) -> None:
        """Compare the file with its header: the size, and with ``content`` also the CRC-32.

        Raises:
            TokenFileError: the file is missing or differs.
        """
        expected = self.num_tokens * self.dtype.itemsize
        if not self.path.is_file():
            raise TokenFileError(f"{self.path.name} is missing")
        if (size := self.path.stat().st_size) != expected:
            raise TokenFileError(f"{self.path.name} has {size:,} bytes, but its header says {expected:,}")
        if content and crc32_of(self.path, expected) != self.crc32:
            raise TokenFileError(f"the content of {self.path.name} does not match its checksum")


@dataclass(frozen=True)
class TokenFiles:
    """The splits of one corpus, encoded with one tokenizer."""

    folder: Path
    key: str
    """Hash of the text, the tokenizer and the options; the name of the folder."""
    train: TokenFile
    validation: TokenFile
    test: TokenFile

    @classmethod
    def open(cls, folder: str | Path, verify: bool = False) -> TokenFiles:
        """Open token files that ``build_token_files`` wrote.

        The header and the file sizes are always checked. With ``verify``, all files are read and their
        checksums compared (about 1 GB/s), which detects a single flipped bit.

        Raises:
            TokenFileError: the files are missing, unfinished, damaged, or of another version.
        """
        folder = Path(folder)
        try:
            header = _read_header(folder / HEADER)
            splits = {
                name: TokenFile(folder / f"{name}.bin", header["vocab_size"], **entry)
                for name, entry in header["splits"].items()
            }
            for file in splits.values():
                file.check(content=verify)
            _check_tokenizer(folder, header["tokenizer_crc32"])
            return cls(folder, header["key"], **splits)
        except TokenFileError as error:
            raise TokenFileError(f"the token files in {folder} cannot be used: {error}") from None
        except (KeyError, TypeError, AttributeError) as error:
            raise TokenFileError(
                f"the token files in {folder} cannot be used: {HEADER} is incomplete ({error})"
            ) from None

    @property
    def vocab_size(self) -> int:
        """Ids are in ``range(vocab_size)``."""
        return self.train.vocab_size

    @property
    def splits(self) -> dict[str, TokenFile]:
        """The three splits by name."""
        return {"train": self.train, "validation": self.validation, "test": self.test}

    def tokenizer(self) -> Tokenizer:
        """Load the tokenizer that produced the files from their folder."""
        return load_tokenizer(self.folder)


def token_dtype(vocab_size: int) -> np.dtype[np.unsignedinteger[Any]]:
    """Return the smaller of uint16 and uint32, little-endian, that holds every id."""
    return np.dtype("<u2" if vocab_size <= 2**16 else "<u4")


def crc32_of(path: Path, size: int) -> int:
    """Return the CRC-32 of the first ``size`` bytes of a file."""
    checksum = 0
    with path.open("rb") as file:
        while size and (chunk := file.read(min(size, READ_BYTES))):
            checksum = zlib.crc32(chunk, checksum)
            size -= len(chunk)
    return checksum


def hash_values(values: dict[str, Any]) -> str:
    """Return the hash that a header or journal stores of its other values."""
    return hashlib.blake2b(json.dumps(values, sort_keys=True).encode(), digest_size=16).hexdigest()


def write_header(files: TokenFiles) -> None:
    """Write the header, which marks the files as finished."""
    splits = {name: asdict(file) for name, file in files.splits.items()}
    for entry in splits.values():
        del entry["path"], entry["vocab_size"]
    header = {
        "format": FORMAT,
        "version": VERSION,
        "key": files.key,
        "vocab_size": files.vocab_size,
        "dtype": files.train.dtype.name,
        "tokenizer_crc32": zlib.crc32((files.folder / TOKENIZER_FILE).read_bytes()),
        "splits": splits,
    }
    atomic_write(files.folder / HEADER, json.dumps(header | {"hash": hash_values(header)}, indent=2) + "\n")


def _read_header(path: Path) -> dict[str, Any]:
    try:
        header: Any = read_json(path)
    except FileNotFoundError:
        raise TokenFileError(f"there is no {HEADER}: the files are missing or were never finished") from None
    except ValueError:
        raise TokenFileError(f"{HEADER} is not valid JSON") from None
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise TokenFileError(f"{HEADER} does not have the format {FORMAT!r}")
    if header.get("version") != VERSION:
        raise TokenFileError(f"{HEADER} has the version {header.get('version')}, expected {VERSION}")
    if header.pop("hash", None) != hash_values(header):
        raise TokenFileError(f"{HEADER} does not match its own hash")
    return header


def _check_tokenizer(folder: Path, checksum: int) -> None:
    path = folder / TOKENIZER_FILE
    if not path.is_file():
        raise TokenFileError(f"{TOKENIZER_FILE} is missing")
    if zlib.crc32(path.read_bytes()) != checksum:
        raise TokenFileError(f"the content of {TOKENIZER_FILE} does not match its checksum")
