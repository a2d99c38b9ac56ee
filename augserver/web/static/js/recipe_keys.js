// Every key of a recipe as a control: its name, its range on a slider, and the value at which it does nothing.
// tests/web/test_studio_in_browser.py compares the keys with the recipe's schema.
//
//   range    [low, high], drawn for each sample           ranges   one range for all axes, or one each for z, y, x
//   number   one value                                    axes     one value for all axes, or one each for z, y, x
//   count    a whole number                               choice, switch, classes
//   neutral  left out of the recipe; undefined: always there       optional: absent until it is filled in

const CT = { low: -1000, high: 400 };

/**
 * The sections of a recipe.
 * @param {Object} dataset  as the server describes it
 * @param {{low: number, high: number}} shown  values that a picture of a volume shows as black and as white
 */
export function recipeSections(dataset, shown) {
  const ct = dataset.modality === "ct";
  const { low, high } = ct ? CT : shown;
  const span = ct ? 2000 : high - low || 1;
  const unit = ct ? "HU" : "";
  const step = ct ? 10 : nice(span / 200);
  const round = (value) => +(Math.round(value / step) * step).toPrecision(6);
  const classes = dataset.classes.map((each) => [each.id, each.name]);
  return [
    {
      name: "crop",
      title: "Crop",
      about: "where the patch is taken",
      keys: [
        {
          key: "mode",
          title: "Mode",
          kind: "choice",
          options: ["center", "uniform", "valid", "foreground"].map((mode) => [mode, mode]),
          neutral: "center",
        },
        { key: "patches_per_volume", title: "Patches per volume", kind: "count", min: 1, max: 32, neutral: 1 },
        { key: "pad", title: "May exceed the volume", kind: "switch", neutral: false },
      ],
    },
    {
      name: "affine",
      title: "Affine",
      about: "turn, stretch, shift",
      keys: [
        { key: "rotate_deg", title: "Rotation", unit: "°", kind: "ranges", min: -90, max: 90, step: 1, neutral: 0 },
        { key: "scale", title: "Scale", unit: "×", kind: "ranges", min: 0.5, max: 2, step: 0.01, neutral: 1 },
        { key: "shear", title: "Shear", kind: "ranges", min: -0.49, max: 0.49, step: 0.01, neutral: 0 },
        { key: "warp", title: "Generic affine", kind: "ranges", min: -0.33, max: 0.33, step: 0.01, neutral: 0 },
        { key: "reflect", title: "Reflection, chance of", kind: "axes", min: 0, max: 1, step: 0.05, neutral: 0 },
        { key: "translate_mm", title: "Translation", unit: "mm", kind: "ranges", min: -60, max: 60, step: 1, neutral: 0 },
        { key: "probability", title: "Chance that it applies", kind: "number", min: 0, max: 1, step: 0.05, neutral: 1 },
      ],
    },
    {
      name: "occlude",
      title: "Occlusion",
      about: "a slab goes missing",
      keys: [
        { key: "max_voxels", title: "Height, at most", unit: "planes", kind: "count", min: 0, max: 128, start: 40, neutral: 0 },
        { key: "probability", title: "Chance that it applies", kind: "number", min: 0, max: 1, step: 0.05, neutral: 1 },
        {
          key: "label",
          title: "Label inside becomes",
          kind: "choice",
          options: [[0, "background"], ["keep", "what it was"], ...classes, [255, "255, to be ignored"]],
          neutral: 0,
        },
      ],
    },
    {
      name: "contrast",
      title: "Contrast",
      about: "about the window's middle",
      keys: [{ key: "factor", title: "Factor", unit: "×", kind: "range", min: 0.2, max: 3, step: 0.05, start: [0.8, 1.2] }],
    },
    {
      name: "brightness",
      title: "Brightness",
      about: "added to every voxel",
      keys: [
        {
          key: "offset",
          title: "Offset",
          unit,
          kind: "range",
          min: -round(span / 4),
          max: round(span / 4),
          step,
          start: [-round(span / 50), round(span / 50)],
        },
      ],
    },
    {
      name: "gamma",
      title: "Gamma",
      about: "on the window's 0 to 1",
      keys: [{ key: "exponent", title: "Exponent", kind: "range", min: 0.2, max: 4, step: 0.05, start: [0.7, 1.5] }],
    },
    {
      name: "noise",
      title: "Noise",
      about: "Gaussian, before the window",
      keys: [
        {
          key: "std",
          title: "Standard deviation",
          unit,
          kind: "range",
          min: 0,
          max: round(span / 10),
          step: ct ? 1 : nice(span / 1000),
          start: [0, round(span / 60) || span / 60],
        },
      ],
    },
    {
      name: "window",
      title: "Window",
      about: "what becomes 0 and 1",
      keys: [
        {
          key: "low",
          title: "Black",
          unit,
          kind: "range",
          min: round(low - span / 4),
          max: round(high),
          step,
          start: ct ? [-350, -200] : [round(low), round(low + span / 10)],
        },
        {
          key: "high",
          title: "White",
          unit,
          kind: "range",
          min: round(low),
          max: round(high + span / 2),
          step,
          start: ct ? [300, 600] : [round(high - span / 10), round(high + span / 10)],
        },
      ],
    },
    {
      name: "labels",
      title: "Labels",
      about: "the rest becomes background",
      keys: [{ key: "keep", title: "Keep", kind: "classes", options: dataset.classes }],
    },
    {
      name: "output",
      title: "Output",
      about: "what surrounds and samples it",
      keys: [
        { key: "fill", title: "Outside the volume", unit, kind: "optional", count: 1, hint: ct ? "-1000" : "0" },
        { key: "spacing_mm", title: "Spacing z, y, x", unit: "mm", kind: "optional", count: 3, hint: "own" },
        {
          key: "sampler",
          title: "Sampler",
          kind: "choice",
          options: [
            ["exact", "exact"],
            ["texture", "texture, a GPU's own"],
          ],
          neutral: "exact",
        },
        {
          key: "border",
          title: "Border",
          kind: "choice",
          options: [
            ["fill", "a value and a label"],
            ["edge", "the nearest voxel"],
          ],
          neutral: "fill",
        },
        {
          key: "labels",
          title: "Labels between voxels",
          kind: "choice",
          options: [
            ["nearest", "the nearest voxel's"],
            ["linear", "the one with most weight"],
          ],
          neutral: "nearest",
        },
        {
          key: "outside_label",
          title: "Label outside",
          kind: "choice",
          options: [[0, "background"], ...classes, [255, "255, to be ignored"]],
          neutral: 0,
        },
      ],
    },
  ];
}

/** The recipe that the studio starts with: gentle, and with a window. */
export const FIRST_RECIPE = {
  crop: { mode: "uniform" },
  affine: { rotate_deg: [-15, 15], scale: [0.85, 1.15], reflect: [0, 0, 0.5] },
  noise: {},
  window: {},
};

function nice(value) {
  return 10 ** Math.floor(Math.log10(value || 1));
}
