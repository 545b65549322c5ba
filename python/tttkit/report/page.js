// The curves, tables and switches of report.html. Draws inline SVG from the JSON in the page; asks nothing of a network.
"use strict";

const data = JSON.parse(document.getElementById("data").textContent);
const NS = "http://www.w3.org/2000/svg";
const STYLES = {
  full: ["var(--full)", ""], sw: ["var(--sw)", "6 3"], sw_aligned: ["var(--aligned)", "8 3 2 3"], reset: ["var(--reset)", "2 3"],
};
const CYCLE = [["var(--full)", ""], ["var(--sw)", "6 3"], ["var(--reset)", "8 3 2 3"], ["var(--other)", "2 3"], ["var(--aligned)", "10 3"], ["var(--ink)", "1 3"]];
const format = (value) => value === null || !Number.isFinite(value) ? "–"
  : Math.abs(value) >= 1000 ? Math.round(value).toLocaleString("en-US")
  : Math.abs(value) < 0.01 && value !== 0 ? value.toExponential(2) : String(Number(value.toPrecision(4)));

function make(name, attributes, parent, text) {
  const element = document.createElementNS(NS, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  if (text !== undefined) element.textContent = text;
  if (parent) parent.append(element);
  return element;
}

// Round numbers inside [low, high]: 1, 2, 5 times powers of ten on a log axis that spans enough, else even steps.
function ticks(low, high, log) {
  if (log && high / low > 4) {
    const all = [];
    for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power++) {
      for (const step of high / low > 1000 ? [1] : [1, 2, 5]) all.push(step * 10 ** power);
    }
    return all.filter((tick) => tick >= low && tick <= high);
  }
  const raw = (high - low) / 5, power = 10 ** Math.floor(Math.log10(raw));
  const step = power * [1, 2, 5, 10].find((factor) => factor * power >= raw);
  const all = [];
  for (let tick = Math.ceil(low / step) * step; tick <= high + step * 1e-9; tick += step) all.push(Number(tick.toPrecision(12)));
  return all;
}

// A chart in `figure`: series are {name, x, y, low, high, colour, dash, faint, points}. Hover or arrow keys read values,
// dragging or + and - zoom along x, 0 or a double click shows everything again.
class Chart {
  constructor(id, options) {
    this.options = options;
    this.figure = document.getElementById(id);
    this.svg = make("svg", { tabindex: "0", role: "application", "aria-roledescription": "chart" });
    this.svg.setAttribute("aria-label", `${options.title}. Arrow keys read values, plus and minus zoom, zero resets`);
    this.note = this.figure.querySelector(".reading");
    this.figure.insertBefore(this.svg, this.note);
    this.zoom = null;
    this.at = null;
    this.listen();
    new ResizeObserver(() => requestAnimationFrame(() => this.draw())).observe(this.figure);
  }

  show(series) {
    this.series = series;
    this.draw();
  }

  visible(value, axis) {
    return value !== null && Number.isFinite(value) && (value > 0 || !this.options[axis + "Log"]);
  }

  range(values, log, padding) {
    let low = Math.min(...values), high = Math.max(...values);
    if (!values.length) [low, high] = [1, 10];
    if (low === high) [low, high] = log ? [low / 1.1, high * 1.1] : [low - 0.5, high + 0.5];
    if (!padding) return [low, high];
    return log ? [low / (high / low) ** padding, high * (high / low) ** padding]
      : [low - (high - low) * padding, high + (high - low) * padding];
  }

  scale([low, high], from, to, log) {
    const map = log ? Math.log : (value) => value;
    return (value) => from + (to - from) * (map(value) - map(low)) / (map(high) - map(low));
  }

