// The form of a recipe: a switch for each section, a control for each key, and the server's errors beside the control they are about.

import { el, newId, swatch } from "./dom.js";
import { rangeControl } from "./range_control.js";

/**
 * @param {Object[]} sections  of recipe_keys.js
 * @param {function()} changed  called whenever the recipe may be another one
 */
export function recipeForm(sections, changed) {
  const built = sections.map((section) => buildSection(section, changed));
  const controls = new Map(built.flatMap((section) => [[section.name, section], ...section.controls.map((each) => [each.name, each])]));

  return {
    elements: built.map((section) => section.element),
    /** The recipe as the server takes it. */
    read: () => Object.fromEntries(built.filter((section) => section.isOn()).map((section) => [section.name, section.read()])),
    /** Show a recipe; `changed` is not called. */
    write(recipe) {
      built.forEach((section) => section.write(recipe[section.name]));
    },
    /** Show an error beside the control of `key`; whether there is one. "" takes all errors away. */
    setError(key, message) {
      controls.forEach((each) => each.setError(""));
      const control = controls.get(key) ?? controls.get(key.split(".")[0]);
      if (!control || !key) return false;
      control.setError(message);
      return true;
    },
  };
}

function buildSection(section, changed) {
  const controls = section.keys.map((key) => buildControl(`${section.name}.${key.key}`, key, changed));
  const body = el("div", { class: "section-body", hidden: true }, ...controls.map((each) => each.element));
  body.style.display = "grid";
  body.style.gap = "0.75rem";
  const error = errorLine();
  const toggle = el("input", {
    type: "checkbox",
    role: "switch",
    "aria-label": section.title,
    on: { change: () => setOn(toggle.checked, true) },
  });
  const element = el(
    "fieldset",
    { class: "section", "data-section": section.name },
    el("legend", { class: "out-of-sight" }, section.title),
    el("label", { class: "switch" }, toggle, el("span", { "aria-hidden": "true" }), el("b", {}, section.title), el("i", {}, section.about)),
    body,
    error,
  );

  function setOn(on, tell = false) {
    toggle.checked = on;
    body.hidden = !on;
    if (tell) changed();
  }

  return {
    name: section.name,
    element,
    controls,
    isOn: () => toggle.checked,
    read: () => Object.fromEntries(controls.map((each) => [each.key, each.read()]).filter(([, value]) => value !== undefined)),
    write(values) {
      setOn(values !== undefined);
      // a section that is off keeps its controls where they are useful once it is on; one that is on leaves out what does nothing
      controls.forEach((each) => each.write(values?.[each.key] ?? (values && each.neutral)));
    },
    setError: (message) => setError(error, [toggle], message),
  };
}

function buildControl(name, key, changed) {
  const kinds = { choice, switch: check, classes, optional };
  const control = (kinds[key.kind] ?? rangeControl)(key, changed);
  const error = errorLine();
  const title = el("span", {}, key.title, key.unit ? el("span", { class: "quiet" }, ` ${key.unit}`) : null);
  const head = control.ownTitle ? null : el("div", { class: "control-head" }, title, control.head);
  return {
    name,
    key: key.key,
    neutral: key.neutral,
    element: el("div", { class: "control", "data-key": name }, head, ...control.rows, error),
    read: control.read,
    write: control.write,
    setError: (message) => setError(error, control.inputs, message),
  };
}

function choice(key, changed) {
  const select = el("select", { "aria-label": key.title, on: { change: changed } });
  key.options.forEach(([value, text], k) => select.append(el("option", { value: k }, text)));
  const place = (value) => key.options.findIndex(([each]) => each === value);
  return {
    rows: [select],
    inputs: [select],
    read: () => (select.selectedIndex === place(key.neutral) ? undefined : key.options[select.selectedIndex][0]),
    write(value = key.neutral) {
      if (place(value) < 0) {
        key.options.push([value, String(value)]); // such as a label id that no class has
        select.append(el("option", { value: key.options.length - 1 }, String(value)));
      }
      select.selectedIndex = place(value);
    },
  };
}

function check(key, changed) {
  const box = el("input", { type: "checkbox", on: { change: changed } });
  return {
    ownTitle: true,
    rows: [el("label", { class: "check" }, box, el("span", {}, key.title))],
    inputs: [box],
    read: () => (box.checked === key.neutral ? undefined : box.checked),
    write(value = key.neutral) {
      box.checked = value;
    },
  };
}

function classes(key, changed) {
  const boxes = key.options.map((each) => el("input", { type: "checkbox", value: each.name, on: { change: changed } }));
  const labels = key.options.map((each, k) => el("label", { class: "check" }, boxes[k], swatch(each.colour), el("span", {}, each.name)));
  const group = el("div", { class: "checks", role: "group", "aria-label": key.title }, ...labels);
  return {
    rows: [labels.length ? group : el("p", { class: "quiet small" }, "nothing is labelled")],
    inputs: boxes,
    read: () => boxes.filter((box) => box.checked).map((box) => box.value),
    write(names) {
      boxes.forEach((box) => (box.checked = names === undefined || names.includes(box.value)));
    },
  };
}

function optional(key, changed) {
  const axes = key.count === 3 ? [", z", ", y", ", x"] : [""];
  const inputs = axes.map((axis) =>
    el("input", {
      type: "number",
      step: "any",
      placeholder: key.hint,
      "aria-label": `${key.title.split(" z,")[0]}${axis}`,
      on: { input: changed },
    }),
  );
  return {
    rows: [el("div", { class: key.count === 3 ? "three" : "" }, ...inputs)],
    inputs,
    read() {
      const given = inputs.map((input) => input.valueAsNumber).filter((value) => !Number.isNaN(value));
      if (!given.length) return undefined;
      return given.length === 1 ? given[0] : given; // of three, one alone is for all axes
    },
    write(value) {
      const given = value === undefined ? [] : [value].flat();
      inputs.forEach((input, k) => (input.value = given.length ? (given[k] ?? given[0]) : ""));
    },
  };
}

function errorLine() {
  return el("p", { class: "error", id: newId(), role: "alert", hidden: true });
}

function setError(line, inputs, message) {
  line.textContent = message;
  line.hidden = !message;
  inputs.forEach((input) => {
    if (message) {
      input.setAttribute("aria-invalid", "true");
      input.setAttribute("aria-describedby", line.id);
    } else {
      input.removeAttribute("aria-invalid");
      input.removeAttribute("aria-describedby");
    }
  });
}
