"use strict";
// What the HTML reports have in common: numbers, elements, plots whose cursors and zoom move together.
const ui = (() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const element = id => document.getElementById(id);
  const color = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const every = [];

  // Numbers and times.

  const pad = number => String(number).padStart(2, "0");
  const clock = seconds => {
    const whole = Math.floor(seconds);
    const part = seconds - whole ? (seconds - whole).toFixed(1).slice(1) : "";
    return `${pad(Math.floor(whole / 3600))}:${pad(Math.floor(whole / 60) % 60)}:${pad(whole % 60)}${part}`;
  };
  const figure = value => {
    if (value == null) return "–";
    const size = Math.abs(value);
    const digits = size >= 100 || Number.isInteger(value) ? 0 : size >= 10 ? 1 : size >= 1 ? 2 : 3;
    return value.toLocaleString("en", { maximumFractionDigits: digits });
  };
  const compact = value =>
    Math.abs(value) >= 10000 ? value.toLocaleString("en", { notation: "compact" }) : figure(value);

  // Of a logarithmic axis the marks at 1, 2 and 5 are labelled.
  const sparse = value => (value == null ? "" : /^0*[125]/.test(String(value).replace(/^0?\.0*/, "")) ? compact(value) : "");

  const make = (tag, text, parent, kind) => {
    const node = document.createElement(tag);
    if (text != null) node.textContent = text;
    if (kind) node.className = kind;
    if (parent) parent.append(node);
    return node;
  };

  function table(parent, heads, rows) {
    const node = make("table", null, make("div", null, parent, "scroll"));
    const head = make("tr", null, make("thead", null, node));
    heads.forEach(text => make("th", text, head));
    const body = make("tbody", null, node);
    for (const row of rows) {
      const line = make("tr", null, body);
      for (const cell of row) {
        const td = make("td", typeof cell === "number" ? figure(cell) : cell, line);
        if (typeof cell === "number") td.className = "number";
        if (cell === "yes") td.className = "yes";
      }
    }
  }

  // Plots.

  const axis = options => ({
    stroke: () => color("--soft"),
    grid: { stroke: () => color("--grid"), width: 1 },
    ticks: { stroke: () => color("--grid"), width: 1 },
    font: "11px system-ui, sans-serif",
    ...options,
  });

  const series = (label, stroke, options = {}) => ({
    label,
    stroke: () => color(stroke) || stroke,
    width: 1.6,
    value: (_, value) => figure(value),
    points: { show: false },
    ...options,
  });
  const dashed = { dash: [6, 4], width: 1.2 };
  const dots = (stroke, size = 7) => ({
    width: 0,
    paths: () => null,
    points: { show: true, size, fill: () => color(stroke) || stroke, width: 0 },
  });

  const mark = (view, index) => view.series[index].stroke(view, index);
  // Steps between the marks of the time axis, seconds.
  const steps = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400, 864000];

  // From zero, with a little air; all of one value still gets a scale.
  const nice = (min, max) => {
    if (min == null) return [0, 1];
    const low = Math.min(0, min);
    return [low, max > low ? max + (max - low) * 0.06 : low + 1];
  };

  // Plots with one x axis.
  function group(key) {
    const sync = uPlot.sync(key);
    const plots = [];
    let zooming = false;
    function zoom(view, scale) {
      if (scale !== "x" || zooming) return;
      zooming = true;
      const { min, max } = view.scales.x;
      for (const other of plots) if (other !== view) other.setScale("x", { min, max });
      zooming = false;
    }
    return { key: sync.key, plots, zoom };
  }

  // A card with a heading, a line about the unit, and a plot of `lines` over the first of `values`.
  function plot(parent, title, unit, lines, values, options) {
    const card = make("figure", null, parent, "plot");
    card.style.margin = "0";
    make("h2", title, card);
    make("p", unit, card);
    const place = make("div", null, card);
    const width = () => Math.max(260, place.clientWidth);
    const height = options.height || 220;
    const { group, x, onclick } = options;
    const view = new uPlot(
      {
        width: width(),
        height,
        series: [x.series, ...lines],
        scales: {
          x: { time: false },
          y: { distr: options.log ? 3 : 1, ...(options.log ? {} : { range: options.range || ((_, min, max) => nice(min, max)) }) },
        },
        axes: [
          axis(x.axis),
          axis({ size: options.labels ? 74 : 52, values: options.labels || ((_, ticks) => ticks.map(options.log ? sparse : compact)), splits: options.splits }),
        ],
        cursor: { sync: { key: group.key, setSeries: false }, drag: { x: true, y: false, dist: 6 }, focus: { prox: -1 } },
        legend: { live: true, markers: { width: 2, stroke: mark, fill: mark } },
        hooks: { setScale: [group.zoom] },
      },
      values,
      place,
    );
    if (onclick)
      view.over.addEventListener("click", () => {
        if (view.cursor.idx != null && view.select.width === 0) onclick(view.cursor.idx);
      });
    new ResizeObserver(() => view.setSize({ width: width(), height })).observe(place);
    group.plots.push(view);
    every.push(view);
    return view;
  }

  // An x axis of simulated time.
  const timeAxis = {
    series: { label: "Time", value: (_, value) => (value == null ? "–" : clock(value)) },
    axis: { values: (_, ticks) => ticks.map(clock), size: 34, space: 70, incrs: steps },
  };

  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => every.forEach(view => view.redraw()));
  return { data, element, color, pad, clock, figure, compact, make, table, axis, series, dashed, dots, group, plot, timeAxis };
})();