  draw() {
    if (!this.series) return;
    const width = Math.max(280, this.figure.clientWidth), height = Math.min(360, Math.max(220, width * 0.5));
    const box = { left: 56, right: width - 28, top: 10, bottom: height - 40 };
    const { xLog, yLog } = this.options;
    this.svg.replaceChildren();
    this.svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    const shown = this.series.filter((series) => series.x.length);
    const xs = shown.flatMap((series) => series.x.filter((value) => this.visible(value, "x")));
    const span = this.zoom ?? this.range(xs, xLog, 0);
    const inside = (value) => this.visible(value, "x") && value >= span[0] && value <= span[1];
    const ys = shown.flatMap((series) => [series.y, series.low ?? [], series.high ?? []].flatMap((values) =>
      values.filter((value, index) => inside(series.x[index]) && this.visible(value, "y"))));
    if (this.options.one) ys.push(1);
    const rise = this.range(ys, yLog, 0.06);
    const x = this.scale(span, box.left, box.right, xLog), y = this.scale(rise, box.bottom, box.top, yLog);
    Object.assign(this, { box, x, y, span, all: this.range(xs, xLog, 0) });
    this.axes(box, rise);
    const clip = make("clipPath", { id: `${this.figure.id}-clip` }, this.svg);
    make("rect", { x: box.left, y: box.top, width: box.right - box.left, height: box.bottom - box.top }, clip);
    const plot = make("g", { "clip-path": `url(#${this.figure.id}-clip)` }, this.svg);
    for (const series of shown) this.line(series, plot);
    this.cursor = make("g", { class: "cursor" }, this.svg);
    if (this.at !== null) this.read(this.at);
  }

  axes(box, rise) {
    const { marks, xName, yName, xLog, yLog } = this.options;
    for (const tick of ticks(...rise, yLog)) {
      make("line", { x1: box.left, x2: box.right, y1: this.y(tick), y2: this.y(tick), class: "grid" }, this.svg);
      make("text", { x: box.left - 6, y: this.y(tick) + 4, "text-anchor": "end" }, this.svg, format(tick));
    }
    if (this.options.one) make("line", { x1: box.left, x2: box.right, y1: this.y(1), y2: this.y(1), class: "one" }, this.svg);
    let last = -Infinity;
    const all = marks ?? ticks(...this.span, xLog).map((tick) => [tick, format(tick)]);
    for (const [tick, text] of all) {
      if (tick < this.span[0] || tick > this.span[1]) continue;
      if (marks) make("line", { x1: this.x(tick), x2: this.x(tick), y1: box.top, y2: box.bottom, class: "grid" }, this.svg);
      if (this.x(tick) - last < 34) continue;
      last = this.x(tick);
      make("text", { x: last, y: box.bottom + 16, "text-anchor": "middle" }, this.svg, text);
    }
    make("line", { x1: box.left, x2: box.right, y1: box.bottom, y2: box.bottom, class: "axis" }, this.svg);
    make("text", { x: (box.left + box.right) / 2, y: box.bottom + 34, "text-anchor": "middle" }, this.svg, xName);
    const middle = (box.top + box.bottom) / 2;
    make("text", { x: 12, y: middle, "text-anchor": "middle", transform: `rotate(-90 12 ${middle})` }, this.svg, yName);
  }

  line(series, plot) {
    const known = series.x.map((at, index) => [at, series.y[index], index])
      .filter(([at, value]) => this.visible(at, "x") && this.visible(value, "y"));
    if (series.low) {
      const band = known.filter(([, , index]) => this.visible(series.low[index], "y") && this.visible(series.high[index], "y"));
      const up = band.map(([at, , index]) => `${this.x(at)},${this.y(series.high[index])}`);
      const down = band.map(([at, , index]) => `${this.x(at)},${this.y(series.low[index])}`).reverse();
      if (series.points) for (const [at, , index] of band) {
        make("line", { x1: this.x(at), x2: this.x(at), y1: this.y(series.low[index]), y2: this.y(series.high[index]), stroke: series.colour }, plot);
      } else make("polygon", { points: [...up, ...down].join(" "), fill: series.colour, class: "band" }, plot);
    }
    if (series.points || known.length === 1) {
      for (const [at, value] of known) make("circle", { cx: this.x(at), cy: this.y(value), r: 3, fill: series.colour }, plot);
    } else {
      const points = known.map(([at, value]) => `${this.x(at).toFixed(1)},${this.y(value).toFixed(1)}`).join(" ");
      make("polyline", { points, stroke: series.colour, "stroke-dasharray": series.dash ?? "", class: series.faint ? "line faint" : "line" }, plot);
    }
  }

