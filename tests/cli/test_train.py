"""`tttkit train` for its user: layers of options, resuming, the output of every view, and every refusal."""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import signal
from dataclasses import replace

import pytest

from tests.cli.conftest import SMALL, run_process, start, train_options, tttkit, wait_until
from tests.cli.test_console import on_terminal
from tttkit.config.fields import describe_fields
from tttkit.config.flags import FLAGS, option_name
from tttkit.run.directory import RunDirectory
from tttkit.storage.files import json_safe
from tttkit.train.events import Plan, StepLogged
from tttkit_cli.verbs import load
from tttkit_cli.views.train import TrainView
from tttkit_cli.views.train_live import LiveRows
from tttkit_cli.views.train_screens import first_screen, last_screen

PLAN = Plan(
    run="runs/[bold]x", model="ttt-linear", num_parameters=1_000_000, train_tokens=10_000, validation_tokens=1000,
    vocab_size=300, window=64, stages=[], step=0, tokens_seen=0, max_steps=100, tokens_per_step=1024,
    evaluation_steps=[0, 50, 100], num_evaluations_done=0, num_evaluations_ahead=3,
    eval_max_length=1280, eval_num_sequences=16, device="cpu", precision="fp32", num_threads=2,
    threads={"chosen": 2, "why": "measured", "measured": {"1": 4318.2, "2": 6287.1}},
    seed=42, version="0.1.0", git_commit="0123abcd-dirty", resumed=False, state_bytes=12_000_000,
    planned_bytes=48_000_000, free_bytes=412_000_000_000,
)  # fmt: skip
STEP = StepLogged(
    step=10, loss=3.25, ppl=math.exp(3.25), learning_rate=2.1e-4, grad_norm=0.81, tokens_seen=10_240,
    tokens_per_second=41_200.0, num_skipped=0, eta_seconds=18_720.0,
)  # fmt: skip


def resolved(*arguments, **environment) -> dict:
    result = run_process("train", "--dry-run", "--json", *arguments, env=environment) if environment else tttkit(
        "train", "--dry-run", "--json", *arguments
    )  # fmt: skip
    assert result.code == 0, result.err
    return json.loads(result.out)


def test_layers_of_options(tmp_path):
    """Preset < file < environment < flags and --set: each layer overrides the one before."""
    file = tmp_path / "config.toml"
    file.write_text('preset = "curriculum-15k"\n[train]\nwindow = 32\nbatch_size = 3\nseed = 5\n')
    assert resolved()["train"]["max_steps"] == 800
    values = resolved(file, "--seed", 7, "--set", "optimizer.beta2=0.9", TTTKIT_SET_TRAIN__BATCH_SIZE="6")
    assert values["preset"] == "curriculum-15k"
    assert values["model"]["hidden_size"] == 768
    expected = {"max_steps": 15_000, "window": 32, "batch_size": 6, "grad_accumulation": 4, "seed": 7}
    assert {name: values["train"][name] for name in expected} == expected
    assert values["optimizer"]["beta2"] == 0.9


def test_the_dry_run_is_a_configuration_file(tmp_path):
    printed = tttkit("train", "--dry-run", "--max-steps", 12, "--window", 32)
    file = tmp_path / "config.toml"
    file.write_text(printed.out)
    assert resolved(file) == resolved("--max-steps", 12, "--window", 32)


def test_the_earlier_systems_flags():
    values = resolved(
        "--max_seq_length", 32, "--max_train_steps", 9, "--per_device_train_batch_size", 5,
        "--gradient_accumulation_steps", 3, "--mixed_precision", "no", "--model_size", "125m",
    )  # fmt: skip
    train = values["train"]
    assert (train["window"], train["max_steps"], train["batch_size"]) == (32, 9, 5)
    assert (train["grad_accumulation"], train["precision"]) == (3, "fp32")
    assert values["model"]["hidden_size"] == 768


