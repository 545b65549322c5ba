"""Let one model continue held-out prompts, and measure what it writes. Blocks of prompts are kept, so it can go on.

The prompts of all lengths end at the same places, and the same places have the real text that follows. Every
continuation has the same number of tokens, because repetition grows with length: an end-of-text token does not end it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tttkit.errors import DataError, UsageError
from tttkit.evaluate.blocks import NllBlocks, evaluation_key
from tttkit.evaluate.bos import bos_in_front, longest_window
from tttkit.evaluate.request import EvaluationJob
from tttkit.evaluate.sequences import check_vocabulary
from tttkit.infer.decoder import Decoder
from tttkit.infer.sampling import Sampling
from tttkit.infer.text import TextTokenizer
from tttkit.quality import mauve
from tttkit.quality.differences import figure_of
from tttkit.quality.judge import features, judged_nll
from tttkit.quality.plan import estimate
from tttkit.quality.settings import Settings
from tttkit.quality.text_metrics import distinct_n, ends_in_loop, rep_n
from tttkit.results.quality import METHODS, TEXT, Quality

SCHEMA = 1
"""Increase it when equal weights, data and settings would give different files."""
TOP_P = 0.95
ROWS = 8
"""Prompts that are continued at once, one block."""
_NUM_SAMPLES = 20
_PROMPT_SHOWN = 64
_JUDGE_SHARE = 0.05
Ids = NDArray[np.int64]
Progress = Callable[[float], None]


class Writer:
    """The quality of one model: its prompts, what the measurement costs, and the measurement itself."""

    def __init__(self, job: EvaluationJob, settings: Settings, judge: EvaluationJob | None) -> None:
        """`judge` is the model that scores the continuations. Raises UsageError, DataError."""
        check_vocabulary(job.model, job.split)
        self.job, self.settings, self.judge = job, settings, judge
        self.left_out: dict[str, str] = {}
        longest = longest_window(job.model, bos_in_front(job.model, job.bos))
        for length in settings.lengths:
            # the last token that is drawn is not read
            if longest is not None and length + settings.max_tokens - 1 > longest:
                self.left_out[f"prompts of {length} tokens"] = f"the model has {longest} positions"
        self.lengths = [length for length in settings.lengths if f"prompts of {length} tokens" not in self.left_out]
        if not self.lengths:
            raise UsageError(
                f"the {job.model.name} model has {longest} positions, fewer than any prompt with its continuation",
                hint="name shorter prompts: --prompt-length L",
            )
        self.ends = self._choose()
        before = max(settings.lengths)
        self.texts = np.stack([job.split.tokens(end - before, end + settings.max_tokens) for end in self.ends]).astype(
            np.int64
        )
        if judge is None:
            self.left_out["ppl by judge"] = "no judge was named (--judge MODEL)"
        reason = mauve.obstacle(settings.num_prompts, has_judge=judge is not None)
        if reason is not None:
            self.left_out["MAUVE"] = reason
        self.key = evaluation_key(
            schema=SCHEMA, job=job.key, settings=dataclasses.asdict(settings),
            judge=None if judge is None else judge.facts["weights_sha256"], mauve="MAUVE" not in self.left_out,
        )  # fmt: skip

    def plan(self) -> tuple[float, int]:
        """Return the estimated seconds, and the bytes of the state of the texts that are continued at once."""
        rows = min(ROWS, self.settings.num_prompts)
        return estimate(
            self.job.model, self.texts[:rows], self.settings, self.lengths, self.job.window,
            num_blocks=len(METHODS) * -(-self.settings.num_prompts // ROWS),
        )  # fmt: skip

    def run(self, blocks: NllBlocks, progress: Progress | None = None) -> Quality:
        """Write and measure everything; `progress` gets the share done and may raise."""
        tell = progress or (lambda _: None)
        shares = [length + 8 * self.settings.max_tokens for length in self.lengths for _ in METHODS]
        done, total = 0.0, sum(shares) / (1 - _JUDGE_SHARE)
        written: dict[tuple[int, str], Ids] = {}
        for length in self.lengths:
            for method in METHODS:
                share = shares[len(written)]

                def step(part: float, done: float = done, share: float = share) -> None:
                    tell((done + part * share) / total)

                written[length, method] = self._continue(length, method, blocks, step)
                done += share
        real = self.texts[:, max(self.settings.lengths) :]
        cells = [self._cell(*cell, ids, real, blocks) for cell, ids in written.items()]
        cells.append(self._cell(max(self.settings.lengths), TEXT, real, real, blocks))
        tell(1.0)
        kept = ("model", "path", "split", "data_fingerprint", "weights_sha256", "dtype", "bos_id")
        judge = None if self.judge is None else {n: self.judge.facts[n] for n in ("path", "weights_sha256")}
        values = {
            **{name: self.job.facts.get(name) for name in kept}, "quality_key": self.key, "window": self.job.window,
            **dataclasses.asdict(self.settings), "lengths": list(self.settings.lengths), "top_p": TOP_P,
            "ends": list(self.ends), "judge": judge, "left_out": self.left_out, "cells": cells,
            "samples": self._samples(written, real),
        }  # fmt: skip
        return Quality(values)

    def _choose(self) -> list[int]:
        """Return the places where the prompts end, all different. Raises DataError for a short split."""
        before, after = max(self.settings.lengths), self.settings.max_tokens
        places = self.job.split.num_tokens - before - after + 1
        if places < self.settings.num_prompts:
            raise DataError(
                f"expected at least {before + after + self.settings.num_prompts - 1:,} tokens in the split, got "
                f"{self.job.split.num_tokens:,}",
                hint="use shorter --prompt-length, fewer --num-prompts or more text",
            )
        drawn = np.random.default_rng(self.settings.seed).choice(places, self.settings.num_prompts, replace=False)
        ends: list[int] = (np.sort(drawn) + before).tolist()
        return ends

    def _prompts(self, length: int) -> Ids:
        """Return the last `length` tokens (N, length) before the places."""
        before = max(self.settings.lengths)
        return self.texts[:, before - length : before]

    def _continue(self, length: int, method: str, blocks: NllBlocks, progress: Progress) -> Ids:
        """Return the continuations (N, M), block by block."""
        prompts, parts = self._prompts(length), []
        for first in range(0, len(prompts), ROWS):
            rows = prompts[first : first + ROWS]

            def step(part: float, first: int = first, rows: Ids = rows) -> None:
                progress((first + part * len(rows)) / len(prompts))

            def compute(first: int = first, rows: Ids = rows, step: Progress = step) -> dict[str, NDArray[Any]]:
                return {"ids": self._write(rows, self._sampling(method, first), step)}

            parts.append(blocks.arrays(f"{method}-{length}-{first:06d}", compute)["ids"])
            step(1.0)
        return np.concatenate(parts)

    def _sampling(self, method: str, first: int) -> Sampling:
        if method == "greedy":
            return Sampling(temperature=0)
        return Sampling(temperature=1.0, top_p=TOP_P, seed=self.settings.seed * 1_000_003 + first)

    def _write(self, prompts: Ids, sampling: Sampling, progress: Progress) -> Ids:
        model, bos_id = self.job.model, bos_in_front(self.job.model, self.job.bos)
        front = [] if bos_id is None else [bos_id]
        decoder = Decoder(
            model, [front + row.tolist() for row in prompts], sampling, max_tokens=self.settings.max_tokens
        )
        drawn = 0
        while decoder.next_tokens():
            drawn += 1
            progress(drawn / self.settings.max_tokens)
        return np.array([text[-self.settings.max_tokens :] for text in decoder.texts], dtype=np.int64)

    def _cell(self, length: int, method: str, ids: Ids, real: Ids, blocks: NllBlocks) -> dict[str, Any]:
        """Return the figures of continuations (N, M) with intervals, and the numbers of every prompt."""
        per_prompt = {f"rep_{n}": rep_n(ids, n) for n in (2, 3, 4)}
        per_prompt |= {f"distinct_{n}": distinct_n(ids, n) for n in (1, 2, 3)}
        per_prompt["loops"] = ends_in_loop(ids)
        score, judge = None, self.judge
        if judge is not None:
            texts = self._judged_texts(ids)
            judged = blocks.arrays(
                f"judge-{method}-{length}", lambda: {"nll": judged_nll(judge.model, texts, ids.shape[1], judge.bos)}
            )
            per_prompt["judge_nll"] = judged["nll"].astype(np.float64)
            if "MAUVE" not in self.left_out and method != TEXT:
                score = mauve.score(
                    features(judge.model, ids, ROWS), features(judge.model, real, ROWS), self.settings.seed
                )
        return {
            "length": length, "method": method,
            "figures": {name: _bounded(name, figure_of(values.tolist())) for name, values in per_prompt.items()},
            "mauve": score, "per_prompt": {name: values.tolist() for name, values in per_prompt.items()},
        }  # fmt: skip

    def _judged_texts(self, ids: Ids) -> Ids:
        """Return the last W tokens before the places with continuations (N, W + M): the same past for all lengths."""
        past = self._prompts(min(self.job.window, max(self.settings.lengths)))
        return np.concatenate([past, ids], axis=1)

    def _samples(self, written: dict[tuple[int, str], Ids], real: Ids) -> list[dict[str, Any]]:
        """Return the first prompts with the real text and every continuation, as text."""
        tokenizer = TextTokenizer(str(self.job.split.tokenizer_path), self.job.model.vocab_size)
        prompts = self._prompts(min(_PROMPT_SHOWN, max(self.settings.lengths)))

        def text_of(ids: Sequence[int] | Ids) -> str:
            return tokenizer.decode([int(each) for each in ids])

        return [
            {
                "prompt": text_of(prompts[row]), "text": text_of(real[row]),
                "continuations": [
                    {"length": length, "method": method, "text": text_of(ids[row])}
                    for (length, method), ids in written.items()
                ],
            }
            for row in range(min(_NUM_SAMPLES, len(real)))
        ]  # fmt: skip


def _bounded(name: str, figure: dict[str, float | None]) -> dict[str, float | None]:
    """Return a share with its interval inside 0 … 1, which Student's t does not know; NLL stays as it is."""
    if name == "judge_nll":
        return figure
    return {key: None if value is None else min(1.0, max(0.0, value)) for key, value in figure.items()}
