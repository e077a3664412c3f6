#!/usr/bin/env python3
"""The network of the browser benchmark, as ONNX and as safetensors: timm's ViT-Ti with random weights.

    benches/browser/export.py FOLDER      needs torch, timm, onnx, onnxscript

Trained weights would take as long: no operation here depends on values.
"""

import pathlib
import sys

import timm
import torch
from safetensors.torch import save_file

NAME = "vit_tiny_patch16_224"

if len(sys.argv) != 2:
    sys.exit(__doc__)
folder = pathlib.Path(sys.argv[1])
folder.mkdir(parents=True, exist_ok=True)
torch.manual_seed(0)
model = timm.create_model(NAME).eval()
with torch.no_grad():
    # timm draws weights so small that a fresh network says nearly the same of every picture.
    for parameter in model.parameters():
        if parameter.ndim > 1:
            parameter.mul_(2)
picture = torch.randn(1, 3, 224, 224)
torch.onnx.export(
    model, (picture,), folder / f"{NAME}.onnx", input_names=["picture"], output_names=["logits"], external_data=False
)
save_file(model.state_dict(), folder / f"{NAME}.safetensors")
print(f"{sum(p.numel() for p in model.parameters()):,} parameters in {folder}")
