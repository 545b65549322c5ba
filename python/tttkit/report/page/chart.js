// Charts of report.html: inline SVG with a cursor that reads values and a zoom along x.
"use strict";

const format = (value) => Math.abs(value) >= 1000 ? Math.round(value).toLocaleString("en-US")
  : Math.abs(value) < 0.01 && value !== 0 ? value.toExponential(2) : String(Number(value.toPrecision(4)));

function make(name, attributes, parent, text) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  if (text !== undefined) element.textContent = text;
  if (parent) parent.append(element);
  return element;
}

// Returns round numbers inside [low, high]: 1, 2 and 5 times powers of ten on a wide log axis, else even steps.
function ticks(low, high, log) {
  const all = [];
  if (log && high / low > 4) {
    for (let power = Math.floor(Math.log10(low)); power <= Math.log10(high); power++) {
      for (const step of high / low > 1000 ? [1] : [1, 2, 5]) all.push(step * 10 ** power);
    }
    return all.filter((tick) => tick >= low && tick <= high);
  }
  const raw = (high - low) / 6, power = 10 ** Math.floor(Math.log10(raw));
  const step = power * [1, 2, 5, 10].find((factor) => factor * power >= raw);
  for (let tick = Math.ceil(low / step) * step; tick <= high + step * 1e-9; tick += step) all.push(Number(tick.toPrecision(12)));
  return all;
}

// Returns the smallest and the largest value, moved apart by `room`, a share of their distance on the axis.
function range(values, log, room) {
  if (!values.length) return [1, 10];
  let low = Math.min(...values), high = Math.max(...values);
  if (low === high) [low, high] = log ? [low / 1.1, high * 1.1] : [low - 0.5, high + 0.5];
  const axis = scale([low, high], 0, 1, log);
  return room ? [axis.value(-room), axis.value(1 + room)] : [low, high];
}

// Returns an axis from `low` to `high` between two pixels, which converts in both directions.
function scale([low, high], from, to, log) {
  const [map, back] = log ? [Math.log, Math.exp] : [(value) => value, (value) => value];
  const perUnit = (to - from) / (map(high) - map(low));
  return { pixel: (value) => from + (map(value) - map(low)) * perUnit, value: (pixel) => back(map(low) + (pixel - from) / perUnit) };
}

const nearest = (points, at) => points.reduce((best, point) => Math.abs(point.x - at) < Math.abs(best.x - at) ? point : best);

