"""Run all checks and measurements that need a GPU, together or one by one; on a CPU, at tiny sizes, in seconds.

    python benchmarks/gpu.py [cuda|cpu] [parity|step|evaluation|resume]...

parity      compares the model on the device with float32 on the CPU, for each rounding of products
step        times the reference step of 2,048 tokens and its parts, and the Transformer; goal 60 steps/s on an H200
evaluation  times 64 sequences of 20 windows in exact sliding windows; goal 5 s on an H200
resume      compares the weights of two equal runs, and of a run that was killed and resumed, bit by bit

To test the kernels alone: `pytest tests/models/test_ttt_linear_op.py`; to compare with the official code:
`bench train --official`.
"""

from __future__ import annotations

import contextlib
import sys
import tempfile
import time
from pathlib import Path

import torch

from tttkit.config.run import build_config
from tttkit.data import prepare_dataset
from tttkit.device import find_device, prepare_cpu, prepare_device
from tttkit.evaluate import token_nll
from tttkit.models import LanguageModel, ModelConfig, build_model, compiled
from tttkit.train.benchmark import measure_training
from tttkit.train.events import Event, StepLogged
from tttkit.train.start import train

TINY = {
    "vocab_size": 512, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2
}  # fmt: skip
ROUNDINGS = (("float32", "highest", False), ("tf32", "high", False), ("bf16", "high", True))
NUM_STEPS, SAVED_AT, DIED_AT = 30, 10, 17


class Device:
    """The device and the sizes to measure: the reference sizes on a GPU, tiny sizes on a CPU."""

    def __init__(self, name: str) -> None:
        prepare_cpu()
        self.name = find_device(name)
        prepare_device(self.name)
        self.is_gpu = self.name.startswith("cuda")
        self.windows = 32 if self.is_gpu else 2
        self.sequences = 64 if self.is_gpu else 2
        self.multiple = 20 if self.is_gpu else 3
        self.rounds = 20 if self.is_gpu else 1
        self.sizes = {} if self.is_gpu else TINY

    def config(self, kind: str = "linear") -> ModelConfig:
        return ModelConfig.preset("ttt-125m", ttt_layer_type=kind, **self.sizes)


def random_ids(config: ModelConfig, rows: int, length: int) -> torch.Tensor:
    return torch.randint(0, config.vocab_size, (rows, length), generator=torch.Generator().manual_seed(0))


def relative(actual: list[torch.Tensor], expected: list[torch.Tensor]) -> float:
    """Return the norm of the difference of two lists of tensors divided by the norm of the second."""
    pairs = zip(actual, expected, strict=True)
    squares = sum(float((a.detach().cpu() - b.detach().cpu()).square().sum()) for a, b in pairs)
    return (squares / sum(float(b.detach().square().sum()) for b in expected)) ** 0.5


def outputs(model: LanguageModel, ids: torch.Tensor, *, bf16: bool) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Return logits and the gradients of the loss of windows of odd length, computed as in training."""
    run = compiled(model)
    inputs, targets = ids[:, :-1].to(model.device), ids[:, 1:].to(model.device)
    with torch.autocast(model.device.type, dtype=torch.bfloat16, enabled=bf16):
        loss = run(inputs, targets=targets)
        logits = run(inputs).detach().float()
    gradients = torch.autograd.grad(loss, list(model.parameters()))
    return logits, list(gradients)


def parity(device: Device) -> None:
    for kind in ("linear", "mlp"):
        model = build_model(device.config(kind), seed=0)
        ids = random_ids(model.config, 2, 55)
        logits, gradients = outputs(model, ids, bf16=False)
        model.to(device.name)
        before = torch.get_float32_matmul_precision()
        for name, products, bf16 in ROUNDINGS if device.is_gpu else ROUNDINGS[::2]:
            if device.is_gpu:
                torch.set_float32_matmul_precision(products)
            actual_logits, actual_gradients = outputs(model, ids, bf16=bf16)
            print(
                f"parity ttt-{kind} {name:8} logits {float((actual_logits.cpu() - logits).abs().max()):.1e} at most, "
                f"gradients {relative(actual_gradients, gradients):.1e}",
                flush=True,
            )
        torch.set_float32_matmul_precision(before)


def step(device: Device) -> None:
    for kind in ("linear", "mlp"):
        speed = measure_training(
            device.config(kind), window=64, batch_size=device.windows, rounds=device.rounds,
            device=torch.device(device.name), precision="bf16", compile_blocks=device.is_gpu,
        )  # fmt: skip
        shares = ", ".join(f"{name} {1000 * seconds:.2f}" for name, seconds in speed.parts.items())
        print(
            f"step ttt-{kind} of {speed.tokens_per_step} tokens on {speed.device}: "
            f"{1 / speed.step_seconds:.1f} steps/s, MFU {speed.mfu:.1%} "
            f"of {speed.peak_flop_per_second / 1e12:.3g} TFLOP/s, "
            f"{speed.peak_memory_bytes / 1e9:.1f} GB; ms one by one: {shares}"
        )
        for row in speed.contestants:
            print(
                f"  {row.name}: {1000 * row.seconds:.2f} ms forward and backward, {row.ratio:.3f} ({row.how})",
                flush=True,
            )


def evaluation(device: Device) -> None:
    model = build_model(device.config(), seed=0).to(device.name)
    tokens = random_ids(model.config, device.sequences, 64 * device.multiple + 1)
    # compiles the kernels
    token_nll(model, tokens[:1], "sw")
    for context in ("sw", "sw_aligned", "reset", "full"):
        started = time.perf_counter()
        token_nll(model, tokens, context)
        seconds = time.perf_counter() - started
        print(f"evaluation of {len(tokens)} sequences of {device.multiple} x W, {context}: {seconds:.2f} s", flush=True)


def resume(device: Device) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        text = "\n".join(str(number * number) for number in range(60_000))
        (root / "text.txt").write_text(text)
        prepare_dataset([str(root / "text.txt")], root / "data", tokenizer="bpe:300", documents="line")
        model = {key: value for key, value in device.config().to_dict().items() if key != "vocab_size"}
        values = {
            "model": model,
            "data": {"path": str(root / "data")},
            "train": {
                "max_steps": NUM_STEPS, "save_every": SAVED_AT, "batch_size": device.windows, "device": device.name,
                "log_every": 1,
            },
            "evaluation": {"num_checkpoints": 0},
        }  # fmt: skip
        for name in ("first", "second"):
            train(build_config(values), root / name, report=_ignore)
        with contextlib.suppress(_DeathError):
            train(build_config(values), root / "died", report=_die)
        train(build_config(values), root / "died", report=_ignore)
        weights = {
            name: (root / name / "final_model/model.safetensors").read_bytes() for name in ("first", "second", "died")
        }
    for name, what in (("second", "an equal run"), ("died", f"killed at {DIED_AT}, resumed from {SAVED_AT}")):
        same = weights[name] == weights["first"]
        print(f"resume: {what}: {'the same bits' if same else 'DIFFERENT BITS'} after {NUM_STEPS} steps", flush=True)


class _DeathError(Exception):
    """Ends a run as a kill does, except that the process survives."""


def _ignore(_: object) -> None:
    """Ignore all reports."""


def _die(event: Event) -> None:
    if isinstance(event, StepLogged) and event.step == DIED_AT:
        raise _DeathError


PARTS = {"parity": parity, "step": step, "evaluation": evaluation, "resume": resume}

arguments = sys.argv[1:]
where = Device(arguments.pop(0) if arguments and arguments[0] not in PARTS else "cuda")
for part in arguments or PARTS:
    PARTS[part](where)