@pytest.mark.parametrize("words", [("none", "zero"), ("lanes", "contiguous")])
def test_the_flag_of_version_0_1_0_for_initial_states(words):
    old, new = words
    assert resolved("--carry", old)["train"]["initial_state"] == new
    assert resolved("--initial-state", new) == resolved("--carry", old)
    assert "--carry" not in tttkit("train", "--help").out


@pytest.mark.parametrize(
    ("arguments", "is_explained"),
    [
        (["--state_passing"], True), (["--state-passing", "true"], True), (["--state_passing=True"], True),
        (["--state_passing", "1"], True), (["--no_state_passing", "false"], True),
        (["--state_passing", "False"], False), (["--no_state_passing"], False), ([], False),
    ],
)  # fmt: skip
def test_state_passing_of_the_earlier_system_is_explained(tmp_path, arguments, is_explained):
    """It is accepted with or without a value, also before a positional argument, and changes nothing."""
    file = tmp_path / "config.toml"
    file.write_text("[train]\nseed = 5\n")
    result = tttkit("train", "--dry-run", "--json", *arguments, file)
    assert result.code == 0, result.err
    assert json.loads(result.out) == resolved(file)
    assert result.err.startswith("warning: --state_passing is ignored.") is is_explained
    assert ("use --initial-state contiguous" in result.err) is is_explained
    assert "state-passing" not in tttkit("train", "--help").out


def test_flags_are_made_from_the_fields(monkeypatch):
    """Help, type and choices come from the configuration; only the name of the flag is written by hand."""
    parameters = {parameter.name: parameter for parameter in load("train").params}
    for flag, key in FLAGS.items():
        field, parameter = describe_fields()[key], parameters[flag]
        assert option_name(flag) in parameter.opts
        assert parameter.help.startswith(field.help)
        assert all(choice in parameter.help for choice in field.choices)
        assert parameter.type_descriptor.annotation is field.type
    assert "--no-early-stop" in parameters["early_stop"].secondary_opts


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--preset", "quik"], "unknown preset `quik`"),
        (["nowhere.toml"], "no such configuration file: nowhere.toml"),
        (["--set", "train.windw=3"], "did you mean `train.window`"),
        (["--set", "train"], "expected section.key=value"),
        (["--window", "33"], "multiple of model.mini_batch_size"),
        (["--precision", "fp8"], "train.precision"),
        (["--model", "lstm"], "lstm"),
        (["--model-size", "9b"], "unknown model size `9b`"),
        (["--early-stop-min-delta", "few"], "got `few`"),
        (["--data", "nowhere"], "nowhere"),
    ],
)
def test_mistakes_are_reported_and_leave_nothing(tmp_path, arguments, message):
    result = tttkit("train", "--out", tmp_path / "run", *arguments)
    assert result.code in (2, 65)
    assert message in result.err
    assert "Traceback" not in result.err
    assert not (tmp_path / "run").exists()


def test_the_first_and_the_last_screen(trained):
    run, result = trained
    for said in (
        "ttt-linear, ", "steps 0 to 6 of 64 tokens", "3 to come, each on 4 sequences", "at most ", " free",
        str(run), "Ctrl-C or SIGTERM saves and stops", "no terminal; safe anyway",
    ):  # fmt: skip
        assert said in result.err
    summaries = json.loads((run / "all_summaries.json").read_text())
    best = min(summaries, key=lambda summary: summary["selection_ppl"])
    last = result.err[result.err.index("finished at step 6") :]
    assert f"selection_ppl {best['selection_ppl']:.2f} at evaluation {best['checkpoint_idx']}" in last
    assert all(f"tttkit {command} {run}" in last for command in ("status", "plot", "eval checkpoint"))
    assert "384 tokens" in last


