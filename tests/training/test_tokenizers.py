"""Tokenizers of training runs."""

from dataclasses import replace

from glassformer.tokenization import BPETokenizer, ByteTokenizer, CharacterTokenizer
from glassformer.training import tokenizers as tokenizers_module
from glassformer.training import train
from glassformer.training.tokenizers import make_tokenizer


def test_tokenizers_by_name(text_config, monkeypatch, tmp_path):
    def made(name, **changes):
        return make_tokenizer(replace(text_config.data, tokenizer=name, **changes))

    assert isinstance(made("byte"), ByteTokenizer)
    characters = made("character")
    assert isinstance(characters, CharacterTokenizer)
    assert set(characters.characters) == set("0123456789 andre.\n")
    bpe = made("bpe", vocab_size=300)
    assert isinstance(bpe, BPETokenizer)
    assert bpe.vocab_size == 300
    monkeypatch.setattr(BPETokenizer, "train", None)  # it is loaded, not trained again
    assert made("bpe", vocab_size=300).encode("and 12 are") == bpe.encode("and 12 are")
    bpe.save(tmp_path)
    assert made(str(tmp_path)).encode("and 12 are") == bpe.encode("and 12 are")


def test_tiktoken_files(text_config, monkeypatch, tmp_path):
    asked = []
    monkeypatch.setattr(BPETokenizer, "from_tiktoken", lambda path: asked.append(path))
    monkeypatch.setattr(tokenizers_module, "find_gpt2_ranks", lambda: "found")
    file = tmp_path / "mine.tiktoken"
    file.touch()
    for name in ("gpt2", str(file)):
        make_tokenizer(replace(text_config.data, tokenizer=name))
    assert asked == ["found", file]


def test_characters_of_the_validation_split_are_in_the_vocabulary(text_config, text, console):
    text.write_text("abc " * 200 + "§")
    wanted = replace(text_config, data=replace(text_config.data, tokenizer="character"))
    assert train(wanted, console=console).status == "finished"
