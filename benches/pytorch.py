#!/usr/bin/env python3
"""Training and inference of vision transformers in PyTorch, and the same by `potstill bench`, in one call.

    benches/pytorch.py gpu --potstill target/release/potstill      a CUDA GPU; a few minutes
    benches/pytorch.py cpu --potstill target/release/potstill      the three CPU steps; as many threads on both sides

Needs PyTorch alone. First the two sides are shown to compute the same: the losses of PyTorch's composed formulas are held
against the published golden numbers that Potstill's tests use, and `potstill selftest` holds its kernels on the device
against their definitions. Then every case runs in each mode of PyTorch, and in the command. Times are medians of repeats that
end in a wait for the device. The last thing printed is one table in Markdown; a row's share is that of the floating-point
operations that a large matrix product reaches there in the same mode.

Compiling takes PyTorch longer than all the rest: --modes and --cases choose.
"""

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import time

import torch
import torch.nn.functional as F
from torch import nn


class Block(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.fc1 = nn.Linear(width, 4 * width)
        self.fc2 = nn.Linear(4 * width, width)

    def forward(self, x, tap=None):
        b, n, d = x.shape
        # [3, B, H, N, D]
        qkv = self.qkv(self.norm1(x)).reshape(b, n, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4)
        if tap is not None:
            tap.append(qkv)
        mixed = F.scaled_dot_product_attention(qkv[0], qkv[1], qkv[2])
        x = x + self.proj(mixed.transpose(1, 2).reshape(b, n, d))
        return x + self.fc2(F.gelu(self.fc1(self.norm2(x))))


class Vit(nn.Module):
    """The network of `potstill bench step`: pre-norm, exact GELU, class token or mean of the patches."""

    def __init__(self, image, patch, channels, width, depth, heads, classes, mean_pool):
        super().__init__()
        patches = (image // patch) ** 2
        self.patch = nn.Conv2d(channels, width, patch, patch)
        self.token = None if mean_pool else nn.Parameter(torch.zeros(1, 1, width))
        self.position = nn.Parameter(torch.randn(1, patches + (not mean_pool), width) * 0.02)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.head = nn.Linear(width, classes)

    def forward(self, images, taps=None):
        x = self.patch(images).flatten(2).transpose(1, 2)
        if self.token is not None:
            x = torch.cat([self.token.expand(len(x), -1, -1), x], 1)
        x = x + self.position
        for block in self.blocks:
            x = block(x, taps)
        return self.head(self.norm(x.mean(1) if self.token is None else x[:, 0]))


def entropy(logits, targets, smoothing=0.0):
    targets = targets * (1 - smoothing) + smoothing / logits.shape[1]
    return -(targets * F.log_softmax(logits, 1)).sum(1).mean()


def divergence(student, teacher, temperature):
    """The mean over rows of KL(softmax(teacher / T) || softmax(student / T)), times T squared."""
    log_p = F.log_softmax(teacher / temperature, 1)
    rows = (log_p.exp() * (log_p - F.log_softmax(student / temperature, 1))).sum(1)
    return rows.mean() * temperature**2


def head_mean(qkv):
    scores = qkv[0] @ qkv[1].transpose(-1, -2) / math.sqrt(qkv.shape[-1])
    return scores.float().softmax(-1).mean(1)


def map_loss(student, teacher):
    return F.mse_loss(head_mean(student), head_mean(teacher))


def check_losses():
    """The golden numbers of core/tests/kernels/losses.rs."""

    def wave(a, b, amplitude):
        values = [amplitude * math.sin(a * i + b) for i in range(20)]
        return torch.tensor(values, dtype=torch.float64).reshape(4, 5)

    student, teacher = wave(0.7, 0.3, 2.0), wave(1.1, -0.4, 3.0)
    targets = F.one_hot(torch.tensor([0, 2, 1, 4]), 5).double()
    for found, expected in [
        (entropy(student, targets), 1.6302105652),
        (entropy(student, targets, 0.1), 1.6813897527),
        (divergence(student, teacher, 2.0), 1.6223015780),
        (divergence(student, teacher, 3.0), 1.9186163186),
    ]:
        if abs(found.item() - expected) > 1e-8:
            sys.exit(f"error: a loss is {found.item()} here and {expected} by the golden numbers")
    # Attention by the fused operation, against the formula.
    qkv = torch.randn(3, 2, 3, 17, 16, dtype=torch.float64)
    formula = (qkv[0] @ qkv[1].transpose(-1, -2) / 4).softmax(-1) @ qkv[2]
    if not torch.allclose(F.scaled_dot_product_attention(*qkv), formula):
        sys.exit("error: PyTorch's fused attention differs from its formula")


def measure(work, device, warmup, repeats):
    def wait():
        if device.type == "cuda":
            torch.cuda.synchronize()

    for _ in range(warmup):
        work()
    wait()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        wait()
        times.append(1e3 * (time.perf_counter() - start))
    peak = torch.cuda.max_memory_allocated() if device.type == "cuda" else None
    return statistics.median(times), peak


MODES = {
    "float32": {"tf32": False, "bf16": False, "compiled": False},
    "tf32": {"tf32": True, "bf16": False, "compiled": False},
    "bf16": {"tf32": True, "bf16": True, "compiled": False},
    "compile": {"tf32": False, "bf16": False, "compiled": True},
    "compile bf16": {"tf32": True, "bf16": True, "compiled": True},
}

TINY = {"image": 224, "patch": 16, "channels": 3, "width": 192, "depth": 12, "heads": 3, "classes": 1000, "mean_pool": False}
BASE = {**TINY, "width": 768, "heads": 12}


def step(device, mode, sizes, batch, objective):
    student = Vit(**sizes).to(device)
    teacher = None
    if objective != "none":
        teacher = Vit(**BASE).to(device).eval().requires_grad_(False)
    optimiser = torch.optim.AdamW(student.parameters(), lr=1e-3, weight_decay=0.05, fused=device.type == "cuda")
    images = torch.randn(batch, sizes["channels"], sizes["image"], sizes["image"], device=device)
    targets = torch.full((batch, sizes["classes"]), 1 / sizes["classes"], device=device)
    stride = 1

    def loss():
        with torch.autocast(device.type, torch.bfloat16, enabled=mode["bf16"]):
            own, others = [], []
            logits = student(images, own if "SAF" in objective else None)
            total = entropy(logits.float(), targets, 0.1 if teacher is None else 0.0)
            if teacher is not None:
                with torch.no_grad():
                    taught = teacher(images, others if "SAF" in objective else None)
                if "KD" in objective:
                    total = 0.5 * total + 0.5 * divergence(logits.float(), taught.float(), 2.0)
                for index, qkv in enumerate(own):
                    total = total + 0.5 * map_loss(qkv, others[stride * (index + 1) - 1])
            return total

    forward = torch.compile(loss) if mode["compiled"] else loss

    def work():
        optimiser.zero_grad(set_to_none=True)
        forward().backward()
        optimiser.step()

    return work


def inference(device, mode, sizes, batch):
    network = Vit(**sizes).to(device).eval()
    images = torch.randn(batch, sizes["channels"], sizes["image"], sizes["image"], device=device)
    network = torch.compile(network) if mode["compiled"] else network

    def work():
        with torch.no_grad(), torch.autocast(device.type, torch.bfloat16, enabled=mode["bf16"]):
            network(images)

    return work


def attention(device, mode, batch, heads, tokens, size):
    dtype = torch.bfloat16 if mode["bf16"] else torch.float32
    qkv = torch.randn(3, batch, heads, tokens, size, device=device, dtype=dtype, requires_grad=True)
    run = torch.compile(F.scaled_dot_product_attention) if mode["compiled"] else F.scaled_dot_product_attention

    def work():
        qkv.grad = None
        out = run(qkv[0], qkv[1], qkv[2])
        out.backward(torch.ones_like(out))

    return work


def saf(device, mode, batch, tokens, heads, size, teacher_heads, teacher_size):
    student = torch.randn(3, batch, heads, tokens, size, device=device, requires_grad=True)
    teacher = torch.randn(3, batch, teacher_heads, tokens, teacher_size, device=device)
    run = torch.compile(map_loss) if mode["compiled"] else map_loss

    def work():
        student.grad = None
        with torch.autocast(device.type, torch.bfloat16, enabled=mode["bf16"]):
            run(student, teacher).backward()

    return work


def ceiling(device, mode):
    """What a large matrix product reaches in a mode, in 10^9 floating-point operations a second."""
    side = 4096 if device.type == "cuda" else 1024
    dtype = torch.bfloat16 if mode["bf16"] else torch.float32
    a, b = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    milliseconds, _ = measure(lambda: a @ b, device, 3, 10)
    return 2 * side**3 / milliseconds / 1e6


def use_tf32(on):
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = on


def selftest(binary, device):
    """Ends the script if Potstill's kernels do not compute what they should on this device."""
    command = [binary, "--device", device, "selftest"]
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode != 0:
        sys.exit(f"error: {' '.join(command)}: {result.stdout}{result.stderr}")


def potstill(binary, device, arguments, environment=None):
    """The rows that `potstill bench` prints."""
    command = [binary, "--device", device, "bench", *arguments, "--json"]
    result = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **(environment or {})})
    if result.returncode != 0:
        print(f"skipped: {' '.join(command)}: {result.stderr.strip()}", file=sys.stderr)
        return []
    return [json.loads(line) for line in result.stdout.splitlines()]


