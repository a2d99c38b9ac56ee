// One plane with its crosshair: drawn from raw voxels here, so that window and labels change at once.

import { el, showFilled, svg } from "./dom.js";

const NAMES = ["Axial", "Coronal", "Sagittal"];
const ACROSS = [2, 2, 1]; // the axis along the columns of a view; rows run along DOWN
const DOWN = [1, 0, 0];
const LETTERS = [
  ["I", "S"],
  ["A", "P"],
  ["R", "L"],
]; // at the low and the high end of z, y, x: volumes are kept in this order as nearly as their grid allows
const LARGEST_REM = 27;

/**
 * @param {number} axis  0, 1, 2: across z, y, x
 * @param {function(number[])} move  called with the voxel under the pointer or the keys
 */
export function planeView(axis, move) {
  const canvas = el("canvas", {});
  const across = svg("line", {});
  const down = svg("line", {});
  const cross = svg("svg", { "aria-hidden": "true", preserveAspectRatio: "none" }, across, down);
  const sides = ["left", "right", "top", "bottom"].map((side) => el("span", { class: `side ${side}`, "aria-hidden": "true" }));
  const film = el(
    "div",
    { class: "plane-film", tabindex: 0, role: "application", "aria-roledescription": "plane with a crosshair" },
    canvas,
    cross,
    ...sides,
  );
  const slider = el("input", { type: "range", min: 0, step: 1, "aria-label": `${NAMES[axis]} plane` });
  const where = el("output", { class: "quiet number" });
  const element = el(
    "figure",
    { class: "card plane", "data-axis": axis },
    el("div", { class: "plane-box" }, film),
    el("figcaption", {}, el("b", {}, NAMES[axis]), slider, where),
  );
  let shape = [1, 1, 1];
  let cursor = [0, 0, 0];

  function moveTo(changes) {
    const next = cursor.map((at, k) => Math.min(shape[k] - 1, Math.max(0, Math.round(changes[k] ?? at))));
    move(next);
  }

  function pointed(event) {
    const box = film.getBoundingClientRect();
    const [u, v] = [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
    const row = axis === 0 ? v : 1 - v; // z grows towards the head, which is up
    moveTo({ [ACROSS[axis]]: u * shape[ACROSS[axis]] - 0.5, [DOWN[axis]]: row * shape[DOWN[axis]] - 0.5 });
  }

  film.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    film.setPointerCapture(event.pointerId);
    pointed(event);
  });
  film.addEventListener("pointermove", (event) => {
    if (film.hasPointerCapture(event.pointerId)) pointed(event);
  });
  film.addEventListener(
    "wheel",
    (event) => {
      if (event.ctrlKey) return; // the browser's zoom
      event.preventDefault();
      moveTo({ [axis]: cursor[axis] + Math.sign(event.deltaY) });
    },
    { passive: false },
  );
  film.addEventListener("keydown", (event) => {
    const step = event.shiftKey ? 10 : 1;
    const up = axis === 0 ? -1 : 1;
    const moves = {
      ArrowLeft: [ACROSS[axis], -1],
      ArrowRight: [ACROSS[axis], 1],
      ArrowUp: [DOWN[axis], up],
      ArrowDown: [DOWN[axis], -up],
      PageUp: [axis, 1],
      PageDown: [axis, -1],
    };
    if (!(event.key in moves) || event.ctrlKey || event.altKey || event.metaKey) return;
    event.preventDefault();
    const [along, by] = moves[event.key];
    moveTo({ [along]: cursor[along] + by * step });
  });
  slider.addEventListener("input", () => moveTo({ [axis]: Number(slider.value) }));

  return {
    element,
    /** Another source: its size and voxels decide the shape of the view; `letters`: whether its sides are those of the body. */
    setSource(source, letters) {
      shape = source.shape;
      const width = shape[ACROSS[axis]] * source.spacing[ACROSS[axis]];
      const height = shape[DOWN[axis]] * source.spacing[DOWN[axis]];
      film.style.aspectRatio = `${width} / ${height}`;
      film.style.width = `min(100%, ${((LARGEST_REM * width) / height).toFixed(2)}rem)`;
      film.setAttribute(
        "aria-label",
        `${NAMES[axis]} plane: arrow keys move the crosshair, page up and page down change the plane, shift makes steps of ten`,
      );
      cross.setAttribute("viewBox", `0 0 ${shape[ACROSS[axis]]} ${shape[DOWN[axis]]}`);
      slider.max = shape[axis] - 1;
      const [left, right] = LETTERS[ACROSS[axis]];
      const [first, last] = LETTERS[DOWN[axis]];
      const texts = [left, right, ...(axis === 0 ? [first, last] : [last, first])];
      sides.forEach((side, k) => (side.textContent = letters ? texts[k] : ""));
    },
    /** Move the crosshair to a voxel. */
    setCursor(voxel) {
      cursor = voxel;
      const x = voxel[ACROSS[axis]] + 0.5;
      const y = axis === 0 ? voxel[1] + 0.5 : shape[0] - voxel[0] - 0.5;
      const lines = [
        [across, { x1: 0, x2: shape[ACROSS[axis]], y1: y, y2: y }],
        [down, { x1: x, x2: x, y1: 0, y2: shape[DOWN[axis]] }],
      ];
      for (const [line, ends] of lines) for (const [name, value] of Object.entries(ends)) line.setAttribute(name, value);
      slider.value = voxel[axis];
      showFilled(slider);
      where.textContent = `${voxel[axis]} / ${shape[axis] - 1}`;
    },
    /**
     * Draw a plane.
     * @param {{rows: number, columns: number, image: ArrayLike<number>, label: Uint8Array?}} plane
     * @param {{low: number, high: number}} window
     * @param {Array<number[]?>} colours  of label ids; absent: not shown
     * @param {number} opacity  of the labels, 0 to 1
     */
    draw({ rows, columns, image, label }, { low, high }, colours, opacity) {
      canvas.width = columns;
      canvas.height = rows;
      const context = canvas.getContext("2d");
      const picture = context.createImageData(columns, rows);
      const pixels = picture.data;
      const gain = 255 / (high - low);
      for (let row = 0; row < rows; row += 1) {
        let to = 4 * columns * (axis === 0 ? row : rows - 1 - row);
        for (let from = row * columns; from < (row + 1) * columns; from += 1, to += 4) {
          const grey = (image[from] - low) * gain;
          const colour = label && colours[label[from]];
          const rest = colour ? 1 - opacity : 1;
          // a Uint8ClampedArray rounds and clamps
          pixels[to] = clamp(grey) * rest + (colour ? colour[0] * opacity : 0);
          pixels[to + 1] = clamp(grey) * rest + (colour ? colour[1] * opacity : 0);
          pixels[to + 2] = clamp(grey) * rest + (colour ? colour[2] * opacity : 0);
          pixels[to + 3] = 255;
        }
      }
      context.putImageData(picture, 0, 0);
    },
  };
}

function clamp(grey) {
  return grey < 0 ? 0 : grey > 255 ? 255 : grey;
}
