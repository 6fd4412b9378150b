"""Chat templates: the text of a conversation, as a published model was trained on it.

A template is a program in Jinja's language that comes with the model. It runs in Jinja's sandbox, in a Python
process of its own (``chat_template_renderer.py``): it cannot read files, and its time, memory and output are
limited.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from glassformer.tokenization.special_tokens import token_content

CHAT_TEMPLATE_FILE = "chat_template.jinja"
"""A file beside the tokenizer that replaces the ``chat_template`` of its config."""
CHAT_TEMPLATE_FOLDER = "additional_chat_templates"
"""A folder beside it with further templates, ``NAME.jinja``."""

MAX_SECONDS = 10.0
"""Time for one conversation."""
MAX_BYTES = 2**30
"""Memory of the process (where the operating system can limit it: not on Windows or macOS)."""
MAX_CHARACTERS = 10_000_000
"""Length of the text."""

_RENDERER = Path(__file__).with_name("chat_template_renderer.py")


class ChatTemplateMixin:
    """The chat templates of a tokenizer, in its settings."""

    settings: dict[str, Any]
    parse_special_tokens: bool | None

    @property
    def special_tokens(self) -> dict[str, int]:
        """The id of each special token by its spelling."""
        raise NotImplementedError

    @property
    def chat_templates(self) -> dict[str, str]:
        """The chat templates in the settings by name, of which ``"default"`` is usual; empty without one.

        Raises:
            ValueError: the setting ``chat_template`` is neither a text nor a list of named ones.
        """
        return named_templates(self.settings.get("chat_template"))

    def apply_chat_template(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        add_generation_prompt: bool = False,
        tokenize: bool = True,
        chat_template: str | None = None,
        special_tokens: bool | None = None,
        **variables: Any,
    ) -> Any:
        """Return the token ids of a conversation as a list, with the special tokens that the template writes.

        The template runs in Jinja's sandbox in a process of its own, with the limits of
        ``tokenization.chat_template``.

        Args:
            messages: ``{"role": "user", "content": "Hello"}`` and the like.
            add_generation_prompt: whether to end with the beginning of the answer.
            tokenize: whether to return token ids; otherwise the text.
            chat_template: name of a template, or a template. Default: that of the tokenizer.
            special_tokens: whether special tokens that are spelled out in messages and variables are special,
                as in `transformers`; otherwise they are ordinary text, so that no message can end another.
                Default: the tokenizer's ``parse_special_tokens``, else False.
            variables: of the template, such as ``tools``; JSON values.

        Raises:
            ValueError: no message, no template, or one that is damaged, refuses the messages, or exceeds
                its time, memory or length.
            TypeError: messages that are not mappings, or a value that JSON does not have.
        """
        if not messages:
            raise ValueError("a conversation needs at least one message")
        for message in messages:
            if not isinstance(message, Mapping):
                raise TypeError(f"a message must be a mapping with a role and a content, got {message!r}")
        variables = {
            "tools": None,
            "documents": None,
            **variables,
            "messages": [{k: v for k, v in message.items() if v is not None} for message in messages],
        }
        template = choose_template(self.chat_templates, chat_template, bool(variables["tools"]))
        special = bool(self.parse_special_tokens) if special_tokens is None else special_tokens
        words = self.special_tokens if tokenize and not special else {}
        marker = unused_character(json.dumps([template, variables], ensure_ascii=False))
        names = {key: token_content(value) for key, value in self.settings.items() if key.endswith("_token")}
        text = render_template(
            template,
            {key: name for key, name in names.items() if name is not None}
            | mark_words(variables, words, marker)
            | {"add_generation_prompt": add_generation_prompt},
        )
        if not tokenize:
            return text
        if marker not in text:
            return self.encode(text, special_tokens=True)
        pattern = "|".join(map(re.escape, sorted(words, key=len, reverse=True)))
        ids: list[int] = []
        for part in re.split(f"((?:{pattern})(?!{marker}))", text):
            ids += [words[part]] if part in words else self.encode(part.replace(marker, ""))
        return ids

    def encode(self, text: str, *, special_tokens: bool = False) -> list[int]:
        """Return the ids of a text; see ``PretrainedTokenizer``."""
        raise NotImplementedError


def unused_character(text: str) -> str:
    """Return a rare printable character that a text does not have (an unprintable one may be escaped)."""
    return next(character for character in map(chr, range(0x20000, 0x2A6E0)) if character not in text)


def mark_words(value: Any, words: Collection[str], marker: str) -> Any:
    """Put a marker after every character of the words in all strings of a JSON value."""
    if isinstance(value, str):
        for word in sorted(words, key=len, reverse=True):
            value = value.replace(word, "".join(character + marker for character in word))
        return value
    if isinstance(value, Mapping):
        return {key: mark_words(inner, words, marker) for key, inner in value.items()}
    return [mark_words(inner, words, marker) for inner in value] if isinstance(value, list | tuple) else value


def read_chat_template(folder: Path) -> dict[str, Any]:
    """Return the setting ``chat_template`` for the template files in a folder; empty if there are none.

    Raises:
        UnicodeDecodeError: a file is not UTF-8.
    """
    paths = {path.stem: path for path in sorted((folder / CHAT_TEMPLATE_FOLDER).glob("*.jinja"))}
    if (folder / CHAT_TEMPLATE_FILE).is_file():
        paths["default"] = folder / CHAT_TEMPLATE_FILE
    templates = {name: path.read_text("utf-8") for name, path in paths.items()}
    if not templates:
        return {}
    if templates.keys() == {"default"}:
        return {"chat_template": templates["default"]}
    return {"chat_template": [{"name": name, "template": text} for name, text in templates.items()]}


def remove_chat_template(folder: Path) -> None:
    """Remove the template files of another tokenizer, which would replace the setting."""
    for path in (folder / CHAT_TEMPLATE_FILE, *(folder / CHAT_TEMPLATE_FOLDER).glob("*.jinja")):
        path.unlink(missing_ok=True)


def named_templates(setting: Any) -> dict[str, str]:
    """Return templates by name for the setting ``chat_template``: a template, or a list of named ones.

    Raises:
        ValueError: the setting is neither.
    """
    if setting is None:
        return {}
    if isinstance(setting, str):
        return {"default": setting}
    entries = setting if isinstance(setting, list) else [None]
    templates = {
        entry["name"]: entry["template"]
        for entry in entries
        if isinstance(entry, dict) and all(isinstance(entry.get(key), str) for key in ("name", "template"))
    }
    if len(templates) < len(entries):
        raise ValueError("chat_template must be a text, or a list of objects with a name and a template")
    return templates


def choose_template(templates: Mapping[str, str], name: str | None, has_tools: bool) -> str:
    """Return the template to use.

    Args:
        templates: by name.
        name: of a template, or a template itself. Default: ``tool_use`` for tools if there is one, else
            ``default``.
        has_tools: whether tools are given.

    Raises:
        ValueError: there is no default template.
    """
    if name is None:
        name = "tool_use" if has_tools and "tool_use" in templates else "default"
        if name not in templates:
            names = f", only {', '.join(templates)}: give its name" if templates else ""
            raise ValueError(f"the tokenizer has no default chat_template{names}")
    return templates.get(name, name)


def render_template(template: str, variables: Mapping[str, Any]) -> str:
    """Render a template in a process of its own, which takes about a tenth of a second.

    Args:
        template: the source of the template.
        variables: JSON values by name.

    Raises:
        TypeError: a variable is not a JSON value.
        ValueError: the template is damaged, refuses the variables, or exceeds a limit.
    """
    task = {"template": template, "variables": variables}
    limits = {"seconds": MAX_SECONDS, "bytes": MAX_BYTES, "characters": MAX_CHARACTERS}
    try:
        result = subprocess.run(
            [sys.executable, "-P", str(_RENDERER)],
            input=json.dumps(task | limits).encode("ascii"),
            capture_output=True,
            timeout=MAX_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise ValueError(f"the chat template took more than {MAX_SECONDS:g} seconds") from None
    try:
        answer = json.loads(result.stdout)
    except ValueError:
        reason = result.stderr.decode("utf-8", "replace").strip().rpartition("\n")[2]
        raise ValueError(
            f"the chat template exceeded its time or memory, or could not be started: the process ended with "
            f"status {result.returncode} {reason}".rstrip()
        ) from None
    if "error" in answer:
        raise ValueError(f"the chat template cannot be applied: {answer['error']}")
    return str(answer["text"])
