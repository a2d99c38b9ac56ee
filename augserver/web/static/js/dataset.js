// The dataset view: what is served, its classes, and every volume with a small picture.

import { el, formatBytes, swatch } from "./dom.js";

export function buildDataset(section, dataset, open) {
  const labelled = dataset.volumes.filter((volume) => volume.has_label).length;
  const facts = {
    Modality: dataset.modality.toUpperCase(),
    Volumes: `${dataset.volumes.length}, ${labelled} of them labelled`,
    Decoded: formatBytes(dataset.size_bytes),
    Fingerprint: dataset.fingerprint,
  };
  const list = el("dl", { class: "facts" });
  for (const [name, value] of Object.entries(facts)) list.append(el("dt", {}, name), el("dd", {}, value));
  const total = dataset.classes.reduce((sum, each) => sum + each.voxels, 0);
  const classes = el("ul", { class: "class-list" });
  for (const each of dataset.classes) {
    const share = total ? `${((100 * each.voxels) / total).toFixed(1)} %` : "";
    classes.append(el("li", {}, swatch(each.colour), el("span", {}, each.name), el("span", { class: "quiet number" }, share)));
  }
  const search = el("input", { type: "search", "aria-label": "Find volumes by their id", placeholder: "Find a volume" });
  search.style.maxWidth = "18rem";
  const count = el("p", { class: "quiet small", role: "status" });
  const volumes = el("ul", { class: "volumes" });
  const items = dataset.volumes.map((volume) => {
    const item = card(volume, open);
    volumes.append(item);
    return [volume.id.toLowerCase(), item];
  });

  function filter() {
    const wanted = search.value.trim().toLowerCase();
    let shown = 0;
    for (const [id, item] of items) {
      item.hidden = !id.includes(wanted);
      shown += !item.hidden;
    }
    count.textContent = wanted ? `${shown} of ${items.length} volumes` : `${items.length} volumes`;
  }

  search.addEventListener("input", filter);
  filter();
  section.append(
    el(
      "div",
      { class: "cards" },
      el("div", { class: "card" }, list),
      el(
        "div",
        { class: "card" },
        el("h2", {}, "Classes"),
        dataset.classes.length ? classes : el("p", { class: "quiet" }, "none: nothing is labelled"),
      ),
    ),
    el("div", { class: "toolbar" }, search, count),
    volumes,
  );
  return {};
}

function card(volume, open) {
  const picture = el("img", {
    src: `/api/volumes/${encodeURIComponent(volume.id)}/thumbnail`,
    alt: "",
    loading: "lazy",
    decoding: "async",
  });
  const note = el("p", { class: "trouble small", hidden: true }, "no picture: this volume cannot be read");
  picture.addEventListener("error", () => {
    picture.hidden = true;
    note.hidden = false;
  });
  const spacing = [...new Set(volume.spacing_mm)].length === 1 ? volume.spacing_mm.slice(0, 1) : volume.spacing_mm;
  const grid = `${volume.shape.slice(1).join(" × ")} voxels of ${spacing.map((mm) => +mm.toPrecision(3)).join(" × ")} mm`;
  return el(
    "li",
    { class: "card volume" },
    el("div", { class: "thumbnail" }, picture, note),
    el(
      "div",
      { class: "text" },
      el("h2", {}, volume.id),
      el("p", { class: "quiet small number" }, grid),
      el(
        "p",
        { class: "quiet small" },
        volume.has_label ? `${volume.classes.length} classes` : "no label",
        volume.shape[0] > 1 ? `, ${volume.shape[0]} channels` : "",
      ),
      el(
        "div",
        { class: "checks" },
        el("button", { type: "button", "aria-label": `View ${volume.id}`, on: { click: () => open.view(volume.id) } }, "View"),
        el(
          "button",
          { type: "button", "aria-label": `Use ${volume.id} in the studio`, on: { click: () => open.study(volume.id) } },
          "Studio",
        ),
      ),
    ),
  );
}