def network_arguments(sizes):
    names = ["image", "patch", "channels", "width", "depth", "heads", "classes"]
    arguments = [text for name in names for text in (f"--{name}", str(sizes[name]))]
    return arguments + (["--mean-pool"] if sizes["mean_pool"] else [])


def table(rows):
    """Rows of dictionaries: case, samples, who, ms, peak (bytes or None), share (of the ceiling, or None)."""
    reference = {row["case"]: row["ms"] for row in rows if row["who"] == "PyTorch float32"}
    print("\n| case | path | ms | samples/s | peak MiB | share of a matrix product | times PyTorch float32 |")
    print("|---|---|--:|--:|--:|--:|--:|")
    for row in rows:
        ms = row["ms"]
        ratio = f"{reference[row['case']] / ms:.2f}" if row["case"] in reference else "-"
        memory = "-" if row["peak"] is None else f"{row['peak'] / 2**20:.0f}"
        share = "-" if row["share"] is None else f"{100 * row['share']:.1f} %"
        rate = f"{row['samples'] / ms * 1e3:.1f}"
        print(f"| {row['case']} | {row['who']} | {ms:.2f} | {rate} | {memory} | {share} | {ratio} |")


def names(row):
    return "Potstill" if row["path"] == "potstill" else "Burn alone"


