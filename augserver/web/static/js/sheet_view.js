// Show a sheet: the server draws one picture, which is cut here into its views, so that they fit the width of the window.

import { el } from "./dom.js";

const VIEWS = ["axial", "coronal", "sagittal"];

/**
 * @param {HTMLElement} grid  takes one figure per column
 * @param {function(number)} open  called with a seed, to see its sample in three planes
 */
export function sheetView(grid, open) {
  let shown = null; // {bitmap, columns}
  let wanted = "all";

  function draw() {
    if (!shown) return;
    const figures = shown.columns.map((column, k) => grid.children[k] ?? grid.appendChild(figure(open)));
    while (grid.children.length > figures.length) grid.lastChild.remove();
    shown.columns.forEach((column, k) => fill(figures[k], column));
  }

  function fill(card, column) {
    const [axial, coronal, sagittal] = column.views;
    card.querySelector("b").textContent = column.title;
    const button = card.querySelector("button");
    button.hidden = column.seed === null;
    button.value = column.seed ?? "";
    button.setAttribute("aria-label", `See ${column.title} in three planes`);
    card.querySelector("ul").replaceChildren(...column.captions.map((caption) => el("li", {}, caption)));
    const below = coronal[2] + sagittal[2];
    card.querySelectorAll("canvas").forEach((canvas, axis) => {
      const [left, top, width, height] = column.views[axis];
      canvas.hidden = wanted !== "all" && wanted !== VIEWS[axis];
      canvas.width = width;
      canvas.height = height;
      canvas.getContext("2d").drawImage(shown.bitmap, left, top, width, height, 0, 0, width, height);
      canvas.setAttribute("aria-label", `${VIEWS[axis]} view of ${column.title}`);
      // in a row of the two lower views each gets its share of the width, so that they are equally high
      const share = wanted !== "all" || axis === 0 ? 1 : width / below;
      canvas.style.width = wanted === "all" && axis === 0 && axial[3] > axial[2] * 1.2 ? "70%" : `calc(${100 * share}% - 2px)`;
    });
  }

  return {
    /** Show the views of another sheet. */
    async show(png, columns) {
      const bitmap = await createImageBitmap(png);
      shown?.bitmap.close();
      shown = { bitmap, columns };
      draw();
    },
    /** Show "all" views, or the one of this name. */
    choose(view) {
      wanted = view;
      draw();
    },
  };
}

function figure(open) {
  const canvases = VIEWS.map(() => el("canvas", { role: "img" }));
  const button = el("button", { type: "button", class: "bare", on: { click: () => open(Number(button.value)) } }, "See in 3 planes");
  return el(
    "figure",
    { class: "card patch" },
    el("div", { class: "views" }, ...canvases),
    el("figcaption", {}, el("b", {}), el("ul", {}), button),
  );
}
