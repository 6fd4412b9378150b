"""Names that other libraries use too."""

END_OF_TEXT = "<|endoftext|>"
"""How the separator of documents is spelled: GPT-2's name for it."""

TOKENIZER_FILE = "tokenizer.json"
"""The file that a tokenizer is saved in."""

SETTINGS_FILE = "tokenizer_config.json"
"""The file beside it that says which special token is for what."""
