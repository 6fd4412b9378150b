"""Rendering of a chat template in Jinja's sandbox: a script that ``chat_template`` runs in its own process.

It reads a JSON object from standard input and writes one to standard output. Its only import beyond the
standard library is Jinja, so that it starts quickly.
"""

from __future__ import annotations

import json
import sys
from datetime import datetime
from typing import Any

from jinja2 import TemplateError, nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment


class GenerationBlocks(Extension):
    """``{% generation %}...{% endgeneration %}``, which marks what the model wrote, and changes nothing."""

    tags = {"generation"}  # noqa: RUF012

    def parse(self, parser: Parser) -> list[nodes.Node]:
        """Return the content of the block."""
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def render(template: str, variables: dict[str, Any], max_characters: int) -> str:
    """Render a template with the settings, filters and functions that chat templates are written for.

    Raises:
        jinja2.TemplateError: the template is damaged, or refuses the variables.
        ValueError: the text is too long.
        Exception: any error of an expression in the template.
    """
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[GenerationBlocks, loopcontrols]
    )
    environment.filters["tojson"] = to_json
    environment.globals |= {"raise_exception": raise_exception, "strftime_now": strftime_now}
    parts, length = [], 0
    for part in environment.from_string(template).generate(variables):
        parts.append(part)
        length += len(part)
        if length > max_characters:
            raise ValueError(f"the text has more than {max_characters:,} characters")
    return "".join(parts)


def to_json(value: Any, ensure_ascii: bool = False, **options: Any) -> str:
    """JSON without the escapes for HTML of Jinja's own filter."""
    return json.dumps(value, ensure_ascii=ensure_ascii, **options)


def raise_exception(message: str) -> None:
    """Refuse the conversation."""
    raise TemplateError(message)


def strftime_now(form: str) -> str:
    """The date and time."""
    return datetime.now().strftime(form)


def limit_resources(seconds: float, size: int) -> None:
    """Limit the processor time and the memory of this process, if the operating system can."""
    try:
        import resource
    except ImportError:  # Windows
        return
    for kind, limit in ((resource.RLIMIT_AS, size), (resource.RLIMIT_CPU, int(seconds) + 1)):
        try:
            resource.setrlimit(kind, (limit, limit))
        except (ValueError, OSError):  # macOS refuses a limit of memory
            continue


def main() -> None:
    """Answer with the text, or with the reason that there is none."""
    task = json.load(sys.stdin)
    limit_resources(task["seconds"], task["bytes"])
    try:
        answer = {"text": render(task["template"], task["variables"], task["characters"])}
    except RecursionError:
        answer = {"error": "it is nested too deeply"}
    except MemoryError:
        answer = {"error": f"it needs more than {task['bytes']:,} bytes of memory"}
    except Exception as error:  # of a program that this library did not write
        answer = {"error": (str(error) or type(error).__name__)[:500]}
    json.dump(answer, sys.stdout)


if __name__ == "__main__":
    main()
