"""Questions about a text (passkey, ruler): the NLL of the right answers, and the share found by greedy decoding.

Every prompt is read once. From there the right answer is read token by token for its NLL, and the model continues
greedily. A right answer is found if it stands as a whole word in the continuation. Haystacks and questions are the same
for all lengths and depths, and the unit of all intervals is the example.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tttkit.analyze.intervals import bootstrap
from tttkit.data.text_tasks.examples import TextExamples, check_answers, make_text_examples, shortest_length
from tttkit.data.text_tasks.questions import PASSKEY, TASK_PARTS
from tttkit.errors import NumericalError, UsageError
from tttkit.evaluate.blocks import Arrays, NllBlocks, share_of
from tttkit.evaluate.bos import bos_in_front, longest_window
from tttkit.evaluate.request import EvaluationJob
from tttkit.evaluate.sequences import check_vocabulary
from tttkit.infer.decoder import SEGMENT_TOKENS
from tttkit.infer.text import TextTokenizer
from tttkit.models.scoring import LoadedModel
from tttkit.recall.fitting import too_short
from tttkit.recall.second_copy import sample
from tttkit.results.recall import FoundRow, Recall

DEPTHS = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Shares of the text that stand before the pass key."""
PASSKEY_MULTIPLES = (1, 2, 5, 10, 20, 50, 100)
RULER_MULTIPLES = (1, 2, 5, 10, 20)
"""The usual lengths of an example, as multiples of the window W."""
_MORE_TOKENS = 8
"""Tokens of the continuation beyond those of the longest answer."""
_ROWS = 8
"""Examples that are read at once, one block."""
Floats = NDArray[np.float64]
Progress = Callable[[float], None]


class Setting(NamedTuple):
    """Examples of one kind of question, length and depth."""

    part: str
    length: int
    depth: float | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class QuestionTask:
    """A task about texts as it is measured."""

    name: str
    lengths: Sequence[int]
    num_examples: int = 64
    seed: int = 0

    def shortest(self, tokenizer: TextTokenizer) -> dict[str, int]:
        """Return by kind of question the fewest tokens of an example that has room for it."""
        return {
            part: shortest_length(part, self.num_examples, self.seed, tokenizer.encode_all)
            for part in TASK_PARTS[self.name]
        }

    def settings(self, shortest: Mapping[str, int]) -> list[Setting]:
        """Return all settings that have room for their questions, in order. Raises UsageError if none has."""
        depths = DEPTHS if self.name == PASSKEY else (None,)
        settings = [
            Setting(part, length, depth)
            for part, least in shortest.items()
            for length in sorted(set(self.lengths))
            if length >= least
            for depth in depths
        ]
        if not settings:
            raise UsageError(
                f"{self.name} needs examples of at least {min(shortest.values())} tokens, got {max(self.lengths)}",
                hint="name a longer --length",
            )
        return settings


