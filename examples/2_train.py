"""Train a small GPT on a text, and generate from it."""

from pathlib import Path

from glassformer import GPTModel
from glassformer.training import DataConfig, ModelConfig, OptimizerConfig, TrainingConfig, train

text = "\n\n".join(f"{n} plus {m} is {n + m}." for n in range(40) for m in range(40))
Path("sums.txt").write_text(text)

config = TrainingConfig(
    run_folder="run",
    steps=400,
    batch_size=16,
    data=DataConfig(source="sums.txt", tokenizer="character", seq_len=32, folder="tokens"),
    model=ModelConfig(preset="gpt-nano", positions="rotary"),
    optimizer=OptimizerConfig(learning_rate=5e-3),
)
result = train(config)
print(f"{result.step} updates")

# The run folder holds the config, the metrics and the checkpoints.
checkpoint = max(Path("run/checkpoints").glob("step-*"))
model = GPTModel.from_pretrained(checkpoint)
tokenizer = model.tokenizer
assert tokenizer is not None
prompt = tokenizer.encode("7 plus 5 is")
print(tokenizer.decode(model.generate(prompt, max_new_tokens=12, temperature=0)))
