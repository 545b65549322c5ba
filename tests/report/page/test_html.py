"""report.html: one file, nothing from outside, text stays text; in a real browser its curves follow the slider."""

from __future__ import annotations

import dataclasses
import html
import json
import os
import re
import shutil
import subprocess
from importlib.resources import files as resources

import pytest

from tests.report.made_up import new_context, write_run
from tttkit.analyze.findings import find
from tttkit.analyze.record import load
from tttkit.errors import DataError, UsageError
from tttkit.health.status import read_status
from tttkit.report.opening import opening
from tttkit.report.page.html import render_page, write_page
from tttkit.report.page.page_data import MOST_EVALUATIONS
from tttkit.results.contexts import CONTEXTS
from tttkit.run.directory import RunDirectory
from tttkit.storage import files

CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)
HOSTILE = "<script>alert(1)</script>\"'&amp;"


@pytest.fixture
def make_run(tmp_path):
    return lambda count, *, name="run", **options: write_run(tmp_path / name, count, **options)


def data_of(page) -> dict:
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page)[1])


def test_the_header_names_what_the_run_started_from(make_run):
    run = make_run(2)
    record = load(run)
    assert "started from" not in render_page(run, record, find(record), "finished")
    parent = {"how": "branch-from", "path": "/runs/<b>old", "step": 8, "changes": ["train.seed: 1 -> 2"]}
    record = dataclasses.replace(record, metadata={**record.metadata, "parent": parent})
    page = render_page(run, record, find(record), "finished")
    assert "started from a branch of &lt;b&gt;old at step 8; what differs: train.seed: 1 -&gt; 2" in page


def test_the_page_is_complete_and_needs_no_network(make_run, tmp_path):
    page = write_page(make_run(3), tmp_path).read_text()
    assert "default-src 'none'" in page
    assert not re.search(r"(?:src|href|action)=[\"']?(?!#|data:)[^\"' >]", page)
    assert not re.search(r"@import|url\((?!#)|fetch\(|XMLHttpRequest|https?://(?!www\.w3\.org/2000/svg)", page)
    assert page.count("<script") == 2
    assert page.index("<title>") < page.index("</head>") < page.index("<main>") < page.index("</main>")


def test_fifty_evaluations_stay_below_a_megabyte(make_run, tmp_path):
    assert write_page(make_run(50, exact=True), tmp_path).stat().st_size < 1_000_000


def test_more_evaluations_are_thinned_and_the_page_says_so(make_run, tmp_path, monkeypatch):
    monkeypatch.setattr("tttkit.report.page.page_data.MOST_EVALUATIONS", 4)
    assert MOST_EVALUATIONS >= 50
    page = write_page(make_run(9), tmp_path).read_text()
    assert [item["index"] for item in data_of(page)["evaluations"]] == [0, 2, 5, 8]
    assert "9 evaluations, 4 of them in the curves" in page


def test_equal_files_give_equal_bytes(make_run, tmp_path):
    run = make_run(2)
    one, other = (write_page(run, tmp_path / name).read_bytes() for name in ("one", "other"))
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
    page = write_page(run, tmp_path, against=[other]).read_text()
    assert page.count("<script") == 2
    assert page.count("</script") == 2
    assert "alert(1)</" not in page.replace("&lt;", "<!")
    assert page.count("&lt;script&gt;alert(1)&lt;/script&gt;") >= 5
    assert data_of(page)["baselines"][0]["name"] == other.path.name


def test_the_best_evaluation_is_named(make_run, tmp_path):
    run = make_run(3)
    files.write_json(run.metadata, {"config": {}, "early_stopping": {"best_checkpoint": 1}, "segments": []})
    page = write_page(run, tmp_path).read_text()
    assert [item["best"] for item in data_of(page)["evaluations"]] == [False, True, False]
    assert page.count(" (best)<") == 1
    assert ">1 (best)<" in page


def test_names_in_findings_are_set_as_code(make_run):
    run = make_run(1)
    record = load(run)
    findings = find(record)
    items = [dataclasses.replace(findings["learning_rate"], statement="Fastest in `cosine 1/3`, <b> stays text.")]
    others = [item for item in findings.items if item.topic != "learning_rate"]
    page = render_page(run, record, dataclasses.replace(findings, items=(*others, *items)), "finished")
    assert "<li><b>learning rate</b>: Fastest in <code>cosine 1/3</code>, &lt;b&gt; stays text.</li></ul>" in page


def test_the_page_opens_with_the_three_sentences(make_run, tmp_path):
    run = make_run(3)
    page = write_page(run, tmp_path).read_text()
    record = load(run)
    text = html.escape(" ".join(opening(record, find(record))))
    paragraph = re.search(r'<h2 id="findings">Findings</h2>\n<p class="opening">(.*?)</p>', page)[1]
    assert re.sub("</?code>", "`", paragraph) == text


