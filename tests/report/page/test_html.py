"""report.html: one file, nothing from outside, text stays text; in a real browser its curves follow the slider."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess

import pytest

from tests.report.figures.test_position import evaluation_at
from tttkit.errors import DataError, UsageError
from tttkit.evaluate.checkpoint import write_checkpoint
from tttkit.health.status import read_status
from tttkit.report.criteria import criteria
from tttkit.report.page.html import write_html
from tttkit.report.page.page_data import MOST_CHECKPOINTS
from tttkit.run.directory import RunDirectory
from tttkit.storage import files

CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)
HOSTILE = "<script>alert(1)</script>\"'&amp;"


@pytest.fixture
def make_run(tmp_path):
    def make(num_checkpoints, *, name="run", exact=False):
        run = RunDirectory(tmp_path / name)
        summaries = []
        for index in range(num_checkpoints):
            share = index / max(1, num_checkpoints - 1)
            extra = {"checkpoint_idx": index, "step": 100 * index, "tokens_seen": 1000 * index, "model": "ttt-linear"}
            summaries.append(write_checkpoint(run.checkpoint(index), evaluation_at(share, exact=exact), extra))
        files.write_json(run.summaries, summaries)
        records = [{"step": step, "loss": 9 - step / 500, "num_skipped": 0} for step in range(1, 100 * num_checkpoints)]
        run.metrics.write_text("".join(json.dumps(record) + "\n" for record in records))
        return run

    return make


def data_of(page) -> dict:
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page)[1])


def test_the_page_is_whole_and_asks_nothing_of_a_network(make_run, tmp_path):
    page = write_html(make_run(3), tmp_path / "report.html").read_text()
    assert "default-src 'none'" in page
    assert not re.search(r"(?:src|href|action)=[\"']?(?!#|data:)[^\"' >]", page)
    assert not re.search(r"@import|url\((?!#)|fetch\(|XMLHttpRequest|https?://(?!www\.w3\.org/2000/svg)", page)
    assert page.count("<script") == 2
    assert page.index("<title>") < page.index("</head>") < page.index("<main>") < page.index("</main>")


def test_the_curves_are_those_of_the_run(make_run, tmp_path):
    run = make_run(3)
    data = data_of(write_html(run, tmp_path / "report.html").read_text())
    summary = run.read_summaries()[1]
    checkpoint = data["checkpoints"][1]
    at = checkpoint["ends"].index(1280)
    assert (data["window"], data["labels"], checkpoint["step"]) == (64, [1, 2, 5, 10, 20], 100)
    assert checkpoint["ppl"]["full"][at] == pytest.approx(summary["ttt_ppl_at_20xW"], rel=1e-4)
    assert checkpoint["ratio"]["sw"][at] == pytest.approx(summary["ratio_at_20xW"], rel=1e-4)
    assert checkpoint["ppl"]["sw"][at - 1] is None, "not computed there"
    assert data["training"]["step"][-1] == 299
    assert [series["name"] for series in data["evolution"]] == ["1 x W", "2 x W", "5 x W", "10 x W", "20 x W"]


def test_fifty_checkpoints_stay_below_a_megabyte(make_run, tmp_path):
    assert write_html(make_run(50, exact=True), tmp_path / "report.html").stat().st_size < 1_000_000


def test_more_checkpoints_are_thinned_and_said(make_run, tmp_path, monkeypatch):
    monkeypatch.setattr("tttkit.report.page.page_data.MOST_CHECKPOINTS", 4)
    assert MOST_CHECKPOINTS >= 50
    page = write_html(make_run(9), tmp_path / "report.html").read_text()
    assert [item["index"] for item in data_of(page)["checkpoints"]] == [0, 2, 5, 8]
    assert "9 evaluations, 4 of them in the curves" in page


def test_equal_files_give_equal_bytes(make_run, tmp_path):
    run = make_run(2)
    one, other = (write_html(run, tmp_path / name).read_bytes() for name in ("one.html", "other.html"))
    assert one == other


def test_all_text_of_a_run_stays_text(make_run, tmp_path):
    run = make_run(2, name=HOSTILE.replace("/", "_"))
    metadata = {
        "schema_version": 1, "config": {"preset": HOSTILE, "train": {"max_steps": 100}}, "command": ["tttkit", HOSTILE],
        "model": {"name": HOSTILE}, "environment": {HOSTILE: HOSTILE}, "segments": [{"start_step": 0}],
        "result": {"reason": "finished", "step": 100},
    }  # fmt: skip
    files.write_json(run.metadata, metadata)
    other = make_run(2, name="other</script><script>alert(2)")
    page = write_html(run, tmp_path / "report.html", findings=[HOSTILE], against=[other]).read_text()
    assert page.count("<script") == 2
    assert page.count("</script") == 2
    assert "alert(1)</" not in page.replace("&lt;", "<!")
    assert page.count("&lt;script&gt;alert(1)&lt;/script&gt;") >= 5
    assert data_of(page)["baselines"][0]["name"] == other.path.name


def test_the_best_evaluation_is_named(make_run, tmp_path):
    run = make_run(3)
    files.write_json(run.metadata, {"config": {}, "early_stopping": {"best_checkpoint": 1}, "segments": []})
    page = write_html(run, tmp_path / "report.html").read_text()
    assert [item["best"] for item in data_of(page)["checkpoints"]] == [False, True, False]
    assert page.count(" (best)<") == 1
    assert ">1 (best)<" in page


def test_losses_are_thinned_and_smoothed(make_run, tmp_path):
    """5,000 losses that jump between 2 and 4: some hundreds are kept, their average stays near 3."""
    run = make_run(1)
    records = [{"step": step, "loss": 2 + 2 * (step % 2), "num_skipped": 0} for step in range(1, 5001)]
    run.metrics.write_text("".join(json.dumps(record) + "\n" for record in records))
    training = data_of(write_html(run, tmp_path / "report.html").read_text())["training"]
    assert (training["step"][0], training["step"][-1], len(training["step"])) == (1, 5000, 600)
    assert set(training["loss"]) == {2.0, 4.0}
    assert all(2.9 < value < 3.1 for value in training["smooth"][100:])


def test_findings_and_figures_are_set_for_reading(make_run, tmp_path):
    run = make_run(1)
    summary = {**run.read_summaries()[0], "selection_ppl": 382.0, "ratio_at_2xW": 1.0, "sw_ppl_at_2xW": 1234.5}
    files.write_json(run.summaries, [summary])
    page = write_html(
        run, tmp_path / "report.html", findings=["learning rate: Fastest in `cosine 1/3`.", "No topic."]
    ).read_text()
    assert "<li><b>learning rate</b>: Fastest in <code>cosine 1/3</code>.</li><li>No topic.</li>" in page
    for cell in (">382.00<", ">1.000<", ">1,234.50<"):
        assert cell in page
    for head in ("sw/full 2W", "low 2W", "high 20W"):
        assert f'<button type="button">{head}</button>' in page


def test_a_run_without_an_evaluation(tmp_path):
    with pytest.raises(UsageError, match="has no evaluation yet"):
        write_html(RunDirectory(tmp_path), tmp_path / "report.html")


def test_a_damaged_file_is_named(make_run, tmp_path):
    run = make_run(1)
    (run.checkpoint(0) / "chunk_eval.json").write_text("{")
    with pytest.raises(DataError, match="chunk_eval.json"):
        write_html(run, tmp_path / "report.html")


def verdicts(run, **changes):
    summaries = [{**run.read_summaries()[-1], **changes}]
    return {item.name: item.verdict for item in criteria(summaries, {}, read_status(run))}


def test_the_winner_needs_every_interval(make_run):
    run = make_run(2)
    name = "full context better than every window at 20 x W"
    bounds = {f"{prefix}ratio_ci_{side}_at_20xW": 1.01 if side == "low" else 1.2
              for prefix in ("", "sw_aligned_", "reset_") for side in ("low", "high")}  # fmt: skip
    assert verdicts(run, **bounds)[name] == "yes"
    assert verdicts(run, **{**bounds, "reset_ratio_ci_low_at_20xW": 0.99})[name] == "unknown"
    ahead = {"reset_ratio_at_20xW": 0.92, "reset_ratio_ci_low_at_20xW": 0.9, "reset_ratio_ci_high_at_20xW": 0.95}
    assert verdicts(run, **{**bounds, **ahead})[name] == "no"
    assert verdicts(run, **{**bounds, "reset_ratio_ci_low_at_20xW": None})[name] == "unknown"


def test_the_other_criteria(make_run):
    run = make_run(2)
    name = "perplexity at 20 x W stays within 5 % of 1 x W"
    assert verdicts(run, ttt_ppl_at_1xW=40.0, ttt_ppl_at_20xW=41.0)[name] == "yes"
    assert verdicts(run, ttt_ppl_at_1xW=40.0, ttt_ppl_at_20xW=43.0)[name] == "no"
    summary, unigram = run.read_summaries()[-1], "better than the frequencies of single tokens"
    for ppl, expected in (
        (summary["selection_ppl"] + 1, "yes"),
        (summary["selection_ppl"] - 1, "no"),
        (None, "unknown"),
    ):
        found = criteria([summary], {"result": {"unigram_ppl": ppl}}, read_status(run))
        assert {item.name: item.verdict for item in found}[unigram] == expected
    found = {item.name: item.verdict for item in criteria([summary], {}, read_status(run))}
    assert found["every update was finite"] == "yes"


PROBE = """
<script>
const seen = [];
const curve = () => document.querySelector("#positions polyline.line:not(.faint)").getAttribute("points");
const slider = document.getElementById("step");
const move = (value) => { slider.value = value; slider.dispatchEvent(new Event("input", { bubbles: true })); };
const chart = document.querySelector("#positions svg[role]");
const press = (key) => chart.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true }));
const last = curve();
move(0);
const said = document.getElementById("step-text").textContent;
seen.push(["slider", curve() !== last, said, slider.getAttribute("aria-valuetext")]);
const linear = curve();
document.querySelector('input[name="log-y"]').click();
seen.push(["log", curve() !== linear]);
document.querySelector('input[name="context-full"]').click();
seen.push(["contexts", [...document.querySelectorAll("#positions .legend li")].map((item) => item.textContent)]);
document.querySelector('input[name="context-full"]').click();
const reading = () => document.querySelector("#positions .reading").textContent;
press("ArrowRight");
seen.push(["read", reading()]);
const whole = curve();
press("+");
const once = curve();
press("+");
const twice = curve();
press("-");
seen.push(["zoom", new Set([whole, once, twice]).size === 3, curve() === once]);
press("-");
press("-");
seen.push(["reset", curve() === whole]);
chart.setPointerCapture = () => {};  // of a pointer that is only made up
const box = chart.getBoundingClientRect(), at = (share) => box.left + box.width * share;
const point = (name, x) => chart.dispatchEvent(new PointerEvent(name, { clientX: x, clientY: box.top + 50 }));
point("pointermove", at(0.5));
seen.push(["hover", reading()]);
point("pointerdown", at(0.4));
point("pointermove", at(0.6));
const drawn = chart.querySelector("rect.drag")?.getAttribute("width") > 0;
point("pointerup", at(0.6));
seen.push(["drag", drawn, curve() !== whole]);
document.querySelector("#positions .whole").click();
seen.push(["whole", curve() === whole]);
point("pointermove", at(0.7));
seen.push(["not held any more", chart.querySelector("rect.drag") === null]);
document.querySelector('input[name="baseline-0"]').click();
seen.push(["baselines", [...document.querySelectorAll("#positions .legend li")].map((item) => item.textContent)]);
document.querySelector('input[name="baseline-0"]').click();
const first = () => document.querySelector("#evaluations tbody td").textContent;
const head = document.querySelector("#evaluations th button");
head.click(); head.click();
seen.push(["sort", first(), head.closest("th").getAttribute("aria-sort")]);
document.getElementById("theme").click();
seen.push(["theme", document.documentElement.dataset.theme]);
const broad = chart.getAttribute("viewBox");
const opened = () => document.querySelectorAll("details[open]").length;
const before = opened();
dispatchEvent(new Event("beforeprint"));
const folded = document.querySelectorAll("details").length;
seen.push(["paper", opened() === folded && opened() > before, chart.viewBox.baseVal.width]);
dispatchEvent(new Event("afterprint"));
seen.push(["screen", opened() === before && chart.getAttribute("viewBox") === broad]);
seen.push(["width", document.documentElement.scrollWidth <= window.innerWidth]);
document.title = "probe " + JSON.stringify(seen);
</script>
"""


def browse(folder, *options):
    sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []
    command = [CHROMIUM, "--headless", *sandbox, "--disable-gpu", "--enable-logging=stderr"]
    command += [f"--user-data-dir={folder}/c", *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)


@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium: apt-get install chromium")
@pytest.mark.parametrize("width", [1280, 390])
def test_in_a_browser(make_run, tmp_path, width):
    """No message on the console, the slider changes the curve, and everything works by keyboard."""
    run = make_run(3)
    page = write_html(run, tmp_path / "report.html", findings=["A finding."], against=[make_run(1, name="sw")])
    probed = tmp_path / "probed.html"
    probed.write_text(page.read_text().replace("</body>", PROBE + "</body>"))
    answer = browse(tmp_path, f"--window-size={width},900", "--dump-dom", probed.as_uri())
    assert [line for line in answer.stderr.splitlines() if "CONSOLE" in line] == []
    title = re.search(r"<title>probe (.*?)</title>", answer.stdout, re.S)
    seen = {name: values for name, *values in json.loads(title[1].replace("&lt;", "<").replace("&amp;", "&"))}
    assert seen["slider"] == [True, "step 0 (evaluation 0)", "step 0 (evaluation 0)"]
    assert seen["log"] == [True]
    assert seen["contexts"] == [["sw", "sw_aligned", "reset", "run sw"]], "a run is not taken for a context"
    assert seen["read"][0].startswith("position 16: full ")
    assert re.match(
        r"position \d+: full [\d.,]+, sw [\d.,]+ at 640, sw_aligned [\d.,]+, reset [\d.,]+, run", seen["hover"][0]
    )
    assert seen["zoom"] == [True, True]
    assert seen["drag"] == [True, True]
    assert seen["reset"] == seen["whole"] == seen["not held any more"] == [True]
    assert seen["baselines"] == [["full", "sw", "sw_aligned", "reset"]]
    assert seen["sort"] == ["2", "descending"]
    assert seen["theme"][0] in ("dark", "light")
    assert seen["paper"] == [True, 400], "what is closed on the screen is open on paper, charts are small"
    assert seen["screen"] == [True]
    assert seen["width"] == [True], "the page is wider than the screen"


@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium: apt-get install chromium")
def test_on_paper_the_widest_table_has_pages_of_its_own(make_run, tmp_path):
    page = write_html(make_run(50), tmp_path / "report.html", findings=["A finding."])
    is_wide = [width > height for width, height, _ in printed(page, tmp_path)]
    assert is_wide.count(True) == 1, "fifty evaluations fit one page"
    assert not is_wide[0]
    assert not is_wide[-1]


@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium: apt-get install chromium")
def test_on_paper_a_long_table_has_its_heads_on_every_page(make_run, tmp_path):
    page = write_html(make_run(130), tmp_path / "report.html")
    wide = [num_fonts for width, height, num_fonts in printed(page, tmp_path) if width > height]
    assert len(wide) >= 2
    assert min(wide) >= 2, "bold heads and plain figures"


def printed(page, folder) -> list[tuple[float, float, int]]:
    """Width, height and number of fonts of every page on paper."""
    browse(folder, "--no-pdf-header-footer", f"--print-to-pdf={folder}/page.pdf", page.as_uri())
    pages = re.findall(rb"<</Type /Page\n.*?endobj", (folder / "page.pdf").read_bytes(), re.DOTALL)
    boxes = [re.search(rb"/MediaBox \[0 0 (\S+) (\S+)\]", text) for text in pages]
    fonts = [len(re.findall(rb"/F\d+ \d+ 0 R", text)) for text in pages]
    return [(float(box[1]), float(box[2]), count) for box, count in zip(boxes, fonts, strict=True)]