def gpu(options):
    if not torch.cuda.is_available():
        sys.exit("error: PyTorch finds no GPU here")
    device = torch.device("cuda")
    cases = []
    for batch in (64, 256):
        for objective in ("none", "KD", "SAF+KD"):
            name = f"DeiT-Ti step, batch {batch}, {objective}"
            make = lambda mode, b=batch, o=objective: step(device, mode, TINY, b, o)
            cases.append((name, batch, make, ["step", "--batch", str(batch), "--distillation", objective]))
    for batch in (1, 256):
        make = lambda mode, b=batch: inference(device, mode, TINY, b)
        cases.append((f"DeiT-Ti inference, batch {batch}", batch, make, ["inference", "--batch", str(batch)]))
    for shape in ((64, 3, 197, 64), (256, 3, 65, 64), (256, 4, 17, 16), (32, 12, 197, 64)):
        make = lambda mode, s=shape: attention(device, mode, *s)
        cases.append((f"attention {shape}", shape[0], make, ["attention", "--case", ",".join(map(str, shape))]))
    shape = (64, 197, 3, 64, 12, 64)
    make = lambda mode: saf(device, mode, *shape)
    cases.append((f"SAF {shape}", shape[0], make, ["saf", "--case", ",".join(map(str, shape))]))

    modes = {name: MODES[name] for name in options.modes.split(",")}
    cases = [case for case in cases if options.cases in case[0]]
    print(f"PyTorch {torch.__version__} on {torch.cuda.get_device_name()}", file=sys.stderr)
    selftest(options.potstill, "gpu")
    ceilings = {}
    for label, mode in modes.items():
        use_tf32(mode["tf32"])
        ceilings[label] = ceiling(device, mode)
        print(f"ceiling of PyTorch {label}: {ceilings[label]:.0f} GFLOP/s", file=sys.stderr)
    rows = []
    for name, samples, make, arguments in cases:
        repeats = ["--repeats", str(options.repeats), "--warmup", str(options.warmup)]
        found = potstill(options.potstill, "gpu", arguments + repeats)
        # What the definition computes, from the rate that Potstill reports of it.
        flops = [row["gflop_per_s"] * row["median_ms"] * 1e6 for row in found if "gflop_per_s" in row]
        for label, mode in modes.items():
            use_tf32(mode["tf32"])
            torch.compiler.reset()
            try:
                ms, peak = measure(make(mode), device, options.warmup, options.repeats)
            except RuntimeError as error:
                print(f"skipped: {name}, {label}: {str(error).splitlines()[0]}", file=sys.stderr)
                continue
            share = flops[0] / ms / 1e6 / ceilings[label] if flops else None
            row = {"case": name, "samples": samples, "who": f"PyTorch {label}", "ms": ms, "peak": peak, "share": share}
            rows.append(row)
        torch.cuda.empty_cache()
        top = next((row["ceiling"]["gflop_per_s"] for row in found if row["bench"] == "ceiling"), None)
        for row in found:
            if row["bench"] != "ceiling":
                share = row["gflop_per_s"] / top if "gflop_per_s" in row else None
                ms, peak = row["median_ms"], row["peak_bytes"]
                rows.append(
                    {"case": name, "samples": samples, "who": names(row), "ms": ms, "peak": peak, "share": share}
                )
        print(f"done: {name}; ceiling of Burn: {top} GFLOP/s", file=sys.stderr)
    table(rows)


