// The live view: how fast batches are made, what limits them, what the caches hold.

import { getJson } from "./api.js";
import { el, formatBytes, svg } from "./dom.js";

const PERIOD_MS = 1000;
const KEPT = 60; // readings in the curve: a minute
// who spends time in a stage, and what it is called here
const STAGES = [
  ["Workers", { store: "decoding volumes", plan: "drawing parameters", kernel: "the kernel" }],
  [
    "Streams",
    {
      batch_wait: "waiting for a batch",
      copy: "copying",
      wire: "sending",
      client: "waiting for the trainer",
      lease_wait: "waiting for its memory",
    },
  ],
];

export function buildLive(section, dataset, chip) {
  const verdict = el("p", { class: "big", id: "verdict", "aria-live": "polite" }, "measuring");
  const why = el("p", { class: "quiet", id: "verdict-why" });
  const rate = el("p", { class: "figure", id: "rate" }, "0");
  const area = svg("polygon", {});
  const curve = svg("polyline", {});
  const base = svg("line", { x1: 0, y1: 99, x2: KEPT - 1, y2: 99 });
  const spark = svg(
    "svg",
    {
      class: "spark",
      viewBox: `0 0 ${KEPT - 1} 100`,
      preserveAspectRatio: "none",
      role: "img",
      "aria-label": "Batches per second, the last minute",
    },
    base,
    area,
    curve,
  );
  const streams = figure("Streams");
  const batches = figure("Batches made");
  const cache = metered("Volumes in memory");
  const slots = metered("Batch memory");
  const damaged = figure("Set aside");
  const output = figure("Made");
  const times = el("div", { class: "cards" });
  section.append(
    el(
      "div",
      { class: "card" },
      el(
        "div",
        { class: "verdict" },
        el("div", {}, verdict, why),
        el("div", {}, rate, el("p", { class: "quiet small" }, "batches per second, in the last ten seconds; the curve shows a minute")),
      ),
      spark,
    ),
    el("div", { class: "cards small-cards" }, streams.card, batches.card, output.card, damaged.card),
    times,
    el("div", { class: "cards" }, cache.card, slots.card),
    el("p", { class: "quiet small", id: "serving" }),
  );
  section.lastChild.textContent = `Serving on ${dataset.serving}`;
  section.lastChild.style.marginTop = "1rem";

  let before = null;
  const rates = [];

  function draw(now) {
    if (before && now.at_s > before.at_s) {
      rates.push(Math.max(0, (now.scheduler.batches - before.scheduler.batches) / (now.at_s - before.at_s)));
      if (rates.length > KEPT) rates.shift();
    }
    before = now;
    rate.replaceChildren(now.span_s ? format(now.made / now.span_s) : "–", el("small", {}, " / s"));
    const top = Math.max(1, ...rates);
    const points = rates.map((value, k) => `${KEPT - rates.length + k},${(98 - (92 * value) / top).toFixed(1)}`);
    curve.setAttribute("points", points.join(" "));
    area.setAttribute("points", points.length ? `${KEPT - rates.length},99 ${points.join(" ")} ${KEPT - 1},99` : "");
    const name = now.verdict.limited_by;
    if (name) verdict.replaceChildren("limited by: ", el("em", {}, name));
    else verdict.replaceChildren("idle");
    why.textContent = now.verdict.reason;
    chip.hidden = false;
    chip.replaceChildren(name ? "limited by: " : "", el("b", {}, name || "idle"));
    streams.set(String(now.scheduler.streams), now.scheduler.streams === 1 ? "one trainer is connected" : `${now.open_calls} open calls`);
    batches.set(String(now.scheduler.batches), `since the start, ${duration(now.up_s)} ago`);
    output.set(`${formatBytes(now.stages.kernel.size_bytes / (now.span_s || 1))} / s`, "images and labels");
    times.replaceChildren(...STAGES.map(([who, names]) => shares(who, names, now.stages)));
    const lost = now.quarantine;
    damaged.set(
      String(lost.volumes),
      lost.volumes ? `damaged, replaced by others: ${now.damaged.join(", ")}` : "no volume is damaged as far as is known",
    );
    const asked = now.cache.hits + now.cache.misses;
    cache.set(
      formatBytes(now.cache.used_bytes),
      [[now.cache.used_bytes / now.cache.max_bytes, ""]],
      `of ${formatBytes(now.cache.max_bytes)} for ${now.cache.volumes} of ${dataset.volumes.length} volumes; ` +
        (asked ? `${((100 * now.cache.hits) / asked).toFixed(1)} % found there` : "none asked for yet"),
    );
    const { free, filling, ready, leased } = now.slots;
    const all = Math.max(1, free + filling + ready + leased);
    slots.set(
      formatBytes(now.slots.reserved_bytes),
      [
        [ready / all, ""],
        [filling / all, "busy"],
      ],
      `of ${formatBytes(now.slots.max_bytes)}; slots: ${ready} ready, ${filling} being made, ${leased} with trainers, ${free} free`,
    );
  }

  async function tick() {
    try {
      if (!document.hidden) draw(await getJson("/api/live"));
    } catch (error) {
      verdict.textContent = error.message;
      why.textContent = "";
      chip.replaceChildren(el("b", {}, "no answer"));
    }
    setTimeout(tick, PERIOD_MS);
  }
  tick();
  return {};
}

/** A card of bars: the share of each stage in the time that its threads spent. */
function shares(who, names, stages) {
  const total = Object.keys(names).reduce((sum, stage) => sum + stages[stage].seconds, 0);
  const list = el("dl", { class: "shares" });
  for (const [stage, text] of Object.entries(names)) {
    const share = total ? stages[stage].seconds / total : 0;
    const bar = el("span", {});
    bar.style.width = `${100 * share}%`;
    list.append(
      el("dt", {}, text),
      el(
        "dd",
        {},
        el("div", { class: "meter", "aria-hidden": "true" }, bar),
        el("span", { class: "number quiet" }, total ? `${(100 * share).toFixed(0)} %` : "–"),
      ),
    );
  }
  return el("div", { class: "card" }, el("h2", {}, `${who}: where their time goes`), list);
}

function figure(title) {
  const value = el("p", { class: "figure" }, "0");
  const note = el("p", { class: "quiet small" });
  const card = el("div", { class: "card" }, el("h2", {}, title), value, note);
  return {
    card,
    set(text, more) {
      value.textContent = text;
      note.textContent = more;
    },
  };
}

function metered(title) {
  const { card, set } = figure(title);
  const bar = el("div", { class: "meter", "aria-hidden": "true" }); // the text beside it says the same
  card.insertBefore(bar, card.lastChild);
  return {
    card,
    set(text, parts, note) {
      set(text, note);
      bar.replaceChildren(
        ...parts.map(([share, kind]) => {
          const part = el("span", { class: kind });
          part.style.width = `${100 * Math.min(1, share)}%`;
          return part;
        }),
      );
    },
  };
}

function format(value) {
  return value >= 100 ? value.toFixed(0) : value.toFixed(1);
}

function duration(seconds) {
  if (seconds < 90) return `${seconds.toFixed(0)} s`;
  if (seconds < 5400) return `${(seconds / 60).toFixed(0)} min`;
  return `${(seconds / 3600).toFixed(1)} h`;
}
