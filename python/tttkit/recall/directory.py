"""Measure the recall of one model directory: reuse known results, keep finished parts, write recall.json."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tttkit.data.synthetic.tasks import TASKS
from tttkit.data.synthetic.vocabulary import VOCAB_SIZE
from tttkit.data.text_tasks.questions import PASSKEY, TASK_PARTS
from tttkit.device import find_device, prepare_cpu, prepare_device
from tttkit.errors import UsageError
from tttkit.evaluate.blocks import NllBlocks, evaluation_key, measuring
from tttkit.evaluate.bos import bos_in_front
from tttkit.evaluate.request import EvaluationRequest, check_request, find_model_directory, prepare, trained_window
from tttkit.evaluate.threads import choose_for_evaluation
from tttkit.models import load_scoring_model
from tttkit.models.hugging_face.directory import read_config
from tttkit.models.scoring import LoadedModel
from tttkit.recall import second_copy
from tttkit.recall.answers import MULTIPLES, AnswerTask, about_tokens, check_model, measure_answers
from tttkit.recall.questions import PASSKEY_MULTIPLES, RULER_MULTIPLES, Asker, QuestionTask
from tttkit.results.recall import RECALL_NAME, SECOND_COPY, Recall
from tttkit.results.values import read_known

SCHEMA = 2
"""Increase it when equal weights and settings would give other figures."""
_SCHEMA_OF_LENGTHS = 3
"""The same for tasks with lengths. Version 3 says which settings were left out."""
Progress = Callable[[float], None]


@dataclasses.dataclass(frozen=True, kw_only=True)
class MeasuredRecall:
    """The results of one model directory."""

    recall: Recall
    written: tuple[Path, ...] = ()
    """Files that were written; empty if the results were known before."""
    messages: tuple[str, ...] = ()
    """Sentences for the user about model and data."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class RecallSettings:
    """What is measured. Empty sequences mean the usual values."""

    task: str = SECOND_COPY
    distances: Sequence[int] = ()
    """Tokens between the two copies of second-copy."""
    lengths: Sequence[int] = ()
    """Tokens of an example of every other task."""
    sizes: Sequence[int] = ()
    """Items that an example of a synthetic task asks to remember."""
    contexts: Sequence[str] = ("full",)
    """Contexts in which examples of a synthetic task are read."""
    num_examples: int = 64
    seed: int = 0

    @property
    def is_synthetic(self) -> bool:
        """Whether the task has a vocabulary of its own and needs no text."""
        return self.task in TASKS

    def check(self) -> None:
        """Refuse an unknown task, and settings that the task does not have. Raises UsageError."""
        known = (SECOND_COPY, *TASK_PARTS, *TASKS)
        if self.task not in known:
            raise UsageError(f"unknown task `{self.task}`", hint=f"known: {', '.join(known)}")
        unused = {
            "--distance": self.distances and self.task != SECOND_COPY,
            "--length": self.lengths and self.task == SECOND_COPY,
            "--items": self.sizes and not (self.is_synthetic and TASKS[self.task].has_sizes),
            "--context": tuple(self.contexts) != ("full",) and not self.is_synthetic,
        }
        for option, is_unused in unused.items():
            if is_unused:
                raise UsageError(f"{self.task} has no {option}", hint="see `tttkit recall --help`")


def check_recall(request: EvaluationRequest, settings: RecallSettings) -> None:
    """Refuse a request whose model, data and settings do not fit together, before any model is loaded."""
    settings.check()
    if not settings.is_synthetic:
        check_request(request)
        return
    config = read_config(find_model_directory(request.path))
    _answer_task(request, settings, request.window or trained_window(request.path, config)).settings()


def recall_model_directory(
    request: EvaluationRequest, directory: Path, settings: RecallSettings, progress: Progress | None = None
) -> MeasuredRecall:
    """Measure one model into `directory`.

    Nothing is measured if `directory` holds the same results already, and a killed call goes on. Raises UsageError,
    DataError, NumericalError, DiskFullError, and RunLockedError while another process writes there.
    """
    settings.check()
    kind = _Answers if settings.is_synthetic else _SecondCopy if settings.task == SECOND_COPY else _Questions
    plan = kind(request, settings)
    known = read_known(Recall.read, directory / RECALL_NAME, "recall_key", plan.key)
    if known is not None:
        return MeasuredRecall(recall=known, messages=plan.messages)
    device = find_device(request.device)
    prepare_device(device)
    plan.model.to(device)
    plan.check()
    with measuring(directory, plan.key) as blocks:
        choose_for_evaluation(plan.model, window=plan.window, blocks=blocks.path)
        result = plan.run(blocks, progress)
        result.write(directory / RECALL_NAME)
    return MeasuredRecall(recall=result, written=(directory / RECALL_NAME,), messages=plan.messages)