def cpu(options):
    device = torch.device("cpu")
    threads = options.threads
    torch.set_num_threads(threads)
    small = {"image": 28, "patch": 7, "channels": 1, "classes": 10, "depth": 6, "mean_pool": True}
    cases = [
        (128, {**small, "width": 64, "heads": 4}),
        (64, {**small, "width": 192, "heads": 3}),
        (8, TINY),
    ]
    print(f"PyTorch {torch.__version__}, {threads} threads, load {os.getloadavg()}", file=sys.stderr)
    rows = []
    for batch, sizes in cases:
        tokens = (sizes["image"] // sizes["patch"]) ** 2 + (not sizes["mean_pool"])
        name = f"step ({batch}, {tokens}, {sizes['width']}, {sizes['depth']})"
        work = step(device, MODES["float32"], sizes, batch, "none")
        # In turns: whoever else uses the machine slows both down.
        best = {}
        for _ in range(options.rounds):
            ms, _ = measure(work, device, options.warmup, options.repeats)
            best.setdefault("PyTorch float32", []).append(ms)
            arguments = ["step", "--batch", str(batch), *network_arguments(sizes)]
            arguments += ["--repeats", str(options.repeats), "--warmup", str(options.warmup)]
            for row in potstill(options.potstill, "cpu", arguments, {"RAYON_NUM_THREADS": str(threads)}):
                if row["bench"] != "ceiling":
                    best.setdefault(names(row), []).append(row["median_ms"])
        for who, times in best.items():
            rows.append({"case": name, "samples": batch, "who": who, "ms": min(times), "peak": None, "share": None})
        print(f"done: {name}, load {os.getloadavg()}", file=sys.stderr)
    table(rows)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("where", choices=["gpu", "cpu"])
    parser.add_argument("--potstill", default="target/release/potstill", help="the release binary")
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--warmup", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=3, help="of the CPU steps; the least median counts")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--modes", default=",".join(MODES), help="of PyTorch on a GPU, with commas between")
    parser.add_argument("--cases", default="", help="only those with this in their name, on a GPU")
    options = parser.parse_args()
    if unknown := set(options.modes.split(",")) - set(MODES):
        parser.error(f"--modes {','.join(sorted(unknown))}: the modes are {', '.join(MODES)}")
    torch.manual_seed(0)
    check_losses()
    {"gpu": gpu, "cpu": cpu}[options.where](options)


if __name__ == "__main__":
    main()