  // Values of every series nearest to position `at` on the x axis.
  read(at) {
    this.at = at;
    this.cursor.replaceChildren();
    const parts = [];
    let where = null;
    for (const series of this.series.filter((item) => !item.faint)) {
      let best = -1;
      series.x.forEach((value, index) => {
        if (!this.visible(series.y[index], "y") || value < this.span[0] || value > this.span[1]) return;
        if (best < 0 || Math.abs(value - at) < Math.abs(series.x[best] - at)) best = index;
      });
      if (best < 0) continue;
      where ??= series.x[best];
      make("circle", { cx: this.x(series.x[best]), cy: this.y(series.y[best]), r: 4, fill: series.colour }, this.cursor);
      const interval = series.low && this.visible(series.low[best], "y") ? ` [${format(series.low[best])}, ${format(series.high[best])}]` : "";
      parts.push(`${series.name} ${format(series.y[best])}${interval}`);
    }
    if (where === null) return;
    make("line", { x1: this.x(where), x2: this.x(where), y1: this.box.top, y2: this.box.bottom, class: "axis" }, this.cursor);
    this.note.textContent = `${this.options.xName} ${format(where)}: ${parts.join(", ")}`;
  }

  listen() {
    const place = (event) => {
      const area = this.svg.getBoundingClientRect();
      const share = ((event.clientX - area.left) * this.svg.viewBox.baseVal.width / area.width - this.box.left) / (this.box.right - this.box.left);
      return this.value(Math.min(1, Math.max(0, share)));
    };
    let start = null;
    this.svg.addEventListener("pointerdown", (event) => { start = place(event); });
    this.svg.addEventListener("pointermove", (event) => this.read(place(event)));
    this.svg.addEventListener("pointerup", (event) => {
      const end = place(event), span = [Math.min(start ?? end, end), Math.max(start ?? end, end)];
      start = null;
      if (this.svg.viewBox.baseVal.width && Math.abs(this.x(span[1]) - this.x(span[0])) > 12) this.set(span);
    });
    this.svg.addEventListener("dblclick", () => this.set(null));
    this.svg.addEventListener("keydown", (event) => this.key(event));
    this.figure.querySelector(".whole").addEventListener("click", () => this.set(null));
  }

  // The value at a share of the axis that is in view.
  value(share) {
    const [low, high] = this.span;
    return this.options.xLog ? low * (high / low) ** share : low + (high - low) * share;
  }

  set(span) {
    this.zoom = span;
    this.draw();
  }

  key(event) {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (step) {
      const series = this.series.find((item) => !item.faint && item.x.length);
      const inside = series.x.filter((value) => value >= this.span[0] && value <= this.span[1]);
      const now = this.at === null ? -1 : inside.reduce((best, value, index) => Math.abs(value - this.at) < Math.abs(inside[best] - this.at) ? index : best, 0);
      this.read(inside[Math.min(inside.length - 1, Math.max(0, now + step))]);
    } else if (event.key === "+" || event.key === "=") this.set([this.value(0.2), this.value(0.8)]);
    else if (event.key === "-") this.set(null);
    else if (event.key === "0") this.set(null);
    else return;
    event.preventDefault();
  }
}

const legends = (id, series) => {
  const list = document.querySelector(`#${id} .legend`);
  list.replaceChildren(...series.filter((item) => !item.faint).map((item) => {
    const entry = document.createElement("li"), svg = make("svg", { viewBox: "0 0 28 8", "aria-hidden": "true" });
    make("line", { x1: 0, x2: 28, y1: 4, y2: 4, stroke: item.colour, "stroke-width": 2.5, "stroke-dasharray": item.dash ?? "" }, svg);
    entry.append(svg, item.name);
    return entry;
  }));
};

