// Draws report.html from the JSON in the page: curves of an evaluation, tables and switches. `chart.js` is loaded before.
const data = JSON.parse(document.getElementById("data").textContent);
// Colors and dashes of lines without fixed ones, in drawing order.
const CYCLE = [["var(--blue)", ""], ["var(--orange)", "6 3"], ["var(--green)", "8 3 2 3"], ["var(--pink)", "2 3"], ["var(--yellow)", "10 3"], ["var(--ink)", "1 3"]];
const style = ([colour, dash]) => ({ colour, dash });

function legend(id, series) {
  const entries = series.filter(({ faint }) => !faint).map(({ name, colour, dash }) => {
    const entry = document.createElement("li"), svg = make("svg", { viewBox: "0 0 28 8", "aria-hidden": "true" });
    make("line", { x1: 0, x2: 28, y1: 4, y2: 4, stroke: colour, "stroke-width": 2.5, "stroke-dasharray": dash ?? "" }, svg);
    entry.append(svg, name);
    return entry;
  });
  document.querySelector(`#${id} .legend`).replaceChildren(...entries);
}

const checked = (name) => document.querySelector(`input[name="${name}"]`)?.checked ?? false;
const isThin = (values) => values.filter((value) => value !== null).length < values.length / 2;

const shown = () => data.contexts.filter(({ name }) => checked(`context-${name}`));

// Returns the contexts of one evaluation, the contexts of the last evaluation as faint lines, and last curves of other runs.
function positions(evaluation) {
  const curves = (source, faint) => shown().map(({ name, colour, dash }) => {
    const y = source.ppl[name] ?? [];
    return { name, x: source.ends, y, colour, dash, faint, dots: isThin(y) };
  });
  const last = data.evaluations.at(-1);
  const others = data.baselines.map((other, index) => ({
    name: `run ${other.name}`, x: other.ends, y: other.ppl, colour: "var(--pink)", dash: CYCLE[(index + 3) % CYCLE.length][1],
  })).filter((_, index) => checked(`baseline-${index}`));
  return [...(last === evaluation ? [] : curves(last, true)), ...curves(evaluation, false), ...others];
}

// Returns the ratio to the full context of each context that has one.
function ratios({ ends, ratio, low, high }) {
  return shown().filter(({ name }) => name in ratio).map(({ name, colour, dash }) => ({
    name: `${name}/full`, x: ends, y: ratio[name], low: low[name], high: high[name], colour, dash, dots: isThin(ratio[name]),
  }));
}

function start() {
  const slider = document.getElementById("step"), { step, loss, smooth } = data.training;
  const marks = data.labels.map((multiple) => [multiple * data.window, `${multiple}W`]);
  const evolution = data.evolution.map((series, index) => ({ ...series, ...style(CYCLE[index % CYCLE.length]) }));
  const training = [
    { name: "as logged", x: step, y: loss, colour: "var(--blue)", faint: true }, { name: "loss, smoothed", x: step, y: smooth, colour: "var(--blue)" },
  ];
  const position = { xName: "position", marks };
  const charts = [
    [new Chart("positions", { ...position, title: "Perplexity by position", yName: "perplexity" }), positions],
    [new Chart("ratios", { ...position, title: "Ratio to the full context by position", yName: "ratio", one: true }), ratios],
    [new Chart("evolution", { title: "Perplexity over training", xName: "step", yName: "perplexity" }), () => evolution],
    [new Chart("training", { title: "Training loss", xName: "step", yName: "loss (nats)" }), () => training],
  ];
  const update = () => {
    const evaluation = data.evaluations[Number(slider.value)];
    const text = `step ${evaluation.step.toLocaleString("en-US")} (evaluation ${evaluation.index}${evaluation.best ? ", the best" : ""})`;
    slider.setAttribute("aria-valuetext", text);
    document.getElementById("step-text").textContent = text;
    for (const [chart, series] of charts) {
      chart.options.yLog = checked("log-y");
      chart.options.xLog = chart.options.xName === "position" && checked("log-x");
      chart.show(series(evaluation));
      legend(chart.figure.id, series(evaluation));
    }
  };
  document.getElementById("controls").addEventListener("input", update);
  update();
  // On paper two charts are side by side. They are drawn for that width, so that their text is as large as in tables.
  window.addEventListener("beforeprint", () => charts.forEach(([chart]) => chart.draw(400)));
  window.addEventListener("afterprint", () => charts.forEach(([chart]) => chart.draw()));
}

// A click on the head of a column sorts the table by it; the button copies the table with tabs between the cells.
function sortable(table) {
  const body = table.tBodies[0];
  table.querySelectorAll("th button").forEach((button, column) => button.addEventListener("click", () => {
    const head = button.closest("th"), down = head.getAttribute("aria-sort") === "ascending";
    table.querySelectorAll("th").forEach((other) => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    const key = (row) => row.cells[column].dataset.value ?? row.cells[column].textContent;
    const order = (a, b) => {
      const [left, right] = [Number(key(a)), Number(key(b))];
      return Number.isNaN(left) || Number.isNaN(right) ? key(a).localeCompare(key(b)) : left - right;
    };
    body.append(...[...body.rows].sort((a, b) => (down ? -1 : 1) * order(a, b)));
  }));
}

async function copy(button) {
  const table = document.getElementById(button.dataset.copy);
  const text = [...table.rows].map((row) => [...row.cells].map((cell) => cell.textContent.trim()).join("\t")).join("\n");
  try {
    await navigator.clipboard.writeText(text);
  } catch {  // A page opened from a file may have no access to the clipboard.
    const area = Object.assign(document.createElement("textarea"), { value: text });
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }
  button.textContent = "copied";
  setTimeout(() => { button.textContent = "copy"; }, 1500);
}

document.querySelectorAll("table.data").forEach(sortable);
document.querySelectorAll("button[data-copy]").forEach((button) => button.addEventListener("click", () => copy(button)));
document.getElementById("theme").addEventListener("click", () => {
  const dark = getComputedStyle(document.documentElement).colorScheme.includes("dark");
  document.documentElement.dataset.theme = dark ? "light" : "dark";
});
// Open everything for printing, because paper has no buttons.
const details = [...document.querySelectorAll("details")];
let closed = [];
window.addEventListener("beforeprint", () => {
  closed = details.filter((item) => !item.open);
  for (const item of closed) item.open = true;
});
window.addEventListener("afterprint", () => {
  for (const item of closed) item.open = false;
});
if (data.evaluations.length) start();
