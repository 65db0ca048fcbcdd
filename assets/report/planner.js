"use strict";
(() => {
  const { data, element, clock, figure, make, table, series, dashed, dots } = ui;
  const times = data.t;
  const pools = data.pools;
  const group = ui.group("time");
  const plots = group.plots;
  let chosen = null;

  const plot = (title, unit, lines, values, options = {}) =>
    ui.plot(element("plots"), title, unit, lines, [times, ...values], { group, x: ui.timeAxis, onclick: choose, ...options });

  const constant = value => times.map(() => value);
  const poolName = name => ({ agg: "Aggregated", prefill: "Prefill", decode: "Decode" })[name] || name;
  const hues = ["--c1", "--c2"];

  function replicas() {
    const lines = [];
    const values = [];
    pools.forEach((pool, index) => {
      const hue = hues[index];
      const name = poolName(pool.name);
      const step = { paths: uPlot.paths.stepped({ align: 1 }) };
      const add = (label, column, options) => {
        if (column.some(value => value)) {
          lines.push(series(`${name} ${label}`, hue, options));
          values.push(column);
        }
      };
      lines.push(series(`${name} ready`, hue, { ...step, width: 2.2 }));
      values.push(pool.ready);
      add("starting", pool.starting, { ...step, dash: [2, 3] });
      add("draining", pool.draining, { ...step, dash: [8, 3, 2, 3], width: 1 });
      add("requested", pool.asked, dots(hue));
      if (pool.bound.some(bound => bound > 1)) add("lower bound", pool.bound, { ...step, ...dashed });
    });
    plot("Replica Counts", "workers", lines, values);
  }

  const pair = (title, unit, [observed, other], name, sla) => {
    const lines = [series("Observed", "--c1"), series(name, "--c2", { spanGaps: true })];
    const values = [observed, other];
    if (sla != null) {
      lines.push(series("SLA", "--sla", dashed));
      values.push(constant(sla));
    }
    plot(title, unit, lines, values);
  };

  function engineLoad(pool, title, unit, column, limit) {
    // One line per engine; where they are many, the heaviest and the mean.
    const names = new Map();
    for (const tick of pool.engines) for (const [worker, rank] of tick) names.set(`${worker}:${rank}`, names.size);
    const lines = [];
    const values = [];
    if (names.size > 0 && names.size <= 40) {
      const columns = new Map([...names.keys()].map(name => [name, times.map(() => null)]));
      pool.engines.forEach((tick, index) => {
        for (const engine of tick) columns.get(`${engine[0]}:${engine[1]}`)[index] = engine[column];
      });
      [...columns].forEach(([name, line], index) => {
        const hue = `hsl(${Math.round((index * 360) / columns.size)} 62% 52%)`;
        lines.push(series(name, hue, { width: 1.1 }));
        values.push(line);
      });
    } else {
      const each = pick => pool.engines.map(tick => (tick.length ? pick(tick.map(engine => engine[column])) : null));
      lines.push(series("Heaviest", "--c2"), series("Mean", "--c1"));
      values.push(each(of => Math.max(...of)), each(of => of.reduce((a, b) => a + b, 0) / of.length));
    }
    if (limit) {
      lines.push(series("Capacity", "--sla", dashed));
      values.push(constant(limit));
    }
    const view = plot(title, unit, lines, values);
    if (lines.length > 8) view.root.querySelector(".u-legend").style.display = "none";
  }

  const shades = {
    scale_up: "#2e9e4f", scale_down: "#2f6fd6", scale_down_capped_by_throughput: "#8a3ffc", no_change: "#8d97a3",
    scale_down_refused_consolidation: "#0f9aa8", disabled: "#c3cad2", no_fpm_data: "#d9b400", scaling_in_progress: "#f08c1a",
    worker_count_mismatch: "#d63b3b", insufficient_data: "#e879b0", scale: "#2e9e4f", set_lower_bound: "#2f6fd6",
    no_traffic_data: "#d9b400", predict_failed: "#d63b3b", model_not_ready: "#f08c1a", partner_not_ready: "#e879b0",
  };

  function decisions(title, key) {
    const reasons = [...new Set(pools.flatMap(pool => pool[key]).filter(Boolean))];
    if (!reasons.length) return;
    const lines = [];
    const values = [];
    for (const reason of reasons)
      pools.forEach((pool, index) => {
        const level = pools.length - index;
        const column = pool[key].map(found => (found === reason ? level : null));
        if (column.every(value => value == null)) return;
        const label = pools.length > 1 ? `${pool.name} ${reason}` : reason;
        lines.push(series(label, shades[reason] || "#8d97a3", { ...dots(shades[reason] || "#8d97a3", 6), value: (_, v) => (v == null ? "" : "●") }));
        values.push(column);
      });
    const levels = pools.map((_, index) => index + 1);
    plot(title, "one mark per tick; click for the reasons", lines, values, {
      height: 120,
      range: () => [0.4, pools.length + 0.6],
      splits: () => levels,
      labels: () => levels.map(level => pools[pools.length - level].name),
    });
  }

  // What a tick came to.

  function choose(index) {
    if (index == null || index < 0 || index >= times.length) return;
    chosen = index;
    const tick = data.ticks[index];
    const body = element("tick-body");
    body.replaceChildren();
    element("tick-time").textContent = `${clock(times[index])} (t = ${figure(times[index])} s)`;
    for (const [, sentence] of tick.text) make("p", `${sentence}.`, body, "wide");
    for (const opinion of tick.load || []) {
      const part = make("div", null, body);
      const title = make("h3", `Load loop, ${opinion.pool} `, part);
      const ready = pools.find(pool => pool.name === opinion.pool).ready[index];
      const wants = opinion.wanted == null ? opinion.reason || "no opinion" : `${ready} → ${opinion.wanted}`;
      make("span", wants, title, opinion.wanted != null && opinion.wanted !== ready ? "tag decided" : "tag");
      make("p", opinion.because, part);
      if (opinion.options.length)
        table(part, ["Replicas", "Would give (worst engine)", ""], opinion.options.map(([n, quantity, value, unit]) => [
          n, `${quantity} ${figure(value)} ${unit}`, n === ready ? "now" : "",
        ]));
      if (opinion.checks.length)
        table(part, ["Engine", "Compared", "Value", "", "Bound", "Holds"], opinion.checks.map(
          ([worker, rank, quantity, value, sign, bound, unit, holds]) => [
            `${worker}:${rank}`, `${quantity}${unit ? `, ${unit}` : ""}`, value, sign, bound, holds ? "yes" : "no",
          ],
        ));
    }
    for (const sizing of tick.sizing || []) {
      const part = make("div", null, body);
      make("h3", `Throughput loop, ${sizing.pool}`, part);
      table(part, ["", ""], [
        ["Predicted demand, requests/s", sizing.demand_rps],
        ["One replica sustains, requests/s", sizing.engine_rps],
        ["in batches of", sizing.batch],
        ["with TTFT, ms", sizing.ttft_ms],
        ["and ITL, ms", sizing.itl_ms],
        ["Keeps the bounds", sizing.keeps_bounds ? "yes" : "no"],
        ["Replicas for the demand", sizing.replicas],
      ].filter(row => row[1] != null));
      table(part, ["Replicas", "Share of capacity used"], sizing.options.map(option => [option.replicas, option.value]));
    }
    if (tick.limits) make("p", `Limits: ${tick.limits.join("; ")}`, body, "wide");
    element("tick").hidden = false;
    document.body.classList.add("open");
    for (const view of plots) view.setCursor({ left: view.valToPos(times[index], "x"), top: view.cursor.top < 0 ? 20 : view.cursor.top }, false);
  }

  function leave() {
    chosen = null;
    element("tick").hidden = true;
    document.body.classList.remove("open");
  }

  // The tick that an event came from, and why.
  function origin(at, pool) {
    const index = times.findIndex(time => Math.abs(time - at) < 1e-6);
    if (index < 0) return [null, ""];
    const [, sentence] = data.ticks[index].text.find(([name]) => name === pool) || [];
    return [index, (sentence || "").replace(/^[^:]*: /, "")];
  }

  function events() {
    const body = element("event-table").tBodies[0];
    for (const [at, pool, from, to] of data.events) {
      const [index, why] = origin(at, pool);
      const row = make("tr", null, body);
      [clock(at), pool, figure(from), figure(to), why].forEach(text => make("td", text, row));
      if (index == null) continue;
      row.className = "link";
      row.tabIndex = 0;
      row.addEventListener("click", () => choose(index));
      row.addEventListener("keydown", event => event.key === "Enter" && choose(index));
    }
    if (!data.events.length) make("td", "none", make("tr", null, body)).colSpan = 5;
  }

  // The page.

  for (const [name, value] of data.figures) {
    const box = make("div", null, element("figures"));
    make("dt", name, box);
    make("dd", figure(value), box);
  }
  replicas();
  pair("Request Rate (Observed vs Predicted)", "requests per second", data.rate, "Predicted");
  pair("Observed and Estimated TTFT vs SLA", "milliseconds; observed: mean since the tick before; estimated: worst engine", data.ttft, "Estimated", data.is_sla ? data.ttft_ms : null);
  pair("Observed and Estimated ITL vs SLA", "milliseconds; observed: mean since the tick before; estimated: worst engine", data.itl, "Estimated", data.is_sla ? data.itl_ms : null);
  pools.forEach((pool, index) => {
    const which = pools.length > 1 ? poolName(pool.name) : "";
    if (pool.name !== "decode") engineLoad(pool, `${which || "Prefill"} Engine Load`, "queued prompt tokens per engine", 2);
    if (pool.name !== "prefill")
      engineLoad(pool, `${pools.length > 1 ? which : "Decode"} Engine Load`, "KV tokens in use and waited for per engine", 3, data.kv_tokens[index]);
  });
  if (data.capacity.some(column => column.some(value => value != null)))
    plot("Engine Capacity", "requests per second and replica", pools.length > 1
      ? [series("Prefill", "--c1", { spanGaps: true }), series("Decode", "--c2", { spanGaps: true })]
      : [series("Replica", "--c1", { spanGaps: true })], pools.length > 1 ? data.capacity : [data.capacity[1]]);
  plot("Sequence Lengths (Observed vs Predicted)", "tokens", [
    series("ISL", "--c1"), series("ISL predicted", "--c1", { ...dashed, spanGaps: true }),
    series("OSL", "--c2"), series("OSL predicted", "--c2", { ...dashed, spanGaps: true }),
  ], [...data.isl, ...data.osl]);
  decisions("Load Scaling Decisions", "load");
  decisions("Throughput Scaling Decisions", "throughput");
  plot("Cumulative GPU Hours", "ready workers, as in the summary line", [series("GPU hours", "--c1")], [data.gpu_hours]);
  events();
  element("config").textContent = JSON.stringify(data.config, null, 2);
  element("before").addEventListener("click", () => choose(chosen - 1));
  element("after").addEventListener("click", () => choose(chosen + 1));
  element("close").addEventListener("click", leave);
  addEventListener("keydown", event => {
    if (chosen == null) return;
    if (event.key === "ArrowLeft") choose(chosen - 1);
    if (event.key === "ArrowRight") choose(chosen + 1);
    if (event.key === "Escape") leave();
  });
  // A link may name a tick by its second: report.html#t=300
  const named = /^#t=([\d.]+)$/.exec(location.hash);
  // Plots know their scales once they were drawn.
  if (named) setTimeout(() => choose(times.findIndex(time => time >= Number(named[1]))));
})();
