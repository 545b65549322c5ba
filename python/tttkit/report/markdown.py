"""CURRICULUM_RESULTS.md: the research questions, answered in order with the figures of the run's files.

Equal runs give equal bytes: the report holds no date and no path, only the run's own name. It says what is missing.
"""

from __future__ import annotations

import math
from typing import Any

from tttkit.analyze import earlier_15k
from tttkit.analyze.compare import NO_EQUAL_TOKENS, Comparison
from tttkit.analyze.finding import Finding, Findings
from tttkit.analyze.full_evaluations import dynamic_rows
from tttkit.analyze.paired import RULE
from tttkit.analyze.phrases import places
from tttkit.analyze.record import Record
from tttkit.report.criteria import criteria
from tttkit.report.markdown_about import commands_section, environment_section, protocol_section
from tttkit.report.markdown_parts import bullets, capitalized, sparkline, table, titled
from tttkit.report.opening import opening
from tttkit.results.summary import Summary, perplexity_key
from tttkit.results.values import number
from tttkit.run.parent import describe_parent

REPORT_NAME = "CURRICULUM_RESULTS.md"
QUESTIONS = (
    ("When does it converge?", ("convergence", "training_loss", "early_stopping")),
    ("Does the SW advantage persist?", ("winner", "crossover_step")),
    ("Position-specific behavior", ("crossover_position", "policy", "generalisation_gap")),
    ("Training dynamics", ("phase_transitions", "learning_rate")),
)
"""The research questions and the findings that answer each of them."""
_MOST_ROWS = 25
_EVOLUTION = "curriculum_length_gen_evolution.png"
"""Figure that is shown if it has been drawn."""