class _SecondCopy:
    """The task second-copy on one model."""

    def __init__(self, request: EvaluationRequest, settings: RecallSettings) -> None:
        self._job = prepare(dataclasses.replace(request, num_sequences=1))
        usual = [multiple * self._job.window for multiple in second_copy.MULTIPLES]
        self._distances = sorted(set(settings.distances or usual))
        self._settings = settings
        self.model, self.window, self.messages = self._job.model, self._job.window, self._job.messages
        self.key = evaluation_key(
            schema=SCHEMA, evaluation=self._job.key, distances=self._distances, seed=settings.seed,
            num_examples=settings.num_examples,
        )  # fmt: skip

    def check(self) -> None:
        """Refuse what the model cannot read or the split does not hold."""
        second_copy.check(self._job, self._distances, self._settings.num_examples)

    def run(self, blocks: NllBlocks, progress: Progress | None) -> Recall:
        """Measure what `blocks` does not hold yet."""
        result = second_copy.measure(
            self._job, distances=self._distances, num_examples=self._settings.num_examples, seed=self._settings.seed,
            blocks=blocks, progress=progress,
        )  # fmt: skip
        return Recall({**result.values, "recall_key": self.key})


class _Questions:
    """Questions about a text (passkey, ruler) on one model."""

    def __init__(self, request: EvaluationRequest, settings: RecallSettings) -> None:
        self._job = prepare(dataclasses.replace(request, num_sequences=1))
        multiples = PASSKEY_MULTIPLES if settings.task == PASSKEY else RULER_MULTIPLES
        lengths = sorted(set(settings.lengths or [multiple * self._job.window for multiple in multiples]))
        self._task = QuestionTask(
            name=settings.task, lengths=lengths, num_examples=settings.num_examples, seed=settings.seed
        )
        self.model, self.window, self.messages = self._job.model, self._job.window, self._job.messages
        self.key = evaluation_key(
            schema=_SCHEMA_OF_LENGTHS, evaluation=self._job.key, task=dataclasses.asdict(self._task)
        )

    def check(self) -> None:
        """Refuse what the model cannot read, the split does not hold or the tokenizer cannot write."""
        self._asker = Asker(self._job, self._task)

    def run(self, blocks: NllBlocks, progress: Progress | None) -> Recall:
        """Measure what `blocks` does not hold yet."""
        return Recall({**self._asker.run(blocks, progress).values, "recall_key": self.key})


class _Answers:
    """A synthetic task on one model."""

    def __init__(self, request: EvaluationRequest, settings: RecallSettings) -> None:
        path = find_model_directory(request.path)
        window = request.window or trained_window(path, read_config(path))
        prepare_cpu()
        self.model: LoadedModel = load_scoring_model(path, request.dtype, request.trust_remote_code)
        self.window = window
        unknown = about_tokens(path, settings.task)
        self.messages = (*((unknown,) if unknown else ()), *self.model.notes)
        self._task = _answer_task(request, settings, window)
        measured = {
            "weights_sha256": self.model.weights_sha256(), "dtype": request.dtype,
            "bos_id": bos_in_front(self.model, request.bos), "task": self._task.name, "window": window,
            "num_examples": settings.num_examples, "seed": settings.seed, "vocab_size": VOCAB_SIZE,
            "left_out": self._task.left_out(),
        }  # fmt: skip
        self.key = evaluation_key(schema=_SCHEMA_OF_LENGTHS, settings=self._task.settings(), **measured)
        self._facts: dict[str, Any] = {
            "model": self.model.name, "path": str(request.path), **measured, "recall_key": self.key
        }  # fmt: skip

    def check(self) -> None:
        """Refuse a model that does not know the task's tokens or cannot read its examples."""
        check_model(self.model, self._task)

    def run(self, blocks: NllBlocks, progress: Progress | None) -> Recall:
        """Measure what `blocks` does not hold yet."""
        rows, accuracies = measure_answers(self.model, self._task, blocks=blocks, progress=progress)
        return Recall.of(self._facts, rows, accuracies=accuracies.tolist())


def _answer_task(request: EvaluationRequest, settings: RecallSettings, window: int) -> AnswerTask:
    return AnswerTask(
        name=settings.task, window=window, lengths=settings.lengths or [multiple * window for multiple in MULTIPLES],
        sizes=settings.sizes, contexts=settings.contexts, num_examples=settings.num_examples, seed=settings.seed,
        bos=request.bos,
    )  # fmt: skip
