// The recipe studio: controls on one side; on the other, the same patch under several seeds, drawn anew while one drags.

import { getJson, newest, postJson, postToml } from "./api.js";
import { el, newId, segments, swatch } from "./dom.js";
import { recipeForm } from "./recipe_form.js";
import { FIRST_RECIPE, recipeSections } from "./recipe_keys.js";
import { sheetView } from "./sheet_view.js";

const AXES = ["z", "y", "x"];

/**
 * @param {function(string)} say  shows an error that belongs to no control
 * @param {function(Object, string)} openSample  shows a sample in three planes: its request and a title
 */
export function buildStudio(section, dataset, say, openSample) {
  const volume = el(
    "select",
    { "aria-label": "Volume", on: { change: refresh } },
    ...dataset.volumes.map(({ id }) => el("option", { value: id }, id)),
  );
  const patch = AXES.map((axis, k) => number(`Patch, ${axis}`, dataset.usual_patch[k], 1, refresh));
  const seed = number("First seed", 1, 0, refresh);
  const count = number("Seeds shown", 5, 1, refresh);
  count.max = dataset.max_count;
  const setup = {
    volume: labelled("Volume", volume),
    patch: labelled("Patch z, y, x, in voxels", el("div", { class: "three" }, ...patch), "group"),
    seed: labelled("First seed", seed),
    count: labelled("Seeds", count),
  };
  const status = el("p", { class: "quiet small number", role: "status", id: "studio-status" });
  const grid = el("div", { class: "sheet", id: "sheet", role: "group", "aria-label": "The patch under several seeds", tabindex: 0 });
  const toml = el("pre", { class: "toml", id: "toml", tabindex: 0, role: "region", "aria-label": "Recipe as TOML" });
  const view = sheetView(grid, (chosen) => openSample({ ...request(), seed: chosen, count: 1 }, `${volume.value}, seed ${chosen}`));
  const save = el("a", { class: "button", download: "sheet.png", id: "save-sheet" }, "Save as PNG");
  const file = el("input", {
    type: "file",
    accept: ".toml",
    class: "out-of-sight",
    "aria-label": "Open a recipe file",
    on: { change: openFile },
  });
  const legend = el(
    "ul",
    { class: "legend", "aria-label": "Classes" },
    ...dataset.classes.map((each) => el("li", {}, swatch(each.colour), each.name)),
  );
  let form = null;
  let picture = "";

  const desk = el(
    "form",
    { class: "card desk", "aria-label": "Recipe", on: { submit: (event) => event.preventDefault() } },
    el(
      "div",
      { class: "toolbar" },
      el("button", { type: "button", class: "primary", on: { click: copy } }, "Copy as TOML"),
      el("label", { class: "button file" }, "Open", file),
      el("button", { type: "button", on: { click: reset } }, "Reset"),
    ),
    el(
      "div",
      { class: "setup" },
      setup.volume.element,
      setup.patch.element,
      el("div", { class: "three" }, setup.seed.element, setup.count.element),
    ),
  );
  section.append(
    el(
      "div",
      { class: "studio" },
      desk,
      el(
        "div",
        { class: "stage" },
        el(
          "div",
          { class: "toolbar" },
          segments(
            "Views",
            [
              ["all", "All"],
              ["axial", "Axial"],
              ["coronal", "Coronal"],
              ["sagittal", "Sagittal"],
            ],
            "all",
            view.choose,
          ),
          el("button", { type: "button", on: { click: otherSeeds } }, "Other seeds"),
          save,
          status,
        ),
        grid,
        legend,
        el("details", { class: "card" }, el("summary", {}, "Recipe as TOML"), toml),
      ),
    ),
  );

  function request() {
    return {
      recipe: form.read(),
      volume: volume.value,
      patch: patch.map((input) => whole(input)),
      seed: whole(seed),
      count: whole(count),
    };
  }

  let asked = 0;
  const draw = newest(async () => {
    const begin = performance.now();
    const answers = asked;
    grid.ariaBusy = "true";
    try {
      const answer = await postJson("/api/sheet", request());
      const shown = JSON.parse(answer.headers.get("X-Sheet"));
      const png = await answer.blob();
      await view.show(png, shown.columns);
      setErrors("", "");
      grid.classList.remove("stale");
      toml.textContent = shown.toml || "# nothing: every patch is the middle of its volume, as it is\n";
      URL.revokeObjectURL(picture);
      picture = URL.createObjectURL(png);
      save.href = picture;
      const ms = performance.now() - begin;
      status.textContent = `drawn in ${ms.toFixed(0)} ms`;
      status.dataset.ms = ms.toFixed(1);
      status.dataset.drawn = Number(status.dataset.drawn ?? 0) + 1;
    } catch (error) {
      grid.classList.add("stale");
      status.textContent = "not drawn: see the message";
      setErrors(error.key ?? "", error.message);
    }
    grid.ariaBusy = String(answers !== asked);
  });

  function refresh() {
    if (!form) return;
    asked += 1;
    grid.ariaBusy = "true";
    draw();
  }

  function setErrors(key, message) {
    Object.entries(setup).forEach(([name, field]) => field.setError(name === key ? message : ""));
    const placed = form.setError(key, message) || key in setup;
    say(placed ? "" : message);
  }

  async function copy() {
    try {
      await navigator.clipboard.writeText(toml.textContent);
      status.textContent = "copied";
    } catch {
      section.querySelector("details").open = true; // without permission for the clipboard: ready to be copied by hand
      getSelection().selectAllChildren(toml);
      status.textContent = "selected: copy it with Ctrl+C";
    }
  }

  async function openFile() {
    const [chosen] = file.files;
    if (!chosen) return;
    try {
      const { recipe } = await postToml("/api/recipe", await chosen.text());
      form.write(recipe);
      refresh();
    } catch (error) {
      setErrors(error.key ?? "", `${chosen.name}: ${error.message}`);
    }
    file.value = ""; // so that the same file can be opened again
  }

  function reset() {
    form.write(FIRST_RECIPE);
    patch.forEach((input, k) => (input.value = dataset.usual_patch[k]));
    refresh();
  }

  function otherSeeds() {
    seed.value = whole(seed) + whole(count);
    refresh();
  }

  async function begin() {
    // the ranges of sliders follow the values of the scans, where these are in no unit
    const shown = dataset.modality === "ct" ? { low: 0, high: 1 } : await getJson(`/api/volumes/${encodeURIComponent(volume.value)}/range`);
    form = recipeForm(recipeSections(dataset, shown), refresh);
    form.write(FIRST_RECIPE);
    desk.append(...form.elements);
    await draw();
  }

  let begun = false;
  return {
    show() {
      if (begun) return;
      begun = true;
      begin().catch((error) => {
        begun = false;
        say(error.message);
      });
    },
    /** Show another volume. */
    choose(id) {
      volume.value = id;
      refresh();
    },
  };
}

function number(name, value, min, changed) {
  return el("input", { type: "number", "aria-label": name, value, min, step: 1, on: { input: changed } });
}

/** What a field for a whole number says; what cannot be read as one goes to the server as it is, which says what is allowed. */
function whole(input) {
  return Number.isNaN(input.valueAsNumber) ? null : input.valueAsNumber;
}

function labelled(title, control, role = null) {
  const error = el("p", { class: "error", id: newId(), role: "alert", hidden: true });
  const inputs = control.matches("input, select") ? [control] : [...control.querySelectorAll("input")];
  const head = el("span", { class: "control-head", "aria-hidden": "true" }, title);
  return {
    element: el("div", { class: "field control", role, "aria-label": role ? title : null }, head, control, error),
    setError(message) {
      error.textContent = message;
      error.hidden = !message;
      inputs.forEach((input) => {
        input.toggleAttribute("aria-invalid", false);
        if (message) input.setAttribute("aria-invalid", "true");
        input.setAttribute("aria-describedby", message ? error.id : "");
      });
    },
  };
}
