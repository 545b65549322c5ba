"""The evaluations that a run still lacks, and the list of its summaries."""

from __future__ import annotations

from pathlib import Path

from tttkit.config.dynamic import DynamicConfig
from tttkit.config.run import Config
from tttkit.evaluate.request import EvaluationRequest
from tttkit.models import read_model_config
from tttkit.results.curves import CURVES_NAME
from tttkit.results.summary import SUMMARY_NAME, Summary
from tttkit.run.directory import RunDirectory


def missing_evaluations(
    run: RunDirectory, config: Config, device: str | None, dynamic: DynamicConfig | None = None
) -> list[tuple[EvaluationRequest, Path]]:
    """Return requests for the missing evaluations and their target directories, in order.

    First come the evaluations along the run that kept weights but have no results, by the run's own protocol, then
    best_model and final_model by the full protocol. With `dynamic`, all of them are measured in that context too.
    """
    requests = []
    for index, directory in run.checkpoints().items():
        has_results = all((directory / name).exists() for name in (SUMMARY_NAME, CURVES_NAME))
        if has_results or not (directory / "model").is_dir():
            continue
        trained = read_model_config(directory / "model")
        facts = {
            "checkpoint_idx": index,
            "step": trained.get("step"),
            "training_loss": None,
            "tokens_seen": trained.get("tokens_seen"),
        }
        request = EvaluationRequest(
            path=directory / "model", window=config.train.window, device=device, protocol=config.evaluation,
            dynamic=dynamic, facts=facts,
        )  # fmt: skip
        requests.append((request, directory))
    models = [path for path in (run.best_model, run.final_model) if path.is_dir()]
    return requests + [
        (EvaluationRequest(path=path, device=device, dynamic=dynamic), run.path / f"eval_{path.name}")
        for path in models
    ]


def complete_summaries(run: RunDirectory) -> None:
    """Add missing evaluations to all_summaries.json. Raises DataError, DiskFullError."""
    listed: dict[int | None, Summary] = {summary.index: summary for summary in run.read_summaries()}
    missing: dict[int | None, Summary] = {
        index: Summary.read(path / SUMMARY_NAME)
        for index, path in run.checkpoints().items()
        if index not in listed and (path / SUMMARY_NAME).exists()
    }
    if missing:
        together = listed | missing
        Summary.write_all(run.summaries, [together[index] for index in sorted(together, key=lambda index: index or 0)])
