// Ask the server, and say what went wrong in its own words.

/** What the server refused: `message` is its own, `key` names the field that it is about, or is "". */
export class ServerError extends Error {
  constructor(message, key, status) {
    super(message);
    this.key = key;
    this.status = status;
  }
}

/** GET JSON. */
export async function getJson(path) {
  return (await ask(path, {})).json();
}

/** GET raw voxels; see readVoxels. */
export async function getVoxels(path, header) {
  return readVoxels(await ask(path, {}), header);
}

/** POST an object as JSON; the response. */
export function postJson(path, body) {
  return ask(path, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });
}

/** POST the text of a TOML file; JSON. */
export async function postToml(path, text) {
  return (await ask(path, { method: "POST", headers: { "Content-Type": "application/toml" }, body: text })).json();
}

/** An answer of raw voxels: {about, image: typed array, label: Uint8Array or null}. */
export async function readVoxels(response, header) {
  const about = JSON.parse(response.headers.get(header));
  const bytes = await response.arrayBuffer();
  const Kind = about.dtype === "int16" ? Int16Array : Float32Array;
  const voxels = about.image_shape.reduce((product, size) => product * size, 1);
  const image = new Kind(bytes, 0, voxels);
  const label = about.has_label ? new Uint8Array(bytes, voxels * Kind.BYTES_PER_ELEMENT) : null;
  return { about, image, label };
}

/**
 * Run `work` for the newest arguments, one at a time: what came in between is left out, as nobody waits for it any more.
 * The promise that a call returns ends with the work that it began, or at once where it left that to the call under way.
 */
export function newest(work) {
  let running = false;
  let waiting = null;
  return async (...args) => {
    waiting = args;
    if (running) return;
    running = true;
    try {
      while (waiting) {
        const next = waiting;
        waiting = null;
        await work(...next);
      }
    } finally {
      running = false;
    }
  };
}

async function ask(path, options) {
  let response;
  try {
    response = await fetch(path, options);
  } catch {
    throw new ServerError("the server does not answer; is it still running?", "", 0);
  }
  if (response.ok) return response;
  let error;
  try {
    ({ error } = await response.json());
  } catch {
    throw new ServerError(`the server answered with status ${response.status}`, "", response.status);
  }
  throw new ServerError(error.message, error.key, response.status);
}
