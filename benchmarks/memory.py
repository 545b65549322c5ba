"""Compare peak memory by length with the Transformer at 152.6M parameters: full-context evaluation and decoding.

    python benchmarks/memory.py

Each figure comes from a process of its own. The memory before the work, model included, is subtracted.
"""

from __future__ import annotations

import resource
import subprocess
import sys

LENGTHS = (640, 1280, 2560, 5120)
CONTEXTS = (640, 2560)
NUM_DECODED = 32


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(name: str, work: str, length: int) -> float:
    """Return the MB that reading `length` tokens, or decoding after them, needs in addition to the model."""
    import torch

    from tttkit.evaluate import token_nll
    from tttkit.infer.decoder import Decoder
    from tttkit.infer.sampling import Sampling
    from tttkit.models import ModelConfig, build_model

    torch.set_num_threads(2)
    model = build_model(ModelConfig.preset(name), seed=0).eval()
    ids = torch.randint(0, model.config.vocab_size, (1, length + 1), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        # allocates what the first use of a model needs
        model(ids[:, :1])
    before = peak_mb()
    if work == "evaluation":
        token_nll(model, ids.numpy(), "full", window=64)
    else:
        decoder = Decoder(model, [ids[0, :length].tolist()], Sampling(seed=0), max_tokens=NUM_DECODED)
        while decoder.next_tokens():
            pass
    return peak_mb() - before


if len(sys.argv) > 1:
    print(measure(sys.argv[1], sys.argv[2], int(sys.argv[3])))
else:
    print(f"{'work':12} {'tokens':>7} {'ttt-125m MB':>12} {'transformer MB':>15}")
    for work, lengths in (("evaluation", LENGTHS), ("decoding", CONTEXTS)):
        for length in lengths:
            row = [
                float(subprocess.check_output([sys.executable, __file__, name, work, str(length)], text=True))
                for name in ("ttt-125m", "transformer-125m")
            ]
            print(f"{work:12} {length:7} {row[0]:12.0f} {row[1]:15.0f}", flush=True)