def test_a_table_after_each_evaluation_and_the_last_on_stdout(trained):
    run, result = trained
    summaries = json.loads((run / "all_summaries.json").read_text())
    for summary in summaries:
        text = result.out if summary is summaries[-1] else result.err
        shown = text[text.index(f"perplexity by context at step {summary['step']},") :]
        row = next(line for line in shown.splitlines() if "20 x W" in line)
        for key in ("ttt_ppl_at_20xW", "sw_ppl_at_20xW", "sw_aligned_ppl_at_20xW", "reset_ppl_at_20xW"):
            assert f"{summary[key]:,.2f}" in row
    assert result.out.count("perplexity by context") == 1
    assert result.err.count("perplexity by context") == len(summaries) - 1, "each table once"


def test_piped_lines_are_keys_and_values(trained):
    line = next(line for line in trained[1].err.splitlines() if line.startswith("time="))
    fields = dict(part.split("=") for part in line.split())
    assert list(fields)[:3] == ["time", "step", "loss"]
    assert fields["step"] == "1/6"
    assert math.exp(float(fields["loss"])) == pytest.approx(float(fields["ppl"]), rel=1e-3)
    assert 0 <= float(fields["eta_seconds"]) < 600, "a run of seconds has only seconds left"


def test_quiet_prints_only_the_result(tiny_data, tmp_path):
    result = tttkit(*train_options(tiny_data, tmp_path / "run", "--quiet"))
    assert result.code == 0
    assert result.err == ""
    assert result.out.splitlines()[-1].startswith("unigram_ppl=")


def test_json_events(tiny_data, tmp_path):
    result = tttkit(*train_options(tiny_data, tmp_path / "run", "--json"))
    events = [json.loads(line) for line in result.out.splitlines()]
    kinds = [event["event"] for event in events]
    assert (kinds[0], kinds[-1]) == ("plan", "end")
    assert [event["step"] for event in events if event["event"] == "step"] == [1, 2, 3, 4, 5, 6]
    assert kinds.count("evaluation") == 3
    assert [event["step"] for event in events if event["event"] == "saved"] == [0, 3, 6]
    plan = events[0]
    weights = 4 * plan["num_parameters"]
    assert plan["planned_bytes"] > 3 * plan["state_bytes"] + 2 * weights
    assert plan["free_bytes"] > plan["planned_bytes"]
    assert events[-1]["reason"] == "finished"


def test_repeating_the_command_says_that_it_is_done(finished, tiny_data, tmp_path):
    run = shutil.copytree(finished, tmp_path / "run")
    before = (run / "metadata.json").read_bytes()
    result = tttkit(*train_options(tiny_data, run, "--keep-weights"))
    assert result.code == 0
    assert "is finished already; nothing to do" in result.err
    assert (run / "metadata.json").read_bytes() == before
    other = tttkit(*train_options(tiny_data, run, "--keep-weights", "--max-steps", 7))
    assert other.code == 2
    assert "train.max_steps: 6 -> 7" in other.error
    longer = tttkit(*train_options(tiny_data, run, "--keep-weights", "--max-steps", 7, "--extend"))
    assert longer.code == 0, longer.err
    assert "the learning rate follows a new cosine" in " ".join(longer.err.split())
    assert RunDirectory(run).read_metadata()["result"]["step"] == 7
    again = tttkit(*train_options(tiny_data, run, "--no-resume"))
    assert again.code == 2
    assert "already holds a run" in again.error


def test_ctrl_c_saves_and_the_same_command_resumes(tiny_data, tmp_path):
    run = tmp_path / "run"
    options = train_options(tiny_data, run, "--max-steps", 400, "--save-every", 400, "--plain")
    with start(*options) as process:
        wait_until(lambda: (run / "metrics.jsonl").exists(), process)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 75
    stopped = int(re.search(r"stopped by SIGINT at step (\d+) of 400; training checkpoint of step \1 saved", err)[1])
    result = tttkit(*options)
    assert result.code == 0
    assert f"resuming {run}" in result.err
    assert f"steps {stopped} to 400" in result.err
    assert json.loads((run / "metadata.json").read_text())["segments"][-1]["start_step"] == stopped


