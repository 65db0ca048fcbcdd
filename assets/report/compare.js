"use strict";
(() => {
  const { data, element, compact, figure, make, series, dashed } = ui;
  const { runs, rows, over } = data;
  const hue = index => `--s${index % 8}`;
  // Beyond eight runs colours repeat, with another stroke.
  const stroke = index => (index < 8 ? {} : { dash: [[7, 3], [2, 3]][(Math.floor(index / 8) - 1) % 2] });
  const row = key => rows.find(found => found.key === key);
  const number = (value, decimals) =>
    value == null ? "–" : value.toLocaleString("en", { minimumFractionDigits: decimals, maximumFractionDigits: decimals });
  const paint = (node, index) => node.style.setProperty("--run", `var(${hue(index)})`);
  const plots = element("plots");
  const shown = runs.map(() => true);
  // Which runs the lines of a plot belong to, from its second series on.
  const owners = new Map();

  function lead() {
    const count = runs.length;
    const read = runs.filter(run => !run.simulated).length;
    const parts = [count === 1 ? "1 run" : `${count} runs side by side`];
    if (read) parts.push(`${read} read from ${read === 1 ? "a report, which holds" : "reports, which hold"} no time series`);
    const bounds = data.sla && [["TTFT", data.sla.ttft_ms], ["ITL", data.sla.itl_ms], ["E2E", data.sla.e2e_ms]]
      .filter(([, bound]) => bound != null).map(([name, bound]) => `${name} ≤ ${figure(bound)} ms`);
    if (bounds) parts.push(`good requests keep ${bounds.join(", ")}`);
    element("lead").textContent = `${parts.join(" · ")}.`;
  }

  function chips() {
    runs.forEach((run, index) => {
      const chip = make("button", null, element("runs"));
      chip.type = "button";
      chip.title = `${run.file}${run.timing ? `\n${run.timing}` : ""}`;
      chip.setAttribute("aria-pressed", "true");
      paint(chip, index);
      make("i", null, chip);
      make("span", run.name, chip);
      if (index === 0 && runs.length > 1) make("small", "baseline", chip);
      chip.addEventListener("click", () => {
        shown[index] = !shown[index];
        chip.setAttribute("aria-pressed", String(shown[index]));
        for (const [view, lines] of owners)
          lines.forEach((run, line) => run === index && view.setSeries(line + 1, { show: shown[index] }));
      });
    });
  }

  // The best of what people ask first.
  function highlights() {
    const asked = [
      ["Best p90 TTFT", "p90_ttft_ms", "ms"], ["Best p90 ITL", "p90_itl_ms", "ms"],
      ["Best SLA attainment", "sla_attainment_percent", "%"], ["Fewest GPU-hours", "gpu_hours", ""],
      ["Best goodput per GPU-hour", "goodput_per_gpu_hour", ""], ["Most output per GPU-hour", "output_tokens_per_gpu_hour", "tokens"],
      ["Lowest cost (estimate)", "estimated_usd", "USD"],
    ];
    for (const [label, key, unit] of asked) {
      const found = row(key);
      if (!found || runs.length < 2) continue;
      if (key === "output_tokens_per_gpu_hour" && row("goodput_per_gpu_hour")) continue;
      const winners = found.best.flatMap((best, index) => (best ? [index] : []));
      const box = make("div", null, element("figures"));
      make("dt", label, box);
      const dd = make("dd", null, box);
      const winner = winners.length ? winners[0] : found.values.findIndex(value => value != null);
      const name = make("b", winners.length ? winners.map(index => runs[index].name).join(", ") : "all equal", dd);
      if (winners.length === 1) paint(name, winner);
      else name.style.color = "var(--ink)";
      const change = found.changes[winner];
      const against = change == null ? "" : `, ${change > 0 ? "+" : ""}${number(change, 1)} %`;
      make("small", `${figure(found.values[winner])}${unit ? ` ${unit}` : ""}${against}`, dd);
    }
  }

  function table() {
    const node = element("table");
    const head = make("tr", null, node.tHead);
    make("th", "Figure", head);
    runs.forEach((run, index) => {
      const cell = make("th", null, head);
      paint(cell, index);
      make("i", null, cell);
      cell.append(run.name);
    });
    const body = node.tBodies[0];
    for (const found of rows) {
      if (found.group) {
        const group = make("tr", null, body, "group");
        make("th", found.group, group).scope = "rowgroup";
        make("td", null, group).colSpan = runs.length;
      }
      const line = make("tr", null, body);
      make("th", found.label, line).scope = "row";
      found.values.forEach((value, index) => {
        const cell = make("td", number(value, found.decimals), line, found.best[index] ? "best" : "");
        if (index === 0) return;
        const change = found.changes[index];
        const small = make("small", "", cell);
        if (change == null) return;
        const better = found.better && Math.abs(change) >= 0.05 && change > 0 === (found.better === "higher");
        const worse = found.better && Math.abs(change) >= 0.05 && !better;
        small.className = better ? "good" : worse ? "bad" : "";
        small.textContent = Math.abs(change) < 0.05 ? "=" : `${change > 0 ? "▲" : "▼"} ${number(Math.abs(change), 1)} %`;
      });
    }
  }

  // Plots. All runs share the axes of each.

  const share = ui.group("share");
  const time = ui.group("time");
  const percentile = {
    series: { label: "Percentile", value: (_, value) => (value == null ? "–" : `p${value}`) },
    axis: { values: (_, ticks) => ticks.map(tick => `p${tick}`), size: 34, space: 44, incrs: [1, 5, 10, 20, 25] },
  };

  function draw(title, unit, x, lines, options) {
    const columns = lines.map(line => line.values);
    const specs = lines.map(({ label, run, options: own }) => series(label, hue(run), { ...stroke(run), ...own, show: shown[run] }));
    if (options.bound != null) {
      specs.push(series("Bound", "--sla", dashed));
      columns.push(x.map(() => options.bound));
    }
    const view = ui.plot(plots, title, unit, specs, [x, ...columns], options);
    owners.set(view, lines.map(line => line.run));
    const absent = runs.filter((_, index) => !lines.some(line => line.run === index)).map(run => run.name);
    if (absent.length && options.why) make("p", `${absent.join(", ")}: ${options.why}.`, view.root.closest("figure"), "absent");
    return view;
  }

  // Where the slowest is far above the rest, equal ratios get equal room.
  function wide(columns) {
    const values = columns.flat().filter(value => value > 0);
    return values.length > 0 && Math.max(...values) > 40 * Math.min(...values) && columns.flat().every(value => value == null || value > 0);
  }

  function distribution(title, columns, bound) {
    const x = [...Array(101).keys()];
    const lines = columns.flatMap((values, run) => (values.some(value => value != null) ? [{
      label: runs[run].name, run, values,
      options: runs[run].simulated ? {} : { spanGaps: true, points: { show: true, size: 6 } },
    }] : []));
    if (!lines.length) return;
    const log = wide(lines.map(line => line.values));
    const note = `milliseconds${log ? ", logarithmic" : ""}; so many percent of the ${title.startsWith("TTFT") ? "requests" : "gaps"} lie below`;
    draw(title, note, x, lines, { group: share, x: percentile, bound, log });
  }

  const ofRuns = (columns, options) => columns.flatMap((values, run) => (values ? [{ label: runs[run].name, run, values, options }] : []));
  const step = { paths: uPlot.paths.stepped({ align: -1 }) };
  const noSeries = "a report holds no time series";

  function overTime(title, unit, lines, options = {}) {
    if (!lines.length) return missing(title, unit, options.none || "Reports read from files hold no time series.");
    draw(title, unit, lines[0].values.length === data.t.length ? data.t : data.spans, lines, { group: time, x: ui.timeAxis, why: noSeries, ...options });
  }

  function missing(title, unit, why) {
    const card = make("figure", null, plots, "plot");
    card.style.margin = "0";
    make("h2", title, card);
    make("p", unit, card);
    make("p", why, card);
  }

  // Bars of one figure; with `parts` of its pools.
  function bars(title, unit, key, decimals, parts) {
    const found = row(key);
    if (!found) return;
    const card = make("figure", null, element("bars"), "plot");
    card.style.margin = "0";
    make("h2", title, card);
    make("p", unit, card);
    const list = make("div", null, card, "bars");
    const most = Math.max(...found.values.filter(value => value != null), 1e-12);
    found.values.forEach((value, index) => {
      const line = make("div", null, list, "row");
      paint(line, index);
      make("span", runs[index].name, line, "name").title = runs[index].name;
      const track = make("span", null, line, "track");
      const split = (parts || []).map(([name, key]) => [name, row(key)?.values[index]]).filter(([, part]) => part != null);
      const pieces = split.length > 1 ? split : [["", value]];
      for (const [, part] of pieces) make("i", null, track).style.width = `${((part || 0) / most) * 100}%`;
      make("span", number(value, decimals), line, "value");
      if (split.length > 1)
        make("span", split.map(([name, part]) => `${name} ${number(part, decimals)}`).join(" · "), line, "parts");
    });
  }

  const decimals = key => {
    const values = row(key)?.values.filter(value => value > 0) || [];
    const least = Math.min(...values);
    return least >= 100 ? 0 : least >= 1 ? 2 : 4;
  };

  // The page.

  lead();
  chips();
  highlights();
  bars("GPU-Hours", "from start to removal of every worker, busy or not", "gpu_hours", decimals("gpu_hours"), [
    ["aggregated", "aggregated_gpu_hours"], ["prefill", "prefill_gpu_hours"], ["decode", "decode_gpu_hours"],
  ]);
  if (row("goodput_per_gpu_hour"))
    bars("Goodput per GPU-Hour", "requests that kept every bound", "goodput_per_gpu_hour", 0);
  else bars("Output per GPU-Hour", "output tokens; without bounds there is no goodput", "output_tokens_per_gpu_hour", 0);
  if (row("estimated_usd"))
    bars("Cost, Estimate", "US dollars: GPU-hours times a price (see the notes)", "estimated_usd", decimals("estimated_usd"));
  distribution("TTFT Percentiles", data.ttft, data.sla?.ttft_ms);
  distribution("ITL Percentiles", data.itl, data.sla?.itl_ms);
  const smooth = { spanGaps: true };
  const latency = (title, columns, what, bound) => {
    const lines = ofRuns(columns, smooth);
    const log = wide(lines.map(line => line.values));
    overTime(title, `milliseconds${log ? ", logarithmic" : ""}; 90 % of the requests that arrived then ${what}`, lines, { bound, log });
  };
  latency("TTFT over Time", over.ttft, "waited no longer", data.sla?.ttft_ms);
  latency("ITL over Time", over.itl, "had no longer mean gap", data.sla?.itl_ms);
  overTime("Ready Workers", "workers that take requests", over.ready.map(({ run, pool, values }) => ({
    run, values,
    label: pool === "aggregated" ? runs[run].name : `${runs[run].name}, ${pool}`,
    options: { ...step, ...(pool === "prefill" ? { dash: [3, 3] } : {}) },
  })));
  overTime("GPUs Provisioned", "starting and draining workers included", ofRuns(over.gpus, step));
  overTime("Throughput over Time", "output tokens per second", ofRuns(over.tokens));
  overTime("Goodput over Time", "requests per second that completed within every bound", ofRuns(over.good), {
    none: runs.some(run => run.simulated) ? "No bounds are given, so there is no goodput." : undefined,
    why: undefined,
  });
  table();
  for (const note of data.notes) make("li", note, element("notes").querySelector("ul"));
  element("notes").hidden = !data.notes.length;
})();