const marks = data.labels.map((multiple) => [multiple * data.window, `${multiple}W`]);
const checked = (name) => document.querySelector(`input[name="${name}"]`)?.checked ?? false;
const isThin = (values) => values.filter((value) => value !== null).length < values.length / 2;
let charts = {};

// Curves of one checkpoint: its contexts, those of the last one faintly behind them, and the last of other runs.
function positions(checkpoint) {
  const contexts = data.contexts.filter((context) => checked(`context-${context}`));
  const curve = (source, context, faint) => ({
    name: context, x: source.ends, y: source.ppl[context], colour: STYLES[context][0], dash: STYLES[context][1], faint,
    points: isThin(source.ppl[context]),
  });
  const last = data.checkpoints.at(-1);
  const behind = last === checkpoint ? [] : contexts.map((context) => curve(last, context, true));
  const others = data.baselines.filter((_, index) => checked(`baseline-${index}`)).map((other, index) => ({
    name: other.name, x: other.ends, y: other.ppl, colour: "var(--other)", dash: CYCLE[(index + 3) % CYCLE.length][1],
  }));
  return [...behind, ...contexts.map((context) => curve(checkpoint, context, false)), ...others];
}

function ratios(checkpoint) {
  return data.contexts.filter((context) => context !== "full" && checked(`context-${context}`) && checkpoint.ratio[context]).map((context) => ({
    name: `${context}/full`, x: checkpoint.ends, y: checkpoint.ratio[context], low: checkpoint.low[context],
    high: checkpoint.high[context], colour: STYLES[context][0], dash: STYLES[context][1], points: isThin(checkpoint.ratio[context]),
  }));
}

function update() {
  const slider = document.getElementById("step"), checkpoint = data.checkpoints[Number(slider.value)];
  const text = `step ${checkpoint.step.toLocaleString("en-US")} (evaluation ${checkpoint.index}${checkpoint.best ? ", the best" : ""})`;
  slider.setAttribute("aria-valuetext", text);
  document.getElementById("step-text").textContent = text;
  for (const chart of Object.values(charts)) chart.options.yLog = checked("log-y");
  for (const name of ["positions", "ratios"]) charts[name].options.xLog = checked("log-x");
  const shown = { positions: positions(checkpoint), ratios: ratios(checkpoint), evolution: data.evolution.map(named), training: training() };
  for (const [name, series] of Object.entries(shown)) {
    charts[name].show(series);
    legends(name, series);
  }
}

const named = (series, index) => ({ ...series, colour: CYCLE[index % CYCLE.length][0], dash: CYCLE[index % CYCLE.length][1] });
const training = () => data.training.step.length ? [
  { name: "as logged", x: data.training.step, y: data.training.loss, colour: "var(--full)", faint: true },
  { name: "loss, smoothed", x: data.training.step, y: data.training.smooth, colour: "var(--full)" },
] : [];

function start() {
  const position = { xName: "position", marks };
  charts = {
    positions: new Chart("positions", { ...position, title: "Perplexity by position", yName: "perplexity" }),
    ratios: new Chart("ratios", { ...position, title: "Ratio to the full context by position", yName: "ratio", one: true }),
    evolution: new Chart("evolution", { title: "Perplexity over training", xName: "step", yName: "perplexity" }),
    training: new Chart("training", { title: "Training loss", xName: "step", yName: "loss (nats)" }),
  };
  document.getElementById("controls").addEventListener("input", update);
  update();
}

// Tables: a click on a head sorts by that column; the button copies what is shown, tabs between the cells.
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
  } catch {  // a page opened from a file may not have the clipboard
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
// On paper nothing can be opened.
const details = [...document.querySelectorAll("details")];
let closed = [];
window.addEventListener("beforeprint", () => {
  closed = details.filter((item) => !item.open);
  for (const item of closed) item.open = true;
});
window.addEventListener("afterprint", () => {
  for (const item of closed) item.open = false;
});
if (data.checkpoints.length) start();
