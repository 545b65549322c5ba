"""Train a small Llama or Mamba-2 with transformers' own Trainer on the windows that `tttkit train` reads.

    python benchmarks/transformers_training.py KIND DATA OUT [--steps 1000] [--seed 42] [--threads 2]

KIND is `llama` or `mamba2`. The models have about 1.4M parameters with a vocabulary of 4,096. The recipe is the one of
the quick preset with `train.batch_size=32`: the same windows in the same order, AdamW, warm-up, cosine. OUT becomes a
Hugging Face directory, which `tttkit eval checkpoint OUT --data DATA --window 64` measures.
docs/other-results.md shows the result.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import IterableDataset
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    Mamba2Config,
    Mamba2ForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Trainer,
    TrainingArguments,
)

from tttkit.data import WindowSampler, open_split

WINDOW, BATCH_SIZE = 64, 32


class Windows(IterableDataset[dict[str, Tensor]]):
    """The windows of a training run, one by one, in the order in which `tttkit train` reads them."""

    def __init__(self, sampler: WindowSampler) -> None:
        self._sampler = sampler

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        step = 0
        while True:
            for window in self._sampler.batch(step):
                yield {"input_ids": window, "labels": window}
            step += 1


def model_of(kind: str, vocab_size: int) -> PreTrainedModel:
    """Return an untrained model of about 1.4M parameters."""
    shared = {"vocab_size": vocab_size, "hidden_size": 128, "tie_word_embeddings": True, "use_cache": False}
    special = {"bos_token_id": None, "eos_token_id": None, "pad_token_id": None}
    if kind == "llama":
        sizes = {
            "intermediate_size": 384,
            "num_hidden_layers": 4,
            "num_attention_heads": 4,
            "max_position_embeddings": 64,
        }
        return LlamaForCausalLM(LlamaConfig(**shared, **special, **sizes))
    sizes = {"num_hidden_layers": 7, "num_heads": 8, "head_dim": 32, "state_size": 64, "n_groups": 1, "chunk_size": 32}
    return Mamba2ForCausalLM(Mamba2Config(**shared, **special, **sizes))


def main() -> None:
    """Train, and save the model with its tokenizer."""
    parser = argparse.ArgumentParser()
    parser.add_argument("kind", choices=["llama", "mamba2"])
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)

    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(options.data / "tokenizer.json"))
    model = model_of(options.kind, len(tokenizer))
    print(f"{options.kind}: {sum(parameter.numel() for parameter in model.parameters()):,} parameters", flush=True)
    sampler = WindowSampler(open_split(options.data, "train"), window=WINDOW, batch_size=BATCH_SIZE, seed=options.seed)
    arguments = TrainingArguments(
        output_dir=str(options.out), max_steps=options.steps, per_device_train_batch_size=BATCH_SIZE, seed=options.seed,
        learning_rate=3e-3, warmup_steps=options.steps // 20, lr_scheduler_type="cosine_with_min_lr",
        lr_scheduler_kwargs={"min_lr_rate": 0.1}, weight_decay=0.1, adam_beta1=0.9, adam_beta2=0.95, max_grad_norm=1.0,
        logging_steps=100, save_strategy="no", report_to=[], use_cpu=True, disable_tqdm=True,
    )  # fmt: skip
    Trainer(model, arguments, train_dataset=Windows(sampler)).train()
    model.save_pretrained(options.out)
    tokenizer.save_pretrained(options.out)


if __name__ == "__main__":
    main()
