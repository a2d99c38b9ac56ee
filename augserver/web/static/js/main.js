// Start the page: ask what is served, build the four views, show the one that the address names.

import { getJson } from "./api.js";
import { buildDataset } from "./dataset.js";
import { buildLive } from "./live.js";
import { buildStudio } from "./studio.js";
import { buildViewer } from "./viewer.js";

const NAMES = ["live", "dataset", "studio", "viewer"];
const trouble = document.getElementById("trouble");

/** Say an error at the top of the page; "" takes it away. */
function say(message) {
  trouble.textContent = message;
  trouble.hidden = !message;
}

function show(views) {
  const wanted = location.hash.slice(1);
  const name = NAMES.includes(wanted) ? wanted : "live";
  for (const each of NAMES) {
    document.getElementById(`page-${each}`).hidden = each !== name;
    const link = document.querySelector(`nav a[href="#${each}"]`);
    if (each === name) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  document.title = `${document.getElementById(`title-${name}`).textContent} · augserver`;
  say("");
  views[name].show?.();
}

async function start() {
  const dataset = await getJson("/api/dataset");
  document.getElementById("served").textContent = dataset.name;
  document.getElementById("served").title = dataset.name;
  const section = (name) => document.getElementById(`page-${name}`);
  const viewer = buildViewer(section("viewer"), dataset, say);
  const studio = buildStudio(section("studio"), dataset, say, (request, title) => {
    viewer.openSample(request, title);
    location.hash = "#viewer";
  });
  const views = {
    live: buildLive(section("live"), dataset, document.getElementById("verdict-chip")),
    dataset: buildDataset(section("dataset"), dataset, {
      view: (id) => {
        viewer.openVolume(id);
        location.hash = "#viewer";
      },
      study: (id) => {
        studio.choose(id);
        location.hash = "#studio";
      },
    }),
    studio,
    viewer,
  };
  addEventListener("hashchange", () => show(views));
  show(views);
}

document.getElementById("skip").addEventListener("click", (event) => {
  event.preventDefault(); // the address names a view
  document.getElementById("main").focus();
});

start().catch((error) => say(error.message));
