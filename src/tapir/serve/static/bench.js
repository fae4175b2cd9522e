// The threshold bench: everything is computed here from rows per task and MFD, so that a slider answers at once.
"use strict";
(async () => {
  const bench = document.getElementById("bench");
  if (!bench) return;
  const $ = (id) => document.getElementById(id);
  const data = await (await fetch(bench.dataset.source)).json();
  const SVG = "http://www.w3.org/2000/svg";
  const DECIMALS = 1e6;
  const count = new Intl.NumberFormat("en");
  const money = new Intl.NumberFormat("en", { minimumFractionDigits: 2, maximumFractionDigits: 2 });

  // Rows of all tasks by MFD, hardest first: what a quantile cuts.
  const byMfd = new Map();
  for (const one of data.tasks) one.mfd.forEach((mfd, i) => byMfd.set(mfd, (byMfd.get(mfd) || 0) + one.rows[i]));
  const ranked = [...byMfd].sort((a, b) => b[0] - a[0]);

  // In the order of the settings: equal remainders go to the task named first.
  const target = new Map([...Object.keys(data.target), ...data.all_tasks].map((task) => [task, data.target[task] || 0]));
  const state = { delta: data.threshold, quantile: null };

  const above = (one, delta) => one.mfd.reduce((sum, mfd, i) => sum + (mfd > delta ? one.rows[i] : 0), 0);
  const rowsOf = (one) => one.rows.reduce((a, b) => a + b, 0);

  // The smallest delta that leaves at most this share above it, never below 0: as tapir.difficulty does it.
  const deltaOf = (share) => {
    const allowed = Math.floor(share * data.rows);
    let seen = 0;
    for (const [mfd, rows] of ranked) {
      seen += rows;
      if (seen > allowed) return Math.max(0, mfd);
    }
    return 0;
  };

  // Whole counts that follow the shares and add up to the total (largest remainder), as tapir.balance does it.
  const quotas = (shares, total) => {
    const weight = [...shares.values()].reduce((a, b) => a + b, 0);
    const exact = new Map([...shares].map(([task, share]) => [task, weight > 0 ? (total * share) / weight : 0]));
    const found = new Map([...exact].map(([task, value]) => [task, Math.floor(value)]));
    const missing = weight > 0 ? total - [...found.values()].reduce((a, b) => a + b, 0) : 0;
    const order = [...exact.keys()].sort((a, b) => found.get(a) - exact.get(a) - (found.get(b) - exact.get(b)));
    for (const task of order.slice(0, missing)) found.set(task, found.get(task) + 1);
    return found;
  };

  const element = (name, attributes = {}, text = "") => {
    const made = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    if (text) made.textContent = text;
    return made;
  };

  const fact = (name, value, meaning) => {
    const box = document.createElement("div");
    for (const [tag, style, text] of [["dt", "", name], ["dd", "value", value], ["dd", "", meaning]]) {
      const made = document.createElement(tag);
      if (style) made.className = style;
      made.textContent = text;
      box.append(made);
    }
    return box;
  };

  // One row of the table for each task that D has; its cells are filled by `show`.
  const rows = data.tasks.map((one) => {
    const row = $("bench-tasks").tBodies[0].insertRow();
    const head = document.createElement("th");
    head.scope = "row";
    head.textContent = one.task;
    row.append(head);
    const cells = Array.from({ length: 7 }, () => row.insertCell());
    for (const place of [0, 1, 4, 5, 6]) cells[place].className = "num";
    cells[0].textContent = count.format(rowsOf(one));
    const bar = element("svg", { viewBox: "0 0 120 12", width: 120, height: 12, "aria-hidden": "true" });
    const all = element("rect", { x: 0, y: 1, height: 10, class: "k-easy" });
    const hard = element("rect", { x: 0, y: 1, height: 10, class: "k-hard" });
    bar.append(all, hard);
    cells[2].append(bar);
    const slider = Object.assign(document.createElement("input"), { type: "range", min: 0, max: 0.5, step: 0.005 });
    slider.setAttribute("aria-label", `weight of ${one.task}`);
    const isKnown = target.has(one.task);
    slider.disabled = !isKnown;
    slider.addEventListener("input", () => { target.set(one.task, Number(slider.value)); show(); });
    cells[3].append(slider);
    $("example-task").append(new Option(one.task, one.task));
    return { one, cells, slider, all, hard, total: rowsOf(one) };
  });
  const largest = Math.max(1, ...rows.map((row) => row.total));

  const chart = () => {
    const width = Math.max(300, Math.min(1170, bench.clientWidth));
    const height = 190;
    const step = 0.5;
    const first = Math.min(-1, ...ranked.map(([mfd]) => Math.floor(mfd)));
    const bins = new Map();
    for (const [mfd, number] of ranked) {
      const bin = Math.ceil(Math.round((mfd / step) * DECIMALS) / DECIMALS);
      const entry = bins.get(bin) || [0, 0];
      entry[0] += number;
      if (mfd > state.delta) entry[1] += number;
      bins.set(bin, entry);
    }
    const most = Math.max(1, ...[...bins.values()].map(([all]) => all));
    const x = (mfd) => 10 + ((mfd - first) / (9 - first)) * (width - 20);
    const y = (number) => height - 24 - (number / most) * (height - 48);
    const svg = element("svg", { viewBox: `0 0 ${width} ${height}`, width, height, role: "img", "aria-label": "Rows by MFD, with delta" });
    for (const [bin, [all, hard]] of bins) {
      const left = x((bin - 1) * step) + 0.5;
      const wide = Math.max(1, x(bin * step) - left - 0.5);
      const easy = all - hard;
      svg.append(element("rect", { x: left, y: y(easy), width: wide, height: y(0) - y(easy), class: "k-easy" }));
      svg.append(element("rect", { x: left, y: y(all), width: wide, height: y(easy) - y(all), class: "k-hard" }));
    }
    svg.append(element("line", { x1: 10, x2: width - 10, y1: y(0), y2: y(0), class: "axis" }));
    for (let mfd = Math.ceil(first); mfd <= 9; mfd += 1) {
      svg.append(element("text", { x: x(mfd), y: height - 8, "text-anchor": "middle", class: "t muted" }, String(mfd)));
    }
    const at = x(Math.min(9, Math.max(first, state.delta)));
    svg.append(element("line", { x1: at, x2: at, y1: 14, y2: y(0), class: "delta" }));
    const isRight = at > width - 70;
    svg.append(element("text", { x: isRight ? at - 4 : at + 4, y: 12, "text-anchor": isRight ? "end" : "start", class: "t delta-label" }, `δ = ${state.delta}`));
    $("bench-chart").replaceChildren(svg);
  };

  const yaml = (share) => {
    const name = (task) => (/^[A-Za-z][A-Za-z -]*$/.test(task) ? task : JSON.stringify(task));
    const lines = ["difficulty:"];
    if ($("as-quantile").checked) lines.push(`  quantile: ${share}`);
    else lines.push(`  threshold: ${state.delta}`, "  quantile: null");
    lines.push("tasks:", "  target:");
    for (const [task, weight] of target) if (weight > 0) lines.push(`    ${name(task)}: ${Number(weight.toFixed(4))}`);
    $("yaml").value = `${lines.join("\n")}\n`;
    $("yaml").rows = Math.min(40, lines.length + 1);
  };

  const sums = (seeds, fresh) => {
    const calls = data.calls;
    const parts = [fact("Seeds", count.format(seeds), `${((100 * seeds) / data.rows).toFixed(1)} % of ${count.format(data.rows)} rows`)];
    parts.push(fact("New instructions", count.format(fresh), `${data.rounds} rounds of ${count.format(data.new_per_round)}`));
    if (calls.is_paid) {
      const expand = Math.ceil(fresh * calls.expand_per_new);
      const every = Math.ceil(seeds * calls.per_seed + fresh * calls.per_new);
      const cost = seeds * calls.per_seed_cost + fresh * calls.per_new_cost;
      parts.push(fact("Expansion calls", count.format(expand), `of ${count.format(every)} calls from here on, refining and labelling included`));
      parts.push(fact("Expected cost", `${money.format(cost)} ${data.currency}`, "from here on, without evaluation and retries"));
    } else {
      parts.push(fact("Expected cost", "none", "no paid oracle takes part in this run"));
    }
    $("sums").replaceChildren(...parts);
  };

  let timer = 0;
  const examples = () => {
    clearTimeout(timer);
    timer = setTimeout(async () => {
      const query = new URLSearchParams({ delta: state.delta, task: $("example-task").value });
      const answer = await fetch(`${bench.dataset.examples}?${query}`);
      if (!answer.ok) return;
      const holder = document.createElement("template");
      holder.innerHTML = await answer.text(); // escaped by the server
      $("examples").replaceChildren(holder.content);
    }, 120);
  };

  const show = () => {
    const left = new Map(rows.map((row) => [row.one.task, above(row.one, state.delta)]));
    const seeds = [...left.values()].reduce((a, b) => a + b, 0);
    const present = new Map([...target].filter(([task, weight]) => weight > 0 && left.get(task)));
    const weight = [...present.values()].reduce((a, b) => a + b, 0);
    const perRound = quotas(present, data.new_per_round);
    for (const row of rows) {
      const { task } = row.one;
      const fresh = (perRound.get(task) || 0) * data.rounds;
      const number = left.get(task);
      row.cells[1].textContent = count.format(number);
      row.all.setAttribute("width", ((120 * row.total) / largest).toFixed(1));
      row.hard.setAttribute("width", ((120 * number) / largest).toFixed(1));
      row.slider.value = target.get(task) || 0;
      row.slider.setAttribute("aria-valuetext", `${row.slider.value}`);
      row.cells[4].textContent = weight > 0 ? `${((100 * (present.get(task) || 0)) / weight).toFixed(1)} %` : "";
      row.cells[5].textContent = count.format(fresh);
      row.cells[6].textContent = number ? (fresh / number).toFixed(1) : "";
    }
    const absent = [...target].filter(([task, share]) => share > 0 && !left.get(task)).map(([task]) => task);
    $("bench-warning").textContent = absent.length ? `No seeds for ${absent.join(", ")}: their shares go to the other tasks in proportion.` : "";
    $("delta").value = state.delta;
    $("delta-out").textContent = String(state.delta);
    const share = data.rows ? seeds / data.rows : 0;
    if (state.quantile === null) $("quantile").value = Math.round(100 * share);
    $("quantile-out").textContent = `${(100 * share).toFixed(1)} %`;
    sums(seeds, weight > 0 ? data.new_per_round * data.rounds : 0);
    chart();
    yaml(state.quantile === null ? Number(share.toFixed(3)) : state.quantile);
    examples();
  };

  const setTarget = (weights) => {
    for (const task of target.keys()) target.set(task, weights(task));
    show();
  };
  const setQuantile = (share) => {
    state.quantile = share;
    state.delta = deltaOf(share);
    $("quantile").value = 100 * share;
  };
  $("delta").addEventListener("input", () => {
    state.quantile = null;
    state.delta = Number($("delta").value);
    show();
  });
  $("quantile").addEventListener("input", () => { setQuantile(Number($("quantile").value) / 100); show(); });
  $("as-quantile").addEventListener("change", show);
  $("example-task").addEventListener("change", examples);
  $("as-configured").addEventListener("click", () => setTarget((task) => data.target[task] || 0));
  $("as-even").addEventListener("click", () => setTarget((task) => (rows.some((row) => row.one.task === task) ? 0.1 : 0)));
  $("as-seeds").addEventListener("click", () => {
    const left = new Map(rows.map((row) => [row.one.task, above(row.one, state.delta)]));
    const all = [...left.values()].reduce((a, b) => a + b, 0) || 1;
    setTarget((task) => Number(((left.get(task) || 0) / all).toFixed(3)));
  });
  $("copy").addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText($("yaml").value);
      $("copied").textContent = "Copied.";
    } catch {
      $("yaml").select();
      $("copied").textContent = "Selected: press Ctrl-C.";
    }
  });
  addEventListener("resize", chart);
  if (data.quantile !== null) {
    $("as-quantile").checked = true;
    setQuantile(data.quantile);
  }
  bench.hidden = false;
  show();
})();
