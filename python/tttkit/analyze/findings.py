"""All findings of one run, in the order of the research questions. It reads files and needs no torch."""

from __future__ import annotations

import numpy as np

from tttkit.analyze import contexts, convergence, crossover, training
from tttkit.analyze.finding import Findings
from tttkit.analyze.learning_rate import learning_rate
from tttkit.analyze.record import Record, load
from tttkit.analyze.transitions import transitions
from tttkit.run.directory import RunDirectory


# Figures near the largest float64 overflow to infinity, which every finding treats as unknown.
@np.errstate(over="ignore", invalid="ignore", divide="ignore")
def find(run: RunDirectory | Record) -> Findings:
    """Answer all research questions from the files of a run, with rules, figures and uncertainty.

    Topics: convergence, training_loss, early_stopping, winner, crossover_step, crossover_position, policy,
    generalisation_gap, phase_transitions, learning_rate. Raises DataError for a damaged file, UsageError before the
    first evaluation.
    """
    record = run if isinstance(run, Record) else load(run)
    last = record.evaluations[-1]
    items = (
        convergence.convergence(record),
        convergence.training_loss(record),
        convergence.early_stopping(record),
        contexts.winners(record),
        training.crossover_step(record),
        crossover.crossover_position(record),
        contexts.policy(record),
        training.generalisation_gap(record),
        transitions(record),
        learning_rate(record),
    )
    return Findings(
        run=record.name,
        model=record.model,
        window=record.window,
        num_checkpoints=len(record.evaluations),
        last_step=last.step,
        last_tokens=last.tokens,
        items=items,
    )
