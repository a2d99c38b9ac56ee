// Where the viewer's planes come from: a volume, plane by plane from the server, or a sample, which is here as a whole.

import { getJson, getVoxels, postJson, readVoxels } from "./api.js";

const KEPT_PLANES = 96;
const AXES = ["z", "y", "x"];

/**
 * A source of planes:
 *   title, shape [z, y, x], spacing [z, y, x] in mm, channels, unit
 *   plane(axis, index, channel)   {rows, columns, image, label or null}, or a promise of it
 *   range(channel)                promise of {low, high} to show as black and white
 *   toMm(voxel)                   [x, y, z] in mm, LPS
 *   inVolume(voxel)               the voxel of the volume that a sample's voxel was taken from, or null
 *   windowed                      whether values lie in [0, 1] by the recipe's window
 */
export function volumeSource(dataset, volume) {
  const [channels, ...shape] = volume.shape;
  const path = `/api/volumes/${encodeURIComponent(volume.id)}`;
  const kept = new Map(); // oldest first
  return {
    title: volume.id,
    shape,
    spacing: volume.spacing_mm,
    channels,
    unit: dataset.modality === "ct" ? "HU" : "",
    windowed: false,
    plane(axis, index, channel) {
      const name = `${channel} ${axis} ${index}`;
      if (kept.has(name)) return kept.get(name);
      return fetchPlane(`${path}/planes/${AXES[axis]}/${index}?channel=${channel}`).then((plane) => {
        kept.set(name, plane);
        if (kept.size > KEPT_PLANES) kept.delete(kept.keys().next().value);
        return plane;
      });
    },
    range: (channel) => getJson(`${path}/range?channel=${channel}`),
    toMm: (voxel) => apply(volume.affine, voxel),
    inVolume: () => null,
  };
}

async function fetchPlane(path) {
  const { about, image, label } = await getVoxels(path, "X-Plane");
  const [rows, columns] = about.image_shape;
  return { rows, columns, image, label };
}

/** Ask for a sample; a promise of its source. */
export async function sampleSource(dataset, request, title) {
  const { about, image, label } = await readVoxels(await postJson("/api/sample", request), "X-Sample");
  const volume = dataset.volumes.find(({ id }) => id === request.volume);
  const [z, y, x] = about.shape.slice(1);
  const voxels = z * y * x;
  const inVolume = (voxel) => apply(about.affine, voxel);
  return {
    title: `${title}, sample ${about.index}`,
    shape: [z, y, x],
    spacing: about.spacing_mm,
    channels: about.shape[0],
    unit: about.window || dataset.modality !== "ct" ? "" : "HU",
    windowed: about.window !== null,
    plane: (axis, index, channel) => ({
      ...cut(image.subarray(channel * voxels, (channel + 1) * voxels), [z, y, x], axis, index),
      label: label && cut(label, [z, y, x], axis, index).image,
    }),
    range: async (channel) => (about.window ? { low: 0, high: 1 } : extremes(image.subarray(channel * voxels, (channel + 1) * voxels))),
    toMm: (voxel) => apply(volume.affine, inVolume(voxel)),
    inVolume,
  };
}

function cut(array, [z, y, x], axis, index) {
  if (axis === 0) return { rows: y, columns: x, image: array.subarray(index * y * x, (index + 1) * y * x) };
  const [rows, columns] = axis === 1 ? [z, x] : [z, y];
  const image = new array.constructor(rows * columns);
  for (let row = 0; row < rows; row += 1) {
    if (axis === 1) image.set(array.subarray((row * y + index) * x, (row * y + index + 1) * x), row * x);
    else for (let column = 0; column < y; column += 1) image[row * y + column] = array[(row * y + column) * x + index];
  }
  return { rows, columns, image };
}

function extremes(array) {
  let low = Infinity;
  let high = -Infinity;
  for (const value of array) {
    if (value < low) low = value;
    if (value > high) high = value;
  }
  return { low, high: high > low ? high : low + 1 };
}

/** The first three rows of a matrix (4 columns) times a point. */
function apply(matrix, [z, y, x]) {
  return matrix.slice(0, 3).map(([a, b, c, d]) => a * z + b * y + c * x + d);
}
