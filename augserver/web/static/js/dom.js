// Build elements. Text only ever becomes text: nothing that the server says is parsed as HTML.

/**
 * An element.
 * @param {string} tag
 * @param {Object} options  class and other attributes by name (true: present, false or null: absent), and on: {event: listener}
 * @param {...(Node|string|null)} children
 */
export function el(tag, options = {}, ...children) {
  return fill(document.createElement(tag), options, children);
}

/** As `el`, of SVG. */
export function svg(tag, options = {}, ...children) {
  return fill(document.createElementNS("http://www.w3.org/2000/svg", tag), options, children);
}

function fill(element, options, children) {
  for (const [name, value] of Object.entries(options)) {
    if (name === "on") {
      for (const [event, listener] of Object.entries(value)) element.addEventListener(event, listener);
    } else if (value === true) {
      element.setAttribute(name, "");
    } else if (value !== false && value !== null && value !== undefined) {
      element.setAttribute(name, String(value));
    }
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

let ids = 0;

/** An id that no other element of the page has. */
export function newId() {
  ids += 1;
  return `e${ids}`;
}

/** A set of radio buttons that look like one bar; `choose(value)` is called when another one is taken. */
export function segments(label, options, chosen, choose) {
  const name = newId();
  const bar = el("div", { class: "segments", role: "radiogroup", "aria-label": label });
  for (const [value, text] of options) {
    const input = el("input", { type: "radio", name, value, checked: value === chosen, on: { change: () => choose(value) } });
    bar.append(el("label", {}, input, el("span", {}, text)));
  }
  return bar;
}

/** The colour of a class as CSS has it. */
export function css(colour) {
  return `rgb(${colour.join(" ")})`;
}

/** A small square of a class's colour. */
export function swatch(colour) {
  const square = el("span", { class: "swatch", "aria-hidden": "true" });
  square.style.background = css(colour);
  return square;
}

/** Fill the track of a plain slider up to its thumb. */
export function showFilled(slider) {
  const span = slider.max - slider.min || 1;
  slider.style.setProperty("--filled", `${(100 * (slider.value - slider.min)) / span}%`);
}

export function formatBytes(bytes) {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let power = 0;
  while (bytes >= 999.5 && power < units.length - 1) {
    bytes /= 1000;
    power += 1;
  }
  return `${bytes.toFixed(bytes < 10 && power ? 1 : 0)} ${units[power]}`;
}