// A chart in a figure. Its series are {name, x, y, low, high, colour, dash, faint, dots}. Hovering or the arrow keys read
// values, dragging or + and - zoom along x, and 0 or a double click shows everything again.
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

  // Keeps the points of each series that can be drawn: known values, and on a log axis only those above 0.
  show(series) {
    const { xLog, yLog } = this.options;
    const known = (value, log) => Number.isFinite(value) && (value > 0 || !log);
    this.series = series.map((item) => {
      const points = item.x.map((x, index) => ({ x, y: item.y[index], low: item.low?.[index], high: item.high?.[index] }));
      for (const point of points) if (!known(point.low, yLog) || !known(point.high, yLog)) point.low = point.high = null;
      return { ...item, points: points.filter(({ x, y }) => known(x, xLog) && known(y, yLog)) };
    }).filter((item) => item.points.length);
    this.draw();
  }

  draw(width = Math.max(280, this.figure.clientWidth)) {
    if (!this.series) return;
    const height = Math.min(360, Math.max(220, width * 0.5)), { xLog, yLog, one } = this.options;
    this.box = { left: 64, right: width - 28, top: 10, bottom: height - 40 };
    this.svg.replaceChildren();
    this.svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    this.whole = range(this.series.flatMap(({ points }) => points.map(({ x }) => x)), xLog, 0);
    this.span = this.zoom ?? this.whole;
    const inView = this.series.flatMap(({ points }) => this.inView(points));
    const rise = range([...inView.flatMap(({ y, low, high }) => [y, low ?? y, high ?? y]), ...(one ? [1] : [])], yLog, 0.06);
    this.x = scale(this.span, this.box.left, this.box.right, xLog);
    this.y = scale(rise, this.box.bottom, this.box.top, yLog);
    this.axes(rise);
    const { left, right, top, bottom } = this.box, clip = make("clipPath", { id: `${this.figure.id}-clip` }, this.svg);
    make("rect", { x: left, y: top, width: right - left, height: bottom - top }, clip);
    const plot = make("g", { "clip-path": `url(#${clip.id})` }, this.svg);
    for (const series of this.series) this.line(series, plot);
    this.cursor = make("g", { class: "cursor" }, this.svg);
    if (this.at !== null) this.read(this.at);
  }

  inView(points) {
    return points.filter(({ x }) => x >= this.span[0] && x <= this.span[1]);
  }

  axes(rise) {
    const { marks, xName, yName, xLog, yLog, one } = this.options, { left, right, top, bottom } = this.box;
    const across = (y, name) => make("line", { x1: left, x2: right, y1: y, y2: y, class: name }, this.svg);
    const text = (x, y, words, more) => make("text", { x, y, "text-anchor": "middle", ...more }, this.svg, words);
    for (const tick of ticks(...rise, yLog)) {
      across(this.y.pixel(tick), "grid");
      text(left - 6, this.y.pixel(tick) + 4, format(tick), { "text-anchor": "end" });
    }
    if (one) across(this.y.pixel(1), "one");
    let last = -Infinity;
    for (const [tick, words] of marks ?? ticks(...this.span, xLog).map((tick) => [tick, format(tick)])) {
      if (tick < this.span[0] || tick > this.span[1]) continue;
      const x = this.x.pixel(tick);
      if (marks) make("line", { x1: x, x2: x, y1: top, y2: bottom, class: "grid" }, this.svg);
      if (x - last < 34) continue;
      last = x;
      text(x, bottom + 16, words);
    }
    across(bottom, "axis");
    text((left + right) / 2, bottom + 34, xName);
    text(12, (top + bottom) / 2, yName, { transform: `rotate(-90 12 ${(top + bottom) / 2})` });
  }

  line({ points, colour, dash, faint, dots }, plot) {
    const pair = (x, y) => `${this.x.pixel(x).toFixed(1)},${this.y.pixel(y).toFixed(1)}`;
    const band = points.filter(({ low }) => low !== null);
    if (dots || points.length === 1) {
      for (const { x, low, high } of band) {
        make("line", { x1: this.x.pixel(x), x2: this.x.pixel(x), y1: this.y.pixel(low), y2: this.y.pixel(high), stroke: colour }, plot);
      }
      for (const { x, y } of points) make("circle", { cx: this.x.pixel(x), cy: this.y.pixel(y), r: 3, fill: colour, class: faint ? "faint" : "" }, plot);
      return;
    }
    const edge = [...band.map(({ x, high }) => pair(x, high)), ...band.map(({ x, low }) => pair(x, low)).reverse()];
    if (edge.length) make("polygon", { points: edge.join(" "), fill: colour, class: "band" }, plot);
    const path = points.map(({ x, y }) => pair(x, y)).join(" ");
    make("polyline", { points: path, stroke: colour, "stroke-dasharray": dash ?? "", class: faint ? "line faint" : "line" }, plot);
  }

  // Shows the values of every series at the point of the first series nearest to `at`; a series without a point there
  // shows its nearest one and says where that is.
  read(at) {
    this.at = at;
    this.cursor.replaceChildren();
    const nearby = this.series.filter(({ faint, points }) => !faint && this.inView(points).length)
      .map((series) => ({ ...series, point: nearest(this.inView(series.points), at) }));
    if (!nearby.length) return;
    const where = nearby[0].point.x, x = this.x.pixel(where);
    make("line", { x1: x, x2: x, y1: this.box.top, y2: this.box.bottom, class: "axis" }, this.cursor);
    const parts = nearby.map(({ name, colour, point }) => {
      make("circle", { cx: this.x.pixel(point.x), cy: this.y.pixel(point.y), r: 4, fill: colour }, this.cursor);
      const interval = point.low === null ? "" : ` [${format(point.low)}, ${format(point.high)}]`;
      return `${name} ${format(point.y)}${interval}${point.x === where ? "" : ` at ${format(point.x)}`}`;
    });
    this.note.textContent = `${this.options.xName} ${format(where)}: ${parts.join(", ")}`;
  }

  listen() {
    const place = (event) => {
      const area = this.svg.getBoundingClientRect();
      const pixel = (event.clientX - area.left) * this.svg.viewBox.baseVal.width / area.width;
      return Math.min(this.box.right, Math.max(this.box.left, pixel));
    };
    let start = null;
    this.svg.addEventListener("pointerdown", (event) => {
      start = place(event);
      this.svg.setPointerCapture(event.pointerId);
    });
    this.svg.addEventListener("pointermove", (event) => {
      const now = place(event), { top, bottom } = this.box;
      this.read(this.x.value(now));
      if (start === null) return;
      make("rect", { x: Math.min(start, now), y: top, width: Math.abs(now - start), height: bottom - top, class: "drag" }, this.cursor);
    });
    this.svg.addEventListener("pointerup", (event) => {
      const ends = [start ?? place(event), place(event)].sort((a, b) => a - b);
      start = null;
      if (ends[1] - ends[0] > 12) this.set(ends.map(this.x.value));
    });
    this.svg.addEventListener("pointercancel", () => { start = null; });
    this.svg.addEventListener("dblclick", () => this.set(null));
    this.svg.addEventListener("keydown", (event) => this.key(event));
    this.figure.querySelector(".whole").addEventListener("click", () => this.set(null));
  }

  set(span) {
    this.zoom = span;
    this.draw();
  }

  // Zooms by a factor around the cursor, never beyond the whole range.
  magnify(factor) {
    const { left, right } = this.box, middle = this.at === null ? (left + right) / 2 : this.x.pixel(this.at);
    const ends = [left, right].map((edge) => this.x.value(middle + (edge - middle) * factor));
    const span = [Math.max(ends[0], this.whole[0]), Math.min(ends[1], this.whole[1])];
    this.set(span[0] === this.whole[0] && span[1] === this.whole[1] ? null : span);
  }

  key(event) {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key], factor = { "+": 0.6, "=": 0.6, "-": 1 / 0.6 }[event.key];
    const first = this.series.find(({ faint }) => !faint);
    if (step && first) {
      const points = this.inView(first.points);
      const now = this.at === null ? -1 : points.indexOf(nearest(points, this.at));
      this.read(points[Math.min(points.length - 1, Math.max(0, now + step))].x);
    } else if (factor) this.magnify(factor);
    else if (event.key === "0") this.set(null);
    else return;
    event.preventDefault();
  }
}