def render(
    record: Record, findings: Findings, state: str, comparison: Comparison | None = None, models: str = ""
) -> str:
    """Return the whole report as Markdown.

    `state` is the run's status, for example `finished`; `comparison` compares this run, the first, with others;
    `models` are the sections about single models.
    """
    parts = [
        f"# Curriculum results: {record.name}",
        " ".join(opening(record, findings)),
        _facts(record, findings),
        _verdicts(comparison),
        "## Research questions",
        *(_question(index, title, topics, findings) for index, (title, topics) in enumerate(QUESTIONS, start=1)),
        "## Success criteria",
        _criteria(record, findings, state),
        "## Comparison",
        _comparison(comparison),
        _earlier_run(),
        "## Tables",
        _evaluations(record),
        titled("`dynamic`: the weights learn from the text that was scored", dynamic_rows(record)),
        models,
        "## Plots",
        _plots(record),
        "## Environment",
        environment_section(record),
        "## Data and protocol",
        protocol_section(record),
        "## What could not be known",
        bullets(_missing(record, findings)),
        "## Commands",
        commands_section(record, comparison),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _facts(record: Record, findings: Findings) -> str:
    size = record.metadata.get("model", {})
    parameters = size.get("num_parameters") if isinstance(size, dict) else None
    facts = [
        ("model", record.model), ("parameters", parameters), ("window W", record.window),
        ("last step", findings.last_step),
        ("tokens seen, at most" if record.is_legacy else "tokens seen", findings.last_tokens),
        ("evaluations", findings.num_checkpoints),
        ("written by", "the earlier system" if record.is_legacy else "tttkit"),
    ]  # fmt: skip
    parent = describe_parent(record.metadata, whole_path=False)
    facts += [("started from", parent)] if parent else []
    return table({"fact": name, "value": value} for name, value in facts)


def _verdicts(comparison: Comparison | None) -> str:
    """Return one sentence per run of the comparison: which of the two is better at which labels."""
    if comparison is None or not comparison.verdicts:
        return ""
    at = "at equal tokens" if comparison.equal_tokens else "at the end"
    lines = []
    for row in comparison.verdicts:
        (title, run), *labels = row.items()
        groups: dict[str, list[int]] = {}
        for label, verdict in labels:
            groups.setdefault(str(verdict), []).append(int(label.removesuffix("xW")))
        judged = "; ".join(f"{verdict} at {places(where)}" for verdict, where in groups.items())
        lines.append(f"{capitalized(title)} {run}, {at}: {judged}.")
    return bullets(lines)


def _question(index: int, title: str, topics: tuple[str, ...], findings: Findings) -> str:
    return "\n\n".join([f"### {index}. {title}", *(_finding(findings[topic]) for topic in topics)])


def _finding(finding: Finding) -> str:
    title = capitalized(finding.topic.replace("_", " "))
    lines = [f"**{title}: {finding.verdict}.** {finding.statement}"]
    if finding.rows:
        lines.append(table(finding.rows))
    lines.append(f"Rule: {finding.rule}  \nEvidence: {finding.evidence}.")
    return "\n\n".join(lines)


def _criteria(record: Record, findings: Findings, state: str) -> str:
    marks = {"yes": "[x]", "no": "[ ]", "unknown": "[ ] (unknown)"}
    return "\n".join(
        f"- {marks[item.verdict]} {capitalized(item.name)}: {item.evidence}"
        for item in criteria(record, findings, state)
    )


def _comparison(comparison: Comparison | None) -> str:
    if comparison is None:
        return "No other run was named (`tttkit report RUN --against RUN`)."
    refused = [
        f"Refused: {row['refused']} (`{row['setting']}`: {row['because']})."
        if row["refused"]
        else f"Nothing is refused, but {row['because']}."
        for row in comparison.protocol_differences
    ]
    parts = [
        bullets(refused) if refused else "The protocols are the same, so every number may be compared.",
        titled("At equal tokens", comparison.equal_tokens) or NO_EQUAL_TOKENS,
        titled("At the end", comparison.end),
        titled("Verdicts, 95 %", comparison.verdicts),
        f"Rule: {RULE}" if comparison.verdicts else "",
        titled(
            f"Ratio to the full context of {comparison.runs[0]}, paired by sequence, with 95 % intervals (above 1 that "
            f"full context is better; `>` and `<` mark ratios whose intervals exclude 1)",
            comparison.paired,
        ),
        titled(
            f"Best models, evaluated in full: ratio to the full context of {comparison.runs[0]}, paired by sequence",
            comparison.best_models,
        ),
        titled("Over seeds: geometric mean and 95 % t-interval", comparison.seeds),
        titled("Protocols", comparison.protocol_differences, comparison.runs),
        titled("Configurations", comparison.config_differences, comparison.runs) or "The configurations do not differ.",
    ]
    return "\n\n".join(part for part in parts if part)


def _earlier_run() -> str:
    return "\n\n".join(
        [
            "### The 15k run of the earlier system, and what was wrong with it",
            table(earlier_15k.rows()),
            f"Source: its documents, at most {earlier_15k.MOST_TOKENS:,} training tokens; its files are lost.",
            bullets(earlier_15k.FAULTS),
        ]
    )


def _evaluations(record: Record) -> str:
    """Return a table of all evaluations, or of evenly spaced ones including the last if there are many."""
    count = len(record.evaluations)
    chosen = list(range(count))
    if count > _MOST_ROWS:
        chosen = sorted({round(index * (count - 1) / (_MOST_ROWS - 1)) for index in range(_MOST_ROWS)})
    rows = [_evaluation(record.evaluations[index].summary, record.multiples()) for index in chosen]
    note = "" if len(chosen) == count else f"\n\n{len(chosen)} of {count} evaluations."
    return table(rows) + note


def _evaluation(summary: Summary, multiples: list[int]) -> dict[str, Any]:
    row: dict[str, Any] = {
        "step": summary.step, "tokens": summary.tokens, "training_loss": summary.value("training_loss"),
        "selection_ppl": summary.selection_ppl,
    }  # fmt: skip
    for multiple in multiples or [1]:
        for context in ("full", "sw") if multiple > 1 else ("full",):
            row[f"{context} {multiple}xW"] = summary.perplexity(context, multiple)
    if not multiples:
        row |= {f"mean of {context}": summary.mean(context) for context in ("full", "sw")}
    return row


def _plots(record: Record) -> str:
    curves = {record.criterion(): record.criterion()}
    for multiple in record.multiples():
        if multiple > 1:
            curves |= {f"{context} {multiple}xW": perplexity_key(context, multiple) for context in ("full", "sw")}
    lines = []
    for name, key in curves.items():
        _, values = record.series(key)
        if values.size > 1:
            span = f"{values[0]:,.1f} to {values[-1]:,.1f}, least {values.min():,.1f}"
            lines.append(f"{name:<18} {sparkline([math.log(value) for value in values])}  {span}")
    losses = [value for item in record.metrics if (value := number(item.get("loss"))) is not None]
    if losses:
        lines.append(f"{'training loss':<18} {sparkline(losses)}  {losses[0]:.3f} to {losses[-1]:.3f}")
    axes = f"The bars run from left to right over {record.axis}; the heights of perplexities are logarithmic."
    text = f"{axes}\n\n```\n" + "\n".join(lines) + "\n```" if lines else "No curve was kept."
    drawn = record.path.is_dir() and (record.path / _EVOLUTION).exists()
    return text + (f"\n\n![Evolution of length generalization]({_EVOLUTION})" if drawn else "")


def _missing(record: Record, findings: Findings) -> list[str]:
    unknown = [item for item in findings.items if item.verdict == "unknown"]
    return [*record.unknown, *(f"{item.topic.replace('_', ' ')}: {item.statement}" for item in unknown)]
