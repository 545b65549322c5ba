from __future__ import annotations

import dataclasses
import json

from tttkit.train.resume.progress import MAX_SKIPPED_IN_A_ROW, TrainingProgress


def counted(*outcomes: bool) -> TrainingProgress:
    """Progress after updates that were applied or not."""
    progress = TrainingProgress()
    for step, applied in enumerate(outcomes, start=1):
        progress.step = step
        progress.count(step, 2.0, applied=applied)
    return progress


def test_skipped_updates_are_counted_and_their_losses_left_out():
    progress = counted(True, False, True, False)
    assert (progress.loss_sum, progress.num_losses) == (4.0, 2)
    assert (progress.num_skipped, progress.num_skipped_in_a_row, progress.recently_skipped) == (2, 1, [2, 4])


def test_three_skipped_updates_in_a_row_are_a_divergence():
    some = [False] * (MAX_SKIPPED_IN_A_ROW - 1)
    assert counted(*some, True, *some).divergence() is None
    assert "3 updates in a row, up to step 4" in counted(True, *some, False).divergence()


def test_progress_survives_json():
    progress = counted(True, False)
    progress.evaluated, progress.lr_scale, progress.micro_batch = [0, 2], 0.5, 3
    assert TrainingProgress(**json.loads(json.dumps(dataclasses.asdict(progress)))) == progress