def test_the_page_of_a_crashed_run_has_equal_bytes_at_any_time(make_run, tmp_path):
    """The time since the last heartbeat belongs in `status`, not on a page that is kept."""
    run = make_run(2)
    files.write_json(run.metadata, {"config": {}, "segments": [{"start_step": 0}]})
    beat = {"pid": 1, "phase": "training", "step": 100, "sequence": 1, "time": "2020-01-01T00:00:00+00:00"}
    pages = []
    for year in ("2020", "2021"):
        files.write_json(run.heartbeat, {**beat, "time": f"{year}-01-01T00:00:00+00:00"})
        assert read_status(run).state == "crashed"
        pages.append(write_page(run, tmp_path).read_bytes())
    assert pages[0] == pages[1]


def test_a_new_context_needs_only_its_entry_in_the_table_to_be_on_the_page(make_run, tmp_path, monkeypatch):
    run = make_run(2)
    monkeypatch.setitem(CONTEXTS, "decayed", new_context())
    for index in (0, 1):
        path = run.checkpoint(index) / "chunk_eval.json"
        curves = files.read_json(path)
        more = {f"decayed_{part}": curves[f"reset_{part}"] for part in ("mean_nll", "ratio", "ratio_low", "ratio_high")}
        files.write_json(path, curves | more)
    page = write_page(run, tmp_path).read_text()
    data = data_of(page)
    expected = {
        "name": "decayed", "description": "a state that decays", "colour": "var(--context-decayed)", "dash": "6 3",
    }  # fmt: skip
    assert data["contexts"][-1] == expected
    assert data["evaluations"][1]["ppl"]["decayed"] == data["evaluations"][1]["ppl"]["reset"]
    assert data["evaluations"][1]["ratio"]["decayed"] == data["evaluations"][1]["ratio"]["reset"]
    assert page.count("--context-decayed: #") == 3, "in the light theme, in the dark one, and in the browser's"
    assert '<label title="a state that decays"><input type="checkbox" name="context-decayed" checked> decayed' in page


def test_the_scripts_know_no_context():
    for name in ("chart.js", "page.js", "page.css"):
        words = set(re.findall(r"\w+", resources("tttkit.report.page").joinpath(name).read_text("utf-8")))
        assert not {"sw", "sw_aligned", "aligned", "reset"} & words, name


def test_a_run_without_an_evaluation(tmp_path):
    with pytest.raises(UsageError, match="has no evaluation yet"):
        write_page(RunDirectory(tmp_path), tmp_path)


def test_a_damaged_file_is_named(make_run, tmp_path):
    run = make_run(1)
    (run.checkpoint(0) / "chunk_eval.json").write_text("{")
    with pytest.raises(DataError, match="chunk_eval.json"):
        write_page(run, tmp_path)


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
chart.setPointerCapture = () => {};  // a made-up pointer cannot be captured
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
    page = write_page(run, tmp_path, against=[make_run(1, name="sw")])
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
    assert seen["paper"] == [True, 400], "closed details are open on paper, and charts are small"
    assert seen["screen"] == [True]
    assert seen["width"] == [True], "the page is wider than the screen"


@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium: apt-get install chromium")
def test_on_paper_the_widest_table_has_pages_of_its_own(make_run, tmp_path):
    page = write_page(make_run(50), tmp_path)
    is_wide = [width > height for width, height, _ in printed(page, tmp_path)]
    assert is_wide.count(True) == 1, "fifty evaluations fit one page"
    assert not is_wide[0]
    assert not is_wide[-1]


@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium: apt-get install chromium")
def test_on_paper_a_long_table_has_its_heads_on_every_page(make_run, tmp_path):
    page = write_page(make_run(130), tmp_path)
    wide = [num_fonts for width, height, num_fonts in printed(page, tmp_path) if width > height]
    assert len(wide) >= 2
    assert min(wide) >= 2, "bold heads and plain figures"


def printed(page, folder) -> list[tuple[float, float, int]]:
    """Return width, height and number of fonts of every page on paper."""
    browse(folder, "--no-pdf-header-footer", f"--print-to-pdf={folder}/page.pdf", page.as_uri())
    pages = re.findall(rb"<</Type /Page\n.*?endobj", (folder / "page.pdf").read_bytes(), re.DOTALL)
    boxes = [re.search(rb"/MediaBox \[0 0 (\S+) (\S+)\]", text) for text in pages]
    fonts = [len(re.findall(rb"/F\d+ \d+ 0 R", text)) for text in pages]
    return [(float(box[1]), float(box[2]), count) for box, count in zip(boxes, fonts, strict=True)]
