"""report.html of a study: what was varied, what each value does, the best setting, and what was not run."""

from __future__ import annotations

import base64
import dataclasses
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from tttkit.analyze.trend import geometric_mean
from tttkit.report.page.document import document
from tttkit.report.page.html import REPORT_NAME
from tttkit.report.page.tables import escape
from tttkit.run.directory import STUDY_FILE
from tttkit.run.saved import ENDED
from tttkit.storage import files
from tttkit.sweep.results import Effect, Row, Trend, effects, read_rows, shown, trends
from tttkit.sweep.search import search_of
from tttkit.sweep.study import PRESET_KEY, Range, Study, study_of

_CAUTION = (
    "A setting that was chosen because it is the best of many looks better than it is. "
    "Train it again with other seeds before claiming a difference."
)


def is_study(path: Path) -> bool:
    """Whether a directory is one that `tttkit sweep` made."""
    return (path / STUDY_FILE).is_file()


def write_study_report(directory: Path, target: Path) -> tuple[Path, dict[str, Any]]:
    """Write report.html of the study in `directory` into the folder `target`; return its path and its figures.

    Raises UsageError for a study that this tttkit cannot read, DataError when a file is damaged, DiskFullError.
    """
    study = study_of(files.read_json(directory / STUDY_FILE), str(directory / STUDY_FILE))
    rows = read_rows(study, directory.resolve(), search_of(study, directory.resolve()))
    found, ranges = effects(study, rows), trends(study, rows)
    target.mkdir(parents=True, exist_ok=True)
    path = target / REPORT_NAME
    name = directory.resolve().name
    body = [
        f"<header><div><h1>{escape(name)}</h1><p>{escape(_facts(study, rows))}</p></div></header><main>",
        '<h2 id="findings">Findings</h2>',
        f'<p class="opening">{escape(" ".join(_opening(study, rows)))}</p>',
        "<h2>What was varied</h2>",
        _table(("factor", "values"), ((key, _choices(value)) for key, value in study.vary.items())),
        f"<p>The same in all runs: {escape(_fixed(study))}.</p>",
        *_effects(study, found, ranges),
        "<h2>Settings, the best first</h2>",
        _table(
            (*study.vary, "mean", "95 % interval", "runs"),
            ((*(shown(row.setting[key]) for key in study.vary), *_result(row), row.summary) for row in rows),
        ),
        "<h2>What was not run</h2>",
        _not_run(study, rows),
        f'</main><footer><p class="soft">Made by tttkit from the runs of the study {escape(name)}.</p></footer>',
    ]
    files.write_text(path, document(name, "\n".join(body)))
    parts: dict[str, Sequence[Any]] = {"settings": rows, "effects": found, "trends": ranges}
    return path, {key: [dataclasses.asdict(item) for item in items] for key, items in parts.items()}


def _facts(study: Study, rows: Sequence[Row]) -> str:
    ended = sum(state in ENDED for row in rows for state in row.states)
    total = sum(len(row.states) for row in rows)
    seeds = f"{len(study.seeds)} seed{'s' if len(study.seeds) > 1 else ''}"
    return f"{study.goal} {study.objective} · {study.search} search · {seeds} · {ended} of {total} runs have ended"


def _opening(study: Study, rows: Sequence[Row]) -> list[str]:
    """Return the sentences about the best setting and how sure it is."""
    known = [row for row in rows if row.mean is not None]
    if not known:
        return ["No run has ended yet."]
    # a mean over fewer seeds may be better by chance
    known = [row for row in known if None not in row.objectives] or known
    best = known[0]
    sentences = [
        f"The best setting is {_setting(best)}: {study.objective} {best.mean:,.2f}{_bounds(best.interval, 2)}."
    ]
    if len(known) > 1:
        pairs = zip(best.objectives, known[1].objectives, strict=True)
        ratio, interval = geometric_mean([ours / theirs for ours, theirs in pairs if ours and theirs])
        if ratio is not None:
            sentences.append(
                f"Its ratio to the next setting, {_setting(known[1])}, is {ratio:.3f}{_bounds(interval, 3)} "
                f"over pairs of runs with the same seed; {_verdict(interval)}."
            )
    return [*sentences, _CAUTION]


