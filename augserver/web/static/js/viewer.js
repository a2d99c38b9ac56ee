// Three linked planes of a volume, or of a sample: window presets, labels, and what lies under the crosshair.

import { newest } from "./api.js";
import { el, segments, showFilled, swatch } from "./dom.js";
import { planeView } from "./plane_view.js";
import { sampleSource, volumeSource } from "./voxel_sources.js";

const HU = {
  lung: ["Lung", -1350, 150],
  bone: ["Bone", -500, 1300],
  soft: ["Soft tissue", -160, 240],
  brain: ["Brain", 0, 80],
};

export function buildViewer(section, dataset, say) {
  const ct = dataset.modality === "ct";
  const views = [0, 1, 2].map((axis) => planeView(axis, (voxel) => moveTo(voxel)));
  const choice = el("select", { "aria-label": "Volume", on: { change: () => openVolume(choice.value) } });
  dataset.volumes.forEach(({ id }) => choice.append(el("option", { value: id }, id)));
  const channel = el("select", { "aria-label": "Channel", hidden: true, on: { change: () => setWindow("auto") } });
  const presets = el("div", {});
  const level = field("Window centre");
  const width = field("Window width");
  const opacity = el("input", {
    type: "range",
    min: 0,
    max: 1,
    step: 0.05,
    value: 0.35,
    "aria-label": "Opacity of labels",
    on: { input: redraw },
  });
  const boxes = dataset.classes.map((each) => el("input", { type: "checkbox", checked: true, on: { change: redraw } }));
  const legend = el(
    "div",
    { class: "checks", role: "group", "aria-label": "Labels shown" },
    ...dataset.classes.map((each, k) => el("label", { class: "check" }, boxes[k], swatch(each.colour), el("span", {}, each.name))),
  );
  const title = el("h2", { id: "viewer-title" });
  const readout = el("dl", { class: "readout", id: "readout", "aria-live": "polite" });
  section.append(
    el("div", { class: "toolbar" }, choice, channel, presets),
    el("div", { class: "card under-cross" }, title, readout),
    el("div", { class: "planes" }, ...views.map((view) => view.element)),
    el(
      "div",
      { class: "tools" },
      el("div", { class: "card" }, el("h2", {}, "Window"), level.element, width.element),
      el(
        "div",
        { class: "card" },
        el("h2", {}, "Labels"),
        ...(boxes.length
          ? [el("label", { class: "field" }, "Opacity", opacity), legend]
          : [el("p", { class: "quiet" }, "nothing is labelled")]),
      ),
    ),
  );
  choice.style.width = "auto";
  channel.style.width = "auto";

  const sampleChoice = el("option", { value: "" }); // among the volumes while a sample is shown
  let asked = false;
  let source = null;
  let cursor = [0, 0, 0];
  let planes = [null, null, null];
  let shown = { low: 0, high: 1 };

  const open = newest(async (begin) => {
    try {
      const next = await begin();
      planes = [null, null, null];
      source = next;
      title.textContent = source.title;
      channel.replaceChildren(...Array.from({ length: source.channels }, (_, k) => el("option", { value: k }, `channel ${k}`)));
      channel.hidden = source.channels < 2;
      views.forEach((view) => view.setSource(source, !source.inVolume([0, 0, 0])));
      cursor = source.shape.map((size) => Math.floor(size / 2));
      drawPresets();
      await setWindow(ct && !source.windowed ? "soft" : "auto");
      say("");
    } catch (error) {
      say(error.message);
    }
  });

  function openVolume(id) {
    asked = true;
    sampleChoice.remove();
    choice.value = id;
    const volume = dataset.volumes.find((each) => each.id === id);
    return open(() => volumeSource(dataset, volume));
  }

  /** Show the sample of a request's seed. */
  function openSample(request, name) {
    asked = true;
    sampleChoice.textContent = name;
    choice.prepend(sampleChoice);
    choice.value = "";
    return open(() => sampleSource(dataset, request, name));
  }

  /** Take a window by the name of its preset; only "auto" has to ask for the values first. */
  async function setWindow(name) {
    presets.querySelectorAll("input").forEach((input) => (input.checked = input.value === name));
    const hounsfield = ct && !source.windowed;
    if (hounsfield) setReach(-1500, 3000);
    if (hounsfield && name in HU) return show(HU[name][1], HU[name][2]);
    try {
      const { low, high } = await source.range(channelIndex());
      if (!hounsfield) setReach(low, high);
      show(low, high);
    } catch (error) {
      say(error.message);
    }
  }

  function setReach(low, high) {
    const span = high - low;
    level.setRange(low, high, span / 400);
    width.setRange(span / 400, span, span / 400);
  }

  function drawPresets() {
    const known = ct && !source.windowed ? Object.entries(HU).map(([name, [text]]) => [name, text]) : [];
    presets.replaceChildren(segments("Window preset", [...known, ["auto", source.windowed ? "0 to 1" : "Auto"]], "auto", setWindow));
  }

  function show(low, high) {
    shown = { low, high };
    level.set((low + high) / 2);
    width.set(high - low);
    redraw();
    refresh();
  }

  function slide() {
    presets.querySelectorAll("input").forEach((input) => (input.checked = false));
    const [centre, half] = [level.get(), width.get() / 2];
    shown = { low: centre - half, high: centre + half };
    level.set(centre);
    width.set(2 * half);
    redraw();
  }

  level.onInput(slide);
  width.onInput(slide);

  function moveTo(voxel) {
    if (!source) return;
    cursor = voxel;
    views.forEach((view) => view.setCursor(cursor));
    refresh();
  }

  const refresh = newest(async () => {
    try {
      const [of, at] = [source, [...cursor]];
      const next = await Promise.all(views.map((_, axis) => of.plane(axis, at[axis], channelIndex())));
      if (of !== source) return;
      planes = next;
      views.forEach((view) => view.setCursor(cursor));
      redraw();
      read(at);
    } catch (error) {
      say(error.message);
    }
  });

  function redraw() {
    showFilled(opacity);
    const colours = [];
    dataset.classes.forEach((each, k) => {
      if (boxes[k].checked) colours[each.id] = each.colour;
    });
    views.forEach((view, axis) => {
      if (planes[axis]) view.draw(planes[axis], shown, colours, Number(opacity.value));
    });
  }

  function read([z, y, x]) {
    const at = y * planes[0].columns + x;
    const value = planes[0].image[at];
    const id = planes[0].label?.[at];
    const known = dataset.classes.find((each) => each.id === id);
    const name = id === undefined ? "none in this volume" : id === 0 ? "background" : (known?.name ?? `${id}, which has no name`);
    const rows = {
      Voxel: `z ${z}, y ${y}, x ${x}`,
      Position: position(source.toMm([z, y, x])),
      Value: `${Number.isInteger(value) ? value : value.toFixed(4)}${source.unit ? ` ${source.unit}` : ""}`,
      Label: name,
    };
    const origin = source.inVolume([z, y, x]);
    if (origin) rows["In the volume"] = ["z", "y", "x"].map((axis, k) => `${axis} ${origin[k].toFixed(1)}`).join(", ");
    readout.replaceChildren(
      ...Object.entries(rows).map(([term, text]) =>
        el(
          "div",
          {},
          el("dt", {}, term),
          el("dd", { "data-fact": term }, term === "Label" && known ? swatch(known.colour) : null, ` ${text}`),
        ),
      ),
    );
  }

  function channelIndex() {
    return Math.max(0, channel.selectedIndex);
  }

  return {
    show() {
      if (!asked) openVolume(choice.value);
    },
    openVolume,
    openSample,
  };
}

/** A position in mm, with the letters that radiologists use for its directions. */
function position(mm) {
  const letters = [
    ["L", "R"],
    ["P", "A"],
    ["S", "I"],
  ];
  return `${mm.map((value, k) => `${letters[k][value < 0 ? 1 : 0]} ${Math.abs(value).toFixed(1)}`).join(", ")} mm`;
}

function field(name) {
  const slider = el("input", { type: "range", "aria-label": name });
  const output = el("output", { class: "number quiet" });
  let exact = 0; // a slider rounds to its steps
  const set = (value) => {
    exact = value;
    slider.value = value;
    output.textContent = Math.abs(value) < 10 ? value.toFixed(2) : value.toFixed(0);
    showFilled(slider);
  };
  return {
    element: el(
      "div",
      { class: "field" },
      el("div", { class: "control-head" }, el("span", { "aria-hidden": "true" }, name), output),
      slider,
    ),
    set,
    get: () => exact,
    setRange(min, max, step) {
      Object.assign(slider, { min, max, step });
    },
    onInput(listener) {
      slider.addEventListener("input", () => {
        exact = Number(slider.value);
        listener();
      });
    },
  };
}
