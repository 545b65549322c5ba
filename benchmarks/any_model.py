"""Score text with a model of transformers: ours beside a naive strided loop and lm-eval's rolling log-likelihood.

A small Llama with random weights and the vocabulary of GPT-2 reads one text of the Python library in every program, and
all must give the same sum of NLL. Rounds take turns; the table shows the least processor time of each. `sw` is timed on
its first positions, because the naive loop over all of them would take minutes. lm-eval is optional: `pip install
--group bench`.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
# transformers looks for a package `kernels`, which must not be the script of that name in this folder
sys.path.remove(str(Path(__file__).resolve().parent))

import numpy as np
import torch
import transformers
from tokenizers import Tokenizer

from tttkit.data import open_split, prepare_dataset
from tttkit.evaluate import token_nll
from tttkit.models import load_scoring_model

NUM_TOKENS = int(sys.argv[1]) if len(sys.argv) > 1 else 384
WINDOW = 64
VOCAB_SIZE = 50_257
"""Rows of embedding and head, as of GPT-2; the tokenizer of the text has fewer."""
ROUNDS = 5
PART = 32
"""Positions beyond W at which `sw` is timed."""
BATCH = 16


def make_model(folder: Path) -> tuple[Path, str, np.ndarray]:
    """Write a model with its tokenizer; return its directory, a text, and its ids (1, T+1) after end-of-text."""
    source = str(Path(json.__file__).parent / "*.py")
    prepare_dataset([source], folder / "data", tokenizer="bpe:2048", validation_fraction=0.5)
    split = open_split(folder / "data", "train")
    tokenizer = Tokenizer.from_file(str(folder / "data" / "tokenizer.json"))
    text = tokenizer.decode(split.tokens(0, NUM_TOKENS).tolist(), skip_special_tokens=False)
    config = transformers.LlamaConfig(
        vocab_size=VOCAB_SIZE, hidden_size=256, intermediate_size=512, num_hidden_layers=4, num_attention_heads=4,
        max_position_embeddings=NUM_TOKENS, bos_token_id=None, eos_token_id=split.eos_id, pad_token_id=None,
    )  # fmt: skip
    torch.manual_seed(0)
    transformers.LlamaForCausalLM(config).save_pretrained(folder / "model")
    end = tokenizer.id_to_token(split.eos_id)
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=end)
    fast.save_pretrained(folder / "model")
    return folder / "model", text, np.array([[split.eos_id, *tokenizer.encode(text).ids]])


def naive_strided(model: Any, ids: torch.Tensor, length: int, stride: int, most: int | None = None) -> float:
    """Return the sum of NLL by the loop of the transformers documentation: one window after another, whole logits."""
    total, previous_end = 0.0, 0
    for begin in range(0, ids.shape[1] - 1, stride):
        end = min(begin + length, ids.shape[1] - 1)
        window, num_new = ids[:, begin : end + 1], end - previous_end
        with torch.no_grad():
            logits = model(window[:, :-1]).logits
        losses = torch.nn.functional.cross_entropy(logits[0, -num_new:].float(), window[0, -num_new:], reduction="sum")
        total, previous_end = total + float(losses), end
        if end == ids.shape[1] - 1 or (most is not None and end - length >= most):
            break
    return total


def lm_eval_rolling(directory: Path, text: str, max_length: int, batch_size: int) -> Callable[[], float] | None:
    """Return a function that sums NLL as lm-eval does; None if it is not installed."""
    try:
        from lm_eval.api.instance import Instance
        from lm_eval.models.huggingface import HFLM
    except ImportError:
        return None
    model = HFLM(pretrained=str(directory), device="cpu", dtype="float32", max_length=max_length, batch_size=batch_size)
    request = Instance(request_type="loglikelihood_rolling", doc={}, arguments=(text,), idx=0)
    return lambda: -model.loglikelihood_rolling([request], disable_tqdm=True)[0]


def fastest(programs: dict[str, Callable[[], float]]) -> dict[str, tuple[float, float]]:
    """Return (seconds of the processor, sum of NLL) of each program: the fastest of several rounds in turns."""
    sums = {name: program() for name, program in programs.items()}
    seconds = dict.fromkeys(programs, float("inf"))
    for _ in range(ROUNDS):
        for name, program in programs.items():
            started = time.process_time()
            program()
            seconds[name] = min(seconds[name], time.process_time() - started)
    return {name: (seconds[name], sums[name]) for name in programs}


def show(title: str, rows: dict[str, tuple[float, float]]) -> None:
    ours, total = rows["tttkit"]
    print(f"{title}, {torch.get_num_threads()} threads", flush=True)
    for name, (seconds, other) in rows.items():
        assert abs(other - total) < 1e-4 * total, f"{name} gives {other}, tttkit gives {total}"
        print(f"  {name:28} {seconds:8.3f} s  {seconds / ours:6.2f}x the time of tttkit")


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        directory, text, tokens = make_model(Path(name))
        ids = torch.from_numpy(tokens)
        num_positions = tokens.shape[1] - 1
        ours = load_scoring_model(directory)
        plain = transformers.AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32).eval()

        def summed(context: str, num_scored: int) -> Callable[[], float]:
            positions = np.arange(num_scored)
            return lambda: float(
                np.nansum(token_nll(ours, tokens, context, window=WINDOW, positions=positions), dtype=np.float64)
            )

        for context, length in {"full": num_positions, "reset": WINDOW}.items():
            programs = {
                "tttkit": summed(context, num_positions),
                "naive loop of transformers": lambda length=length: naive_strided(plain, ids, length, length),
            }
            rolling = lm_eval_rolling(directory, text, length, 1 if context == "full" else BATCH)
            if rolling is not None:
                programs["lm-eval rolling"] = rolling
            show(f"{context}, {num_positions} tokens", fastest(programs))
        programs = {
            "tttkit": summed("sw", WINDOW + PART),
            "naive loop of transformers": lambda: naive_strided(plain, ids, WINDOW, 1, PART),
        }
        show(f"sw, {WINDOW + PART} tokens, W = {WINDOW}", fastest(programs))


if __name__ == "__main__":
    main()