def _verdict(interval: tuple[float, float] | None) -> str:
    if interval is None:
        return "one seed cannot say whether the difference is real"
    if interval[0] <= 1.0 <= interval[1]:
        return "the interval contains 1, so the two are not told apart"
    return "the interval does not contain 1"


def _effects(study: Study, found: Sequence[Effect], ranges: Sequence[Trend]) -> list[str]:
    """Return the section about effects: a figure and a table, and a table of trends of ranges."""
    parts = ["<h2>Effect of each value</h2>"]
    if not found and not ranges:
        return [*parts, "<p>No two runs that differ in one value have ended yet.</p>"]
    if found:
        heads = ("value", f"ratio of {study.objective}", "95 % interval", "pairs of runs")
        figures = (
            (item.label, f"{item.ratio:.3f}", _bounds(item.interval, 3).strip() or "–", str(item.pairs))
            for item in found
        )
        parts += [_figure(study, found), _table(heads, figures)]
    if ranges:
        heads = ("range", f"rank correlation with {study.objective}", "95 % interval", "settings")
        parts.append(
            _table(
                heads,
                (
                    (item.factor, f"{item.correlation:.2f}", _bounds(item.interval, 2), str(item.settings))
                    for item in ranges
                ),
            )
        )
    return parts


def _figure(study: Study, found: Sequence[Effect]) -> str:
    """Return the figure of the effects inside the page."""
    from tttkit.report.figures.effects import plot_effects

    with tempfile.TemporaryDirectory() as folder:
        drawn = plot_effects(found, study.objective, Path(folder) / "effects.png").read_bytes()
    source = base64.b64encode(drawn).decode()
    text = f"Ratio of {study.objective} for each value to the first value of its factor, with 95 % intervals"
    return f'<figure><img class="drawn" src="data:image/png;base64,{source}" alt="{escape(text)}"></figure>'


def _not_run(study: Study, rows: Sequence[Row]) -> str:
    """Return the list of the runs that have no result, and what the search left out."""
    missing = [
        f"{_setting(row)}, seed {seed}: {pruned.reason if pruned else state}"
        for row in rows
        for seed, state, pruned in zip(study.seeds, row.states, row.pruned, strict=True)
        if state not in ENDED
    ]
    if any(row.is_pruned for row in rows):
        missing.append(
            "settings with a pruned run count in no mean, effect or trend, so a value whose settings were mostly "
            "pruned looks better there than it is"
        )
    if study.search != "grid":
        missing.append(f"the search {study.search} chose {len(rows)} settings of its ranges, and left out the rest")
    if not missing:
        return "<p>Every setting was run with every seed.</p>"
    return f"<ul>{''.join(f'<li>{escape(item)}</li>' for item in missing)}</ul>"


def _setting(row: Row) -> str:
    return ", ".join(f"{key} = {shown(value)}" for key, value in row.setting.items()) or "the only one"


def _result(row: Row) -> tuple[str, str]:
    return "–" if row.mean is None else f"{row.mean:,.2f}", _bounds(row.interval, 2).strip() or "–"


def _bounds(interval: tuple[float, float] | None, digits: int) -> str:
    return "" if interval is None else f" [{interval[0]:,.{digits}f}, {interval[1]:,.{digits}f}]"


def _choices(choices: list[Any] | Range) -> str:
    if isinstance(choices, Range):
        scale = ", logarithmic" if choices.log else ""
        return f"{shown(choices.low)} to {shown(choices.high)}{scale}"
    return ", ".join(shown(value) for value in choices)


def _fixed(study: Study) -> str:
    base = {} if PRESET_KEY in study.vary else {"preset": study.base}
    values = {**base, "config": study.config, "data": study.data, **study.fixed}
    return ", ".join(f"{key} = {shown(value)}" for key, value in values.items() if value is not None)


def _table(heads: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in heads)
    body = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows)
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
