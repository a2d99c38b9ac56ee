// Sliders with one or two thumbs, with the numbers beside them. Numbers may go beyond the slider; the server says what is allowed.

import { el, showFilled } from "./dom.js";

const AXES = ["z", "y", "x"];

/**
 * A slider for one value or, with two thumbs, for a range.
 * @param {string} name  for assistive technology
 * @param {{min: number, max: number, step: number, unit?: string, kind: string}} key
 * @param {function()} changed  called on every movement
 */
function slider(name, key, changed) {
  const two = key.kind === "range" || key.kind === "ranges";
  const ends = two ? ["lowest", "highest"] : [""];
  const full = (end) => [name, end].filter(Boolean).join(", ");
  const values = ends.map(() => key.min);
  const thumbs = ends.map((end, k) =>
    el("input", {
      type: "range",
      min: key.min,
      max: key.max,
      step: key.step ?? 1,
      "aria-label": full(end),
      on: { input: (event) => move(k, event) },
    }),
  );
  const numbers = ends.map((end, k) =>
    el("input", {
      type: "number",
      step: key.step ?? 1,
      "aria-label": `${full(end)}, as a number`,
      on: { input: (event) => type(k, event) },
    }),
  );
  const track = two ? el("div", { class: "dual" }, ...thumbs) : thumbs[0];

  function show(typed = -1) {
    thumbs.forEach((thumb, k) => {
      thumb.value = values[k];
      thumb.setAttribute("aria-valuetext", `${values[k]}${key.unit ? ` ${key.unit}` : ""}`);
      if (k !== typed) numbers[k].value = values[k];
    });
    if (!two) return showFilled(thumbs[0]);
    const place = (value) => `${Math.min(100, Math.max(0, (100 * (value - key.min)) / (key.max - key.min)))}%`;
    track.style.setProperty("--from", place(values[0]));
    track.style.setProperty("--to", place(values[1]));
    // where both thumbs lie at the right end, the lower one has to be on top: the other could not be moved out of its way
    thumbs[0].style.zIndex = values[0] > (key.min + key.max) / 2 ? 1 : 0;
  }

  function move(k, event) {
    values[k] = Number(event.target.value);
    if (two && values[0] > values[1]) values[1 - k] = values[k]; // one thumb pushes the other
    show();
    changed();
  }

  function type(k, event) {
    if (Number.isNaN(event.target.valueAsNumber)) return; // half typed
    values[k] = event.target.valueAsNumber;
    show(k);
    changed();
  }

  return {
    parts: two ? [numbers[0], track, numbers[1]] : [track, numbers[0]],
    inputs: [...thumbs, ...numbers],
    read: () => (two ? [...values] : values[0]),
    write(value) {
      (two ? value : [value]).forEach((each, k) => (values[k] = each));
      show();
    },
  };
}

/** A control of kind range, ranges, number, axes or count: see recipe_keys.js. */
export function rangeControl(key, changed) {
  const perAxis = key.kind === "ranges" || key.kind === "axes";
  const two = key.kind === "range" || key.kind === "ranges";
  const start = key.start ?? (two ? [key.neutral, key.neutral] : key.neutral);
  const shape = two ? "range" : "range single";
  const every = slider(key.title, key, changed);
  const everyRow = el("div", { class: shape }, ...every.parts);
  const each = perAxis ? AXES.map((axis) => slider(`${key.title}, axis ${axis}`, key, changed)) : [];
  const eachRows = each.map((one, k) =>
    el("div", { class: `${shape} axis`, hidden: true }, el("span", { class: "axis-name", "aria-hidden": "true" }, AXES[k]), ...one.parts),
  );
  const split = el(
    "button",
    { type: "button", class: "bare", "aria-pressed": "false", "aria-label": `${key.title}: one for each axis` },
    "z y x",
  );
  let apart = false;

  function setApart(wanted) {
    apart = wanted;
    split.setAttribute("aria-pressed", apart);
    everyRow.hidden = apart;
    eachRows.forEach((row) => (row.hidden = !apart));
  }

  split.addEventListener("click", () => {
    if (apart) every.write(each[0].read());
    else each.forEach((one) => one.write(every.read()));
    setApart(!apart);
    changed();
  });

  function read() {
    const value = apart ? each.map((one) => one.read()) : every.read();
    return key.neutral !== undefined && value.toString() === neutral(value) ? undefined : value;
  }

  // what this value would be if the key did nothing, as text
  const neutral = (value) => [value].flat(2).fill(key.neutral).toString();

  function write(value = start) {
    const several = perAxis && Array.isArray(value) && (two ? Array.isArray(value[0]) : true);
    if (several) each.forEach((one, k) => one.write(value[k]));
    else every.write(two && !Array.isArray(value) ? [value, value] : value);
    setApart(several);
  }

  write();
  return {
    head: perAxis ? split : null,
    rows: [everyRow, ...eachRows],
    inputs: [every, ...each].flatMap((one) => one.inputs),
    read,
    write,
  };
}
