from __future__ import annotations

from tests.training import train
from tttkit.config.run import build_config
from tttkit.train.plan import planned_bytes


def bytes_in(path) -> int:
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())


def test_a_plan_covers_what_the_run_writes(tiny_values, tmp_path):
    plans = []
    values = tiny_values(train={"keep_weights": True})
    run = train(values, tmp_path / "run", report=lambda event: event["event"] == "plan" and plans.append(event)).run
    (plan,) = plans
    weights = 4 * plan["num_parameters"]
    assert plan["state_bytes"] == 3 * weights
    models = [run.best_model, run.final_model, *(path / "model" for path in run.checkpoints().values())]
    written = sum((path / "model.safetensors").stat().st_size for path in models)
    assert written >= 6 * weights
    assert plan["planned_bytes"] >= written + bytes_in(run.states)
    assert (plan["evaluation_steps"], plan["num_evaluations_ahead"]) == ([0, 4, 8, 12], 4)


def test_weights_of_evaluations_count_only_if_they_are_kept(tiny_values):
    plain, kept = (build_config(tiny_values(train={"keep_weights": keep})) for keep in (False, True))
    assert planned_bytes(kept, 1000, 5) - planned_bytes(plain, 1000, 5) == 5 * 4000
    assert planned_bytes(plain, 1000, 5) > planned_bytes(plain, 1000, 4) > (3 * 3 + 3) * 4000
