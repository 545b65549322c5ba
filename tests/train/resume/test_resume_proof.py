from __future__ import annotations

import math

from tttkit.train.resume.resume_proof import ResumeProof

RECORDS = [{"step": step, "loss": 3.0 + step / 7} for step in range(1, 31)]


def test_equal_losses_verify_and_steps_not_logged_before_say_nothing():
    proof = ResumeProof(RECORDS, 20)
    assert (proof.num_lost, proof.verified) == (10, None)
    assert proof.compare(31, 1.0) is None
    assert proof.verified is None
    assert proof.compare(21, 3.0 + 21 / 7) is None
    assert proof.verified is True


def test_a_difference_of_one_bit_is_reported_once():
    proof = ResumeProof(RECORDS, 20)
    assert proof.compare(21, 3.0 + 21 / 7) is None
    loss = math.nextafter(3.0 + 22 / 7, 9)
    assert "step 22 was" in proof.compare(22, loss)
    assert proof.verified is False
    assert proof.compare(23, 0.0) is None
    assert proof.verified is False


def test_losses_that_are_not_finite_compare_by_name():
    proof = ResumeProof([{"step": 1, "loss": "NaN"}, {"step": 2, "loss": "-Infinity"}, {"step": 3, "loss": "NaN"}], 0)
    assert proof.compare(1, math.nan) is None
    assert proof.compare(2, -math.inf) is None
    assert "not bit-identical" in proof.compare(3, 1.0)


def test_a_new_run_has_nothing_to_prove():
    proof = ResumeProof([], 0)
    assert (proof.num_lost, proof.compare(1, 1.0), proof.verified) == (0, None, None)
