"""Put the tables of results/seeds into PAGES: `python docs/make_results_tables.py`.

A cell is the geometric mean over the seeds with its 95 % interval by Student's t, of perplexities or of ratios that are
paired by seed. Models with fewer than three seeds are left out.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path

from seed_results import Rows, over_seeds, perplexities, ratio, selection_perplexities

DOCS = Path(__file__).resolve().parent
PAGES = ("length-generalization.md", "length-generalization-tables.md")
"""The page with the table of MAIN, and the page with all tables."""
MAIN = (
    "sw-sinks", "transformer", "transformer-dynamic", "gdn", "gdn-dynamic", "mamba2", "gdn-hybrid", "ttt",
    "ttt-paper-c16", "mlp-paper", "ttt-decay-token", "ttt-contiguous", "ttt-parallel", "ttt-parallel-decay",
    "ttt-parallel-decay-dynamic",
)  # fmt: skip
MODELS = {
    "sw-sinks": "sw with sinks",
    "sw-dynamic": "sw, `dynamic`",
    "transformer": "Transformer",
    "transformer-dynamic": "Transformer, `dynamic`",
    "gdn": "Gated DeltaNet",
    "gdn-dynamic": "Gated DeltaNet, `dynamic`",
    "mamba2": "Mamba-2",
    "gdn-hybrid": "Gated DeltaNet and sw, 3 to 1",
    "gdn-hybrid-dynamic": "Gated DeltaNet and sw, 3 to 1, `dynamic`",
    "gdn-parallel": "Gated DeltaNet with a window beside it",
    "gdn-contiguous": "Gated DeltaNet, contiguous in the last fifth",
    "gdn-passed": "Gated DeltaNet, passed in the last fifth",
    "ttt": "ttt-linear",
    "ttt-inner": "ttt-linear, inner learning rate 0.3",
    "ttt-c8": "ttt-linear, C = 8",
    "ttt-c32": "ttt-linear, C = 32",
    "ttt-paper-c8": "paper's backbone, C = 8",
    "ttt-paper-c16": "paper's backbone, C = 16",
    "ttt-paper-c32": "paper's backbone, C = 32",
    "mlp": "ttt-mlp",
    "mlp-paper": "ttt-mlp, paper's backbone",
    "ttt-decay-head": "ttt-linear, decay learned per head",
    "ttt-decay-token": "ttt-linear, decay learned per token",
    "ttt-decay-token-dynamic": "ttt-linear, decay learned per token, `dynamic`",
    "ttt-decay-contiguous": "ttt-linear, decay learned per token, contiguous in the last fifth",
    "ttt-paper-decay": "paper's backbone, decay learned per token",
    "ttt-paper-decay-contiguous": "paper's backbone, decay learned per token, contiguous in the last fifth",
    "ttt-paper-contiguous": "paper's backbone, contiguous in the last fifth",
    "ttt-rescale": "ttt-linear, fast weights rescaled",
    "ttt-lr-decay": "ttt-linear, inner rate falls with age",
    "ttt-parallel": "ttt-linear with a window beside it",
    "ttt-parallel-decay": "ttt-linear with a window beside it, decay learned per token",
    "ttt-parallel-decay-dynamic": "ttt-linear with a window beside it, decay learned per token, `dynamic`",
    "ttt-hybrid": "ttt-linear and sw, 3 to 1",
    "ttt-contiguous": "ttt-linear, contiguous in the last fifth",
    "ttt-k": "ttt-linear, contiguous in the last fifth, state decayed by 0.9 per window",
    "ttt-passed": "ttt-linear, passed in the last fifth",
    "ttt-fitted": "ttt-linear, fitted in the last fifth",
    "ttt-gaussian": "ttt-linear, gaussian in the last fifth",
    "ttt-after-zero": "ttt-linear, 5 % more steps from zero",
    "ttt-after-contiguous": "ttt-linear, 5 % more, contiguous",
    "ttt-after-passed": "ttt-linear, 5 % more, passed",
    "ttt-after-fitted": "ttt-linear, 5 % more, fitted",
    "ttt-after-gaussian": "ttt-linear, 5 % more, gaussian",
    "gdn-fitted": "Gated DeltaNet, fitted in the last fifth",
    "gdn-gaussian": "Gated DeltaNet, gaussian in the last fifth",
    "gdn-after-zero": "Gated DeltaNet, 5 % more steps from zero",
    "gdn-after-contiguous": "Gated DeltaNet, 5 % more, contiguous",
    "gdn-after-passed": "Gated DeltaNet, 5 % more, passed",
    "gdn-after-fitted": "Gated DeltaNet, 5 % more, fitted",
    "gdn-after-gaussian": "Gated DeltaNet, 5 % more, gaussian",
}
"""Words of every model, in the order of the table."""
LARGER = ("large-gdn-hybrid", "large-sw-sinks")
"""Models of the larger size, which have a table of their own."""
LONG = ("1", "2", "5", "10", "20", "50", "100")
"""Labels of the sequences of 100 windows."""
WINDOWED = ("sw", "sw_aligned", "reset")


def main() -> None:
    """Write the pages."""
    for page in PAGES:
        (DOCS / page).write_text(updated(page))


def updated(page: str) -> str:
    """Return the text of a page with each table in place of the one that has the same columns."""
    text = (DOCS / page).read_text()
    for table in tables()[page]:
        columns = table.splitlines()[0]
        text, found = re.subn(rf"{re.escape(columns)}\n(\|.*\n)+", f"{table}\n", text)
        if found != 1:
            raise SystemExit(f"{page} has {found} tables with the columns {columns}")
    return text


def tables() -> dict[str, list[str]]:
    """Return the tables of each page as Markdown."""
    short, long, selection = perplexities(20), perplexities(100), selection_perplexities()
    if unnamed := short.keys() - MODELS.keys() - {"sw", *LARGER}:
        raise SystemExit(f"MODELS has no words for {', '.join(sorted(unnamed))}")
    main = _table(
        "`full` relative to sw with sinks | selection_ppl | 1 x W | 5 x W | 20 x W | 100 x W | `full`/`reset`, 20 x W",
        {model: short[model] for model in MAIN},
        lambda model: [
            _cell(*over_seeds(selection[model]), digits=1),
            *(_cell(*ratio(short[model], label, short["sw-sinks"], ["full"])) for label in ("1", "5", "20")),
            _cell(*ratio(long[model], "100", long["sw-sinks"], ["full"])) if model in long else "",
            _cell(*ratio(short[model], "20", short[model], ["reset"])),
        ],
    )
    every = _table(
        "relative to sw with sinks | selection_ppl | 1 x W | 5 x W | 20 x W | `full`/`reset`, 5 x W | 20 x W",
        short,
        lambda model: [
            _cell(*over_seeds(selection[model]), digits=1),
            *(_cell(*ratio(short[model], label, short["sw-sinks"], ["full"])) for label in ("1", "5", "20")),
            *(_cell(*ratio(short[model], label, short[model], ["reset"])) for label in ("5", "20")),
        ],
    )
    to_100 = _table(
        f"relative to sw with sinks | {' | '.join(f'{label} x W' for label in LONG)} | `full`/`reset`, 100 x W",
        long,
        lambda model: [
            *(_cell(*ratio(long[model], label, long["sw-sinks"], ["full"])) for label in LONG),
            _cell(*ratio(long[model], "100", long[model], ["reset"])),
        ],
    )
    of_ttt = _table(
        "relative to the best window of ttt-linear | 1 x W | 2 x W | 5 x W | 10 x W | 20 x W",
        {model: perplexity for model, perplexity in short.items() if model.startswith("ttt")},
        lambda model: [
            _cell(*ratio(short[model], label, short["ttt"], WINDOWED)) for label in ("1", "2", "5", "10", "20")
        ],
    )
    return {PAGES[0]: [main], PAGES[1]: [every, to_100, of_ttt, _larger(short, long)]}


def _larger(short: dict[str, Rows], long: dict[str, Rows]) -> str:
    """Return the table of the hybrid of the larger size."""
    columns = f"the hybrid at 4.30M parameters, relative to | {' | '.join(f'{label} x W' for label in LONG)}"
    lines = [f"| {columns} |", "|---" * (len(LONG) + 1) + "|"]
    hybrid, sliding = LARGER
    for known, text in ((short, "64 sequences of 20 x W"), (long, "32 sequences of 100 x W")):
        own = known[hybrid]
        labels = [label for label in LONG if label in own[1]["full"]]
        for words, other, context in (("sw with sinks", sliding, "full"), ("its own `reset`", hybrid, "reset")):
            cells = [_cell(*ratio(own, label, known[other], [context])) for label in labels]
            lines.append(f"| {' | '.join([f'{words}, {text}', *cells, *[''] * (len(LONG) - len(labels))])} |")
    return "\n".join(lines)


def _table(columns: str, known: dict[str, Rows], cells: Callable[[str], list[str]]) -> str:
    lines = [f"| {columns} |", "|---" * len(columns.split(" | ")) + "|"]
    lines += [f"| {' | '.join([words, *cells(model)])} |" for model, words in MODELS.items() if model in known]
    return "\n".join(lines)


def _cell(mean: float, interval: Sequence[float], digits: int = 3) -> str:
    """Return the mean with its interval; equal values have none."""
    low, high = interval
    return f"{mean:.{digits}f}" if low == high else f"{mean:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"


if __name__ == "__main__":
    main()
