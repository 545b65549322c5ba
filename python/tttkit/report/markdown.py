"""`CURRICULUM_RESULTS.md`: the research questions answered by name and in order, every figure from the run's files.

Equal runs give equal bytes: no date of writing, no path but the run's own name, and what is missing is said.
"""

from __future__ import annotations

import math
import shlex
from typing import Any

from tttkit.analyze import earlier_15k
from tttkit.analyze.compare import NO_EQUAL_TOKENS, Comparison
from tttkit.analyze.finding import Finding, Findings
from tttkit.analyze.paired import RULE
from tttkit.analyze.record import Record, number
from tttkit.report.markdown_parts import bullets, sparkline, table, titled

REPORT_NAME = "CURRICULUM_RESULTS.md"
QUESTIONS = (
    ("When does it converge?", ("convergence", "training_loss", "early_stopping")),
    ("Does the SW advantage persist?", ("winner", "crossover_step")),
    ("Position-specific behaviour", ("crossover_position", "policy", "generalisation_gap")),
    ("Training dynamics", ("phase_transitions", "learning_rate")),
)
"""The research questions and the findings that answer each."""
THRESHOLDS = (500, 200, 100)
"""PPL@1xW that the success criteria ask for."""
_MOST_ROWS = 25


def render(record: Record, findings: Findings, comparison: Comparison | None = None) -> str:
    """The whole report as Markdown. `comparison` is with the runs of `--against`, this run first."""
    parts = [
        f"# Curriculum results: {record.name}",
        _summary(record, findings, comparison),
        "## Research questions",
        *(_question(index, title, topics, findings) for index, (title, topics) in enumerate(QUESTIONS, start=1)),
        "## Success criteria",
        _criteria(record, findings),
        "## Comparison",
        _comparison(comparison),
        _with_15k(),
        "## Tables",
        _evaluations(record),
        "## Plots",
        _plots(record),
        "## Environment",
        _environment(record),
        "## Data and protocol",
        _protocol(record),
        "## What could not be known",
        bullets(_missing(record, findings)),
        "## Commands",
        _commands(record, comparison),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def criteria(record: Record, findings: Findings) -> list[tuple[bool | None, str]]:
    """The success criteria, each met (True), not met (False) or unknown (None), with its figures."""
    found: list[tuple[bool | None, str]] = []
    plateau = findings["convergence"]
    known = plateau.verdict not in ("unknown", "undecided")
    found.append((plateau.verdict == "plateau" if known else None, f"Plateau reached: {plateau.statement}"))
    key = record.criterion()  # of many windows where it was measured: the least of many small samples is mostly luck
    values = record.series(key)[1].tolist() if key != "ttt_ppl_mean" else []
    for threshold in THRESHOLDS:
        figures = f"best {min(values):,.2f}, last {values[-1]:,.2f} ({key})" if values else "not measured"
        found.append((min(values) < threshold if values else None, f"PPL@1xW under {threshold}: {figures}"))
    stopping = findings["early_stopping"]
    reason = record.metadata.get("result", {}).get("reason")
    natural = {"early-stopped": True, "finished": False}.get(str(reason))
    found.append((natural, f"Early stopping came naturally: {stopping.statement}"))
    planned, count = _planned(record), len(record.checkpoints)
    complete = None if planned is None else count >= planned
    found.append((complete, f"All checkpoints evaluated: {count} of {planned if planned is not None else 'unknown'}"))
    return found


def _summary(record: Record, findings: Findings, comparison: Comparison | None) -> str:
    size = record.metadata.get("model", {})
    parameters = size.get("num_parameters") if isinstance(size, dict) else None
    facts = [
        ("model", record.model), ("parameters", parameters), ("window W", record.window),
        ("last step", findings.last_step),
        ("tokens seen, at most" if record.is_legacy else "tokens seen", findings.last_tokens),
        ("evaluations", findings.num_checkpoints),
        ("written by", "the earlier system" if record.is_legacy else "tttkit"),
    ]  # fmt: skip
    head = table([{"fact": name, "value": value} for name, value in facts])
    topics = ("convergence", "winner", "crossover_step", "policy")
    verdicts = () if comparison is None else comparison.verdicts
    at = "at equal tokens" if comparison is not None and comparison.equal_tokens else "at the end"
    judged = [
        f"{title} {run}, {at}: " + "; ".join(f"{label} {verdict}" for label, verdict in labels) + "."
        for (title, run), *labels in (row.items() for row in verdicts)
    ]
    return head + "\n\n" + bullets([*(findings[topic].statement for topic in topics), *judged])


def _question(index: int, title: str, topics: tuple[str, ...], findings: Findings) -> str:
    parts = [f"### {index}. {title}", *(_finding(findings[topic]) for topic in topics)]
    return "\n\n".join(parts)


def _finding(finding: Finding) -> str:
    title = finding.topic.replace("_", " ")
    lines = [f"**{title[0].upper()}{title[1:]}: {finding.verdict}.** {finding.statement}"]
    if finding.rows:
        lines.append(table(finding.rows))
    lines.append(f"Rule: {finding.rule}  \nEvidence: {finding.evidence}.")
    return "\n\n".join(lines)


def _criteria(record: Record, findings: Findings) -> str:
    marks = {True: "[x]", False: "[ ]", None: "[ ] (unknown)"}
    return "\n".join(f"- {marks[met]} {text}" for met, text in criteria(record, findings))


def _comparison(comparison: Comparison | None) -> str:
    if comparison is None:
        return "No other run was named (`tttkit report RUN --against RUN`)."
    refused = [
        f"Refused: {row['refused']} (`{row['setting']}`: {row['because']})." for row in comparison.protocol_differences
    ]
    parts = [
        bullets(refused) if refused else "The protocols are the same, so every number may be compared.",
        titled("At equal tokens", comparison.equal_tokens) or NO_EQUAL_TOKENS,
        titled("At the end", comparison.end),
        titled("Verdicts, 95 %", comparison.verdicts),
        f"Rule: {RULE}" if comparison.verdicts else "",
        titled(
            f"Ratio to the full context of {comparison.runs[0]}, paired by sequence, 95 % (above 1: that context is "
            f"better; `>` and `<` where surely so)",
            comparison.paired,
        ),
        titled("Over seeds: geometric mean and 95 % t-interval", comparison.seeds),
        titled("Protocols", comparison.protocol_differences),
        titled("Configurations", comparison.config_differences) or "The configurations do not differ.",
    ]
    return "\n\n".join(part for part in parts if part)


def _with_15k() -> str:
    return "\n\n".join(
        [
            "### The 15k run of the earlier system, and what was wrong with it",
            table(earlier_15k.rows()),
            f"From its documents, after at most {earlier_15k.MOST_TOKENS:,} tokens; its files are lost.",
            bullets(earlier_15k.FAULTS),
        ]
    )


def _evaluations(record: Record) -> str:
    """Every evaluation, or evenly chosen ones where there are many, the last always."""
    count = len(record.checkpoints)
    chosen = sorted(
        {round(index * (count - 1) / (_MOST_ROWS - 1)) for index in range(_MOST_ROWS)} if count > 1 else {0}
    )
    if count <= _MOST_ROWS:
        chosen = list(range(count))
    rows = []
    for index in chosen:
        item = record.checkpoints[index]
        row: dict[str, Any] = {"step": item.step, "tokens": item.tokens}
        for name in ("training_loss", "selection_ppl"):
            row[name] = number(item.summary.get(name))
        for multiple in record.multiples() or [1]:
            for context in ("full", "sw") if multiple > 1 else ("full",):
                row[f"{context} {multiple}xW"] = item.perplexity(context, multiple)
        if not record.multiples():
            row |= {name: number(item.summary.get(name)) for name in ("ttt_ppl_mean", "sw_ppl_mean")}
        rows.append(row)
    note = "" if len(chosen) == count else f"\n\n{len(chosen)} of {count} evaluations."
    return table(rows) + note


def _plots(record: Record) -> str:
    lines = []
    for name in (
        record.criterion(),
        *(f"{p}_ppl_at_{m}xW" for m in record.multiples() for p in ("ttt", "sw") if m > 1),
    ):
        _, values = record.series(name)
        if values.size > 1:
            span = f"{values[0]:,.1f} to {values[-1]:,.1f}, least {values.min():,.1f}"
            lines.append(f"{name:<18} {sparkline([math.log(value) for value in values])}  {span}")
    losses = [value for item in record.metrics if (value := number(item.get("loss"))) is not None]
    if losses:
        lines.append(f"{'training loss':<18} {sparkline(losses)}  {losses[0]:.3f} to {losses[-1]:.3f}")
    axes = f"From left to right over {record.axis}; heights of perplexities are logarithmic."
    text = f"{axes}\n\n```\n" + "\n".join(lines) + "\n```" if lines else "No curve was kept."
    image = "curriculum_length_gen_evolution.png"
    drawn = record.path.is_dir() and (record.path / image).exists()
    return text + (f"\n\n![Evolution of length generalization]({image})" if drawn else "")


def _environment(record: Record) -> str:
    environment = record.metadata.get("environment")
    if not isinstance(environment, dict):
        return "Not recorded."
    hidden = {"host", "boot_id"}  # they say nothing about the result
    return table([{"item": key, "value": value} for key, value in environment.items() if key not in hidden])


def _protocol(record: Record) -> str:
    summary = record.checkpoints[-1].summary
    names = (
        "training_window", "eval_max_length", "chunk_size", "chunk_stride", "num_sequences", "sequence_choice",
        "num_documents", "tokens_per_chunk", "selection_windows", "aggregate", "sw_mode", "data_fingerprint",
    )  # fmt: skip
    rows = [{"setting": name, "value": summary.get(name)} for name in names]
    data = record.metadata.get("data")
    if isinstance(data, dict):
        rows += [{"setting": f"data {key}", "value": value} for key, value in data.items() if key not in ("path",)]
    unigram = record.metadata.get("result", {}).get("unigram_ppl")
    if unigram is not None:
        rows.append({"setting": "unigram perplexity of the split", "value": unigram})
    settings = record.config or {
        "settings": {k: v for k, v in record.metadata.items() if not isinstance(v, list | dict)}
    }
    sections = [
        {"section": section, "values": ", ".join(f"{key} = {value}" for key, value in values.items())}
        for section, values in settings.items()
        if isinstance(values, dict)
    ]
    return table(rows) + "\n\n" + table(sections)


def _missing(record: Record, findings: Findings) -> list[str]:
    unknown = [item for item in findings.items if item.verdict == "unknown"]
    return [*record.unknown, *(f"{item.topic.replace('_', ' ')}: {item.statement}" for item in unknown)]


def _commands(record: Record, comparison: Comparison | None) -> str:
    command = record.metadata.get("command")
    lines = []
    if isinstance(command, list) and command:
        lines.append(shlex.join(str(part) for part in command))
    name = shlex.quote(record.name)
    others = "" if comparison is None else "".join(f" --against {shlex.quote(other)}" for other in comparison.runs[1:])
    lines += [f"tttkit eval run {name}", f"tttkit plot {name}", f"tttkit report {name}{others}"]
    if record.is_legacy:
        lines = lines[-2:]
    return "```\n" + "\n".join(lines) + "\n```"


def _planned(record: Record) -> int | None:
    """Evaluations that the schedule asks for, step 0 and the last included."""
    evaluation, train = record.config.get("evaluation", {}), record.config.get("train", {})
    count, steps = evaluation.get("num_checkpoints"), train.get("max_steps")
    if isinstance(count, int) and isinstance(steps, int):
        return min(count, steps + 1)
    planned = record.metadata.get("num_eval_checkpoints")
    return planned if isinstance(planned, int) else None