def test_on_a_terminal_two_rows_and_the_vital_figures(tiny_data, tmp_path):
    options = train_options(tiny_data, tmp_path / "run", "--max-steps", 60)
    code, text = on_terminal(options, {"TERM": "xterm", "NO_COLOR": "", "COLUMNS": "120"})
    assert code == 0
    for shown in ("total", "next evaluation", "smoothed", "tok/s", "gnorm", "ETA", "60/60"):
        assert shown in text
    assert "time=" not in text, "lines between the rows"
    assert "evaluation 0 at step 0: selection_ppl " in text


@pytest.mark.parametrize("term", ["xterm", "dumb"])
def test_no_permanent_line_is_wider_than_a_narrow_terminal(tiny_data, tmp_path, term):
    code, text = on_terminal(train_options(tiny_data, "run"), {"TERM": term, "COLUMNS": "40"}, cwd=tmp_path)
    assert code == 0
    lines = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text).replace("\r", "\n").splitlines()
    assert max(map(len, lines)) <= 40, max(lines, key=len)
    for whole in (
        "patience[ =]0/10",
        r"unigram_ppl=\d+\.\d\d",
        r"final_ppl_at_1xW=\d+\.\d\d",
        "at +┃ +full ┃ +sw ┃ SW/full",
    ):
        assert any(re.search(whole, line) for line in lines), f"{whole} is broken"


@pytest.mark.parametrize(("variables", "option"), [({"TERM": "dumb"}, ()), ({"TERM": "xterm"}, ("--plain",))])
def test_a_terminal_that_cannot_or_must_not_be_redrawn(tiny_data, tmp_path, variables, option):
    code, text = on_terminal(train_options(tiny_data, tmp_path / "run", *option), {"NO_COLOR": "1", **variables})
    assert code == 0
    assert "time=" in text
    assert "\x1b[2K" not in text
    assert "\x1b[?25l" not in text


@pytest.mark.parametrize("width", [40, 60, 120])
def test_rows_fit_the_terminal(monkeypatch, width):
    from tttkit_cli.views import train_live

    monkeypatch.setattr(train_live.err, "width", width)
    rows = LiveRows()
    rows.begin(PLAN)
    rows.show(replace(STEP, num_skipped=2))
    lines = []
    for part in rows.get_renderables():
        lines += ["".join(piece.text for piece in line) for line in train_live.err.render_lines(part)]
    assert max(len(line.rstrip()) for line in lines) <= width
    shown = " ".join(lines)
    for figure in ("10/100", "10/50", "20 %", "loss 3.250", "ppl 25.79", "41.2k tok/s", "ETA 5 h 12 m (", "2 updates"):
        assert figure in shown


def test_the_second_row_shows_other_activities():
    rows = LiveRows()
    rows.begin(PLAN)
    rows.busy("evaluating step 50", 0.25)
    assert (rows.tasks[1].description, rows.tasks[1].percentage) == ("evaluating step 50", 25)
    rows.at_step(50)
    assert (rows.tasks[1].description, rows.tasks[1].fields["count"]) == ("next evaluation", "0/50")


def test_a_loss_that_is_not_finite_is_shown_and_not_averaged():
    rows = LiveRows()
    rows.begin(PLAN)
    for loss in (3.0, math.nan, 3.0):
        rows.show(replace(STEP, loss=loss))
    assert "loss 3.000 (3.000 smoothed)" in str(list(rows.get_renderables())[1])


def test_lines_come_after_ten_seconds_and_a_hundredth_of_the_run(monkeypatch, capsys):
    clock = [100.0]
    monkeypatch.setattr("tttkit_cli.views.train.time.monotonic", lambda: clock[0])
    view = TrainView(plain=True, quiet=False, json_events=False)
    view.event(replace(PLAN, max_steps=1000))

    def lines_after(step, seconds):
        clock[0] += seconds
        capsys.readouterr()
        view.event(replace(STEP, step=step))
        return capsys.readouterr().err.count("time=")

    assert lines_after(1, 0) == 1, "the first line is printed at once"
    assert lines_after(50, 5) == 0
    assert lines_after(100, 6) == 1
    assert lines_after(105, 60) == 0, "less than a hundredth of the run"
    assert lines_after(110, 1) == 1