class Asker:
    """A text task on one model: its examples, and the measurement."""

    def __init__(self, job: EvaluationJob, task: QuestionTask) -> None:
        """Raises UsageError, DataError for what does not fit together."""
        check_vocabulary(job.model, job.split)
        longest = longest_window(job.model, bos_in_front(job.model, job.bos))
        if longest is not None and max(task.lengths) + _MORE_TOKENS > longest:
            raise UsageError(
                f"the longest example has {max(task.lengths):,} tokens and {_MORE_TOKENS} more that are drawn, but "
                f"{job.model.name} reads at most {longest:,}",
                hint="name shorter examples: --length N",
            )
        self._job, self._task = job, task
        self._tokenizer = TextTokenizer(str(job.split.tokenizer_path), job.model.vocab_size)
        shortest = task.shortest(self._tokenizer)
        self.settings = task.settings(shortest)
        self._left_out = too_short(shortest, task.lengths)
        self._haystacks, _ = sample(job.split, max(task.lengths), task.num_examples, task.seed)
        first = self._examples(self.settings[0])
        check_answers(first, self._tokenizer.decode)

    def run(self, blocks: NllBlocks | None = None, progress: Progress | None = None) -> Recall:
        """Measure what `blocks` does not hold yet; `progress` gets the share done and may raise."""
        total, done = sum(setting.length for setting in self.settings), 0
        columns: list[tuple[Floats, Floats]] = []
        for setting in self.settings:
            tick = share_of(progress, done / total, setting.length / total)
            columns.append(self._column(setting, blocks, tick))
            done += setting.length
        nll, found = (np.stack(scores, axis=1) for scores in zip(*columns, strict=True))
        rows = [_row(*each) for each in zip(self.settings, nll.T, found.T, strict=True)]
        kept = ("model", "path", "split", "data_fingerprint", "weights_sha256", "dtype", "bos_id")
        facts = {
            "task": self._task.name, **{name: self._job.facts.get(name) for name in kept},
            "window": self._job.window, "longest": max(self._task.lengths), "num_examples": self._task.num_examples,
            "seed": self._task.seed, "left_out": self._left_out,
        }  # fmt: skip
        return Recall.of(facts, rows, nlls=nll.tolist(), found=found.tolist())

    def _examples(self, setting: Setting) -> TextExamples:
        return make_text_examples(
            setting.part, self._haystacks, setting.length, self._task.seed, self._tokenizer.encode_all, setting.depth
        )

    def _column(self, setting: Setting, blocks: NllBlocks | None, tick: Progress) -> tuple[Floats, Floats]:
        """Return NLL and share found of all examples of a setting, (N,) each, block by block."""
        examples = self._examples(setting)
        count, parts = len(examples.answers), []
        name = f"{setting.part}-{setting.length}-{setting.depth}"
        for first in range(0, count, _ROWS):
            rows = slice(first, first + _ROWS)

            def compute(rows: slice = rows) -> Arrays:
                return self._ask(examples, rows)

            parts.append(compute() if blocks is None else blocks.arrays(f"{name}-{first:06d}", compute))
            tick(min(1.0, (first + _ROWS) / count))
        nll, found = (np.concatenate([part[key] for part in parts]) for key in ("nll", "found"))
        return nll, found

    def _ask(self, examples: TextExamples, rows: slice) -> Arrays:
        answers, references = examples.answers[rows], examples.references[rows]
        prompts = torch.from_numpy(examples.prompts[rows])
        bos_id = bos_in_front(self._job.model, self._job.bos)
        if bos_id is not None:
            prompts = torch.nn.functional.pad(prompts, (1, 0), value=bos_id)
        nll, continued = ask(self._job.model, prompts, answers)
        texts = [self._tokenizer.decode(ids) for ids in continued]
        counts = np.array([len(each) for each in references], dtype=np.float64)
        found = [share_found(*each) for each in zip(texts, references, strict=True)]
        return {"nll": nll / counts, "found": np.array(found)}


@torch.inference_mode()
def ask(model: LoadedModel, prompts: Tensor, answers: list[list[int]]) -> tuple[Floats, list[list[int]]]:
    """Return the NLL in nats of each answer, (R,), and the greedy continuation of each prompt (R, P).

    Raises NumericalError if logits are not finite.
    """
    state = model.initial_state(len(prompts))
    for part in torch.split(prompts.to(model.device), max(1, SEGMENT_TOKENS // len(prompts)), dim=1):
        logits, state = model.next_logits(part, state)
    if not logits.isfinite().all():
        raise NumericalError(
            f"the logits of the {model.name} model after {prompts.shape[1]} tokens are not finite",
            hint="its weights hold NaN or infinity, or its fast weights grew without bound",
        )
    longest = max(map(len, answers))
    continued = _continue(model, logits, state.forked(), longest + _MORE_TOKENS)
    return _nll_of_answers(model, logits, state, answers), continued


def _nll_of_answers(model: LoadedModel, logits: Tensor, state: object, answers: list[list[int]]) -> Floats:
    longest = max(map(len, answers))
    ids = torch.tensor([[*answer, *[0] * (longest - len(answer))] for answer in answers], device=model.device)
    nll = np.zeros(len(answers))
    for place in range(longest):
        chosen = ids[:, place : place + 1]
        logp = logits.double().log_softmax(-1).gather(1, chosen)[:, 0].cpu().numpy()
        nll -= np.where([place < len(answer) for answer in answers], logp, 0.0)
        if place + 1 < longest:
            logits, state = model.next_logits(chosen, state)
    return nll


def _continue(model: LoadedModel, logits: Tensor, state: object, num_tokens: int) -> list[list[int]]:
    drawn = [logits.argmax(-1)]
    while len(drawn) < num_tokens:
        logits, state = model.next_logits(drawn[-1][:, None], state)
        drawn.append(logits.argmax(-1))
    ids: list[list[int]] = torch.stack(drawn, dim=1).tolist()
    return ids


def share_found(text: str, references: Sequence[str]) -> float:
    """Return the share of references that stand in a text as whole words."""
    found = [re.search(rf"(?<!\w){re.escape(reference)}(?!\w)", text) is not None for reference in references]
    return sum(found) / len(found)


def _row(setting: Setting, nll: Floats, found: Floats) -> FoundRow:
    both = bootstrap(np.stack([nll, found], axis=1))
    return FoundRow(
        **setting._asdict(), num_examples=len(nll),
        nll=float(both.observed[0]), low=float(both.low[0]), high=float(both.high[0]),
        found=float(both.observed[1]), found_low=max(0.0, float(both.low[1])),
        found_high=min(1.0, float(both.high[1])),
    )  # fmt: skip