def test_the_plan_in_words():
    rows = dict(
        first_screen(replace(PLAN, step=50, tokens_seen=51_200, num_evaluations_done=1, num_evaluations_ahead=2), {})
    )
    assert rows["plan"] == "steps 50 to 100 of 1,024 tokens: 51,200 tokens to go, 10.24 epochs in total"
    assert rows["evaluations"].startswith("2 to come (1 done), each on 16 sequences of 1,280 tokens = 20 x W")
    assert rows["disk"] == "at most 48.0 MB (a training checkpoint is 12.0 MB), 412 GB free"
    assert "not enough" in dict(first_screen(replace(PLAN, free_bytes=1000), {}))["disk"]
    assert dict(first_screen(PLAN, {"TMUX": "x"}))["terminal"] == "in tmux; safe to detach"
    assert "job 7" in dict(first_screen(PLAN, {"SLURM_JOB_ID": "7"}))["terminal"]
    assert rows["writes to"] == r"[path]runs/\[bold]x[/]", "text, not markup"


def test_the_last_screen_without_an_evaluation():
    rows = dict(last_screen(PLAN, {"step": 100, "tokens_seen": 102_400, "total_checkpoints_evaluated": 0}, "run", 60))
    assert "best" not in rows
    assert rows["next"] == "tttkit status run"


def test_infinite_figures_are_shown_as_they_are(capsys):
    view = TrainView(plain=True, quiet=False, json_events=True)
    view.event(PLAN)
    view.event(replace(STEP, ppl=math.inf, eta_seconds=None))
    printed = capsys.readouterr()
    assert "ppl=inf" in printed.err
    assert json.loads(printed.out.splitlines()[-1])["ppl"] == json_safe(math.inf)


def test_training_without_arguments_uses_the_library_of_python(tmp_path):
    """The default data is prepared inside the run; the model is small, so that the test takes a second."""
    result = tttkit(
        "train", "--out", tmp_path / "run", "--max-steps", 2, "--num-eval-checkpoints", 1, *SMALL,
        "--set", f"data.source={os.path.dirname(json.__file__)}/*.py", "--set", "data.tokenizer=bpe:300",
        "--set", "data.validation_fraction=0.3", "--eval-max-length", 32, "--eval-num-sequences", 2,
    )  # fmt: skip
    assert result.code == 0, result.err
    assert (tmp_path / "run" / "data" / "manifest.json").exists()


def test_a_branch_takes_the_settings_of_its_parent_and_needs_it_no_more(tiny_data, tmp_path):
    parent, branch = tmp_path / "parent", tmp_path / "branch"
    assert tttkit(*train_options(tiny_data, parent, "--max-steps", 6)).code == 0
    command = ("train", "--branch-from", f"{parent}@3", "--learning-rate", 1e-4, "--out", branch)
    result = tttkit(*command)
    assert result.code == 0, result.err
    assert "optimizer.learning_rate: 0.003 -> 0.0001" in RunDirectory(branch).read_metadata()["parent"]["changes"]
    assert "a branch of" in tttkit("status", branch).out
    parent.rename(tmp_path / "moved")
    again = tttkit(*command)
    assert again.code == 0, again.err
    assert "finished already" in again.err
    wrong = tttkit("train", "--branch-from", f"{tmp_path / 'moved'}@4", "--out", tmp_path / "other")
    assert wrong.code == 65
    assert "3, 6" in wrong.error
    both = tttkit("train", "--branch-from", f"{tmp_path / 'moved'}@3", "--preset", "quick", "--out", tmp_path / "other")
    assert both.code == 2
