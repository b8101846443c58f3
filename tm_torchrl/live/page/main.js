// The page: asks the server, or in a report the file itself, for runs, tracks and laps, and shows them.

import { $, fill, make, say, short, clock, signed } from "./dom.js";
import { Drive } from "./drive.js";
import { Ghosts } from "./ghosts.js";
import { Minimap } from "./minimap.js";
import { get, getChanged, isReport, post, repeat, ServerError } from "./net.js";
import { Player } from "./player.js";
import { Results } from "./results.js";
import { CAMERAS, css, Scene } from "./scene.js";
import { sectorColours } from "./sector_colours.js";
import { Traces } from "./traces.js";
import { Values } from "./values.js";

const REFRESH_S = 2;
const LIST_S = 6;
const SLOW_MS = 120; // between pictures where the CPU draws them
const MOST_CHOICES = 60;

const runs = { list: [], tracks: [], open: null, page: null, state: null, compared: new Map() };
const view = { track: null, trackName: null, isStale: true, drawnAt: 0, restless: 0 };

const scene = openScene();
const minimap = new Minimap($("minimap"));
const results = new Results();
const ghosts = new Ghosts($("ghosts"), lapsChanged);
const player = new Player(() => stir());
const drive = new Drive({ picture: () => stir(2), ended: driveEnded, kept: () => loadTrack(view.trackName, true) });
const values = new Values($("values"));
const traces = new Traces();
document.body.classList.toggle("report", isReport);

function openScene() {
  try {
    return new Scene($("picture"), $("labels"));
  } catch (error) {
    notice(error.message);
    return null;
  }
}

function notice(text) {
  $("notice").hidden = !text;
  say($("notice"), text);
}

/** Have the view drawn for a while. */
function stir(seconds = 0.6) {
  view.restless = Math.max(view.restless, seconds);
}

const isDark = matchMedia("(prefers-color-scheme: dark)");
function theme() {
  scene?.setDark(isDark.matches);
  const style = getComputedStyle(document.documentElement);
  const colour = (name) => style.getPropertyValue(name).trim();
  if (view.track) minimap.setTrack(view.track, { edge: "#fff", road: "#6b7684", start: "#fff", finish: colour("--red") });
  stir();
}
isDark.addEventListener("change", theme);

// ---- data

async function refreshList() {
  const found = await get("runs");
  runs.list = found.runs;
  runs.tracks = found.tracks;
  const select = $("run");
  const names = [...runs.list.map((run) => [run.id, run.name]), ["", "no run: only drive"]];
  if (JSON.stringify(names) !== select.dataset.names) {
    select.dataset.names = JSON.stringify(names);
    fill(select, ...names.map(([id, name]) => make("option", { value: id }, name)));
    select.value = runs.open ?? "";
  }
  if (runs.open === null) await openRun(location.hash.slice(1) || runs.list[0]?.id || "");
  showList();
}

function showList() {
  results.runs(runs.list, runs.open, runs.compared, { choose: openRun, compare });
}

async function openRun(id) {
  if (!runs.list.some((run) => run.id === id)) id = "";
  Object.assign(runs, { open: id, page: null, state: null });
  runs.compared.delete(id);
  $("run").value = id;
  if (!isReport) history.replaceState(null, "", id ? `#${id}` : "#");
  document.body.classList.toggle("norun", !id);
  if (id) await refreshRun();
  await showTracks();
}

async function refreshRun() {
  for (const id of runs.open ? [runs.open, ...runs.compared.keys()] : []) {
    const isOpen = id === runs.open;
    const known = isOpen ? runs.state : runs.compared.get(id)?.state;
    const found = await getChanged("run", { run: id }, known);
    if (!found) continue;
    if (isOpen && id === runs.open) Object.assign(runs, { page: found.data, state: found.state });
    else if (runs.compared.has(id)) runs.compared.set(id, { name: found.data.name, page: found.data, state: found.state });
    showRun();
  }
}

function showRun() {
  const page = runs.page;
  $("asks").hidden = isReport || !page?.is_going_on;
  if (!page) return;
  document.title = `${page.name} - tm_torchrl`;
  const speed = page.metrics["speed/env_steps_per_s"]?.findLast((value) => value !== null);
  const parts = [clock(page.seconds), `${short(page.frames)} frames`, speed && page.is_going_on ? `${short(speed)} a second` : null];
  fill($("status"), isReport ? make("strong", {}, `${page.name} · `) : null, make("b", {}, page.is_going_on ? "● training" : ""), isReport ? "" : page.is_going_on ? " · " : "ended · ", parts.filter(Boolean).join(" · "));
  const others = [...runs.compared.values()].filter((one) => one.page);
  results.show(page, others, view.trackName);
  if (view.track) wantLaps();
}

async function compare(id, isTicked) {
  if (isTicked) runs.compared.set(id, {});
  else runs.compared.delete(id);
  await refreshRun();
  showRun();
}

async function showTracks() {
  const names = runs.page ? runs.page.tracks.map((track) => track.name) : runs.open ? [] : runs.tracks;
  fill($("track"), ...names.map((name) => make("option", { value: name }, name)));
  $("track-pick").hidden = names.length < 2;
  document.body.classList.toggle("notrack", !names.length);
  $("stage").hidden = !names.length;
  ghosts.clear();
  results.sectors(null, null);
  traces.show(null, null);
  const name = names.includes(view.trackName) ? view.trackName : (names[0] ?? null);
  Object.assign(view, { track: null, trackName: name });
  showRun();
  if (name) await loadTrack(name);
}

const trackQuery = (name) => (runs.open ? { track: name, run: runs.open } : { track: name });

async function loadTrack(name, isOwnLapNew = false) {
  if (!isOwnLapNew) {
    drive.stop();
    ghosts.clear();
  }
  const track = await get("track", trackQuery(name));
  Object.assign(view, { track, trackName: name });
  if (!isOwnLapNew) {
    scene?.setTrack(track);
    theme();
    player.go(0);
  }
  $("track").value = name;
  showRun();
  await wantLaps();
}

/** The laps that belong into the view now. */
async function wantLaps() {
  const [page, name] = [runs.page, view.trackName];
  const query = trackQuery(name);
  const found = page?.tracks.find((one) => one.name === name);
  const list = (page?.ghosts[name] ?? []).filter((one, k, all) => k === all.length - 1 || all[k + 1].frames !== one.frames);
  const evaluation = (one) => ({ key: `ghost ${one.frames}`, kind: "evaluation", label: short(one.frames), query: { ...query, kind: "ghost", frames: one.frames }, version: one.time_s });
  const wanted = [];
  if (found?.best_lap_s) wanted.push({ key: "best", kind: "best", label: "best", query: { ...query, kind: "best" }, version: found.best_lap_s });
  const latest = list.at(-1);
  if (latest) wanted.push({ ...evaluation(latest), key: "latest", kind: "latest", label: `latest, ${short(latest.frames)}`, version: latest.frames });
  if (view.track.medals.author) wanted.push({ key: "author", kind: "author", label: "author", query: { ...query, kind: "author" }, version: 1 });
  if (view.track.own_lap_s) wanted.push({ key: "own", kind: "own", label: "you", query: { ...query, kind: "own" }, version: view.track.own_lap_s });
  for (const [id, other] of runs.compared) {
    const theirs = other.page?.tracks.find((one) => one.name === name);
    if (theirs?.best_lap_s) wanted.push({ key: `run ${id}`, kind: "run", label: other.name.split("/").at(-1), query: { run: id, track: name, kind: "best" }, version: theirs.best_lap_s });
  }
  const step = Math.ceil(list.length / MOST_CHOICES) || 1;
  const choices = list.slice(0, -1).filter((_, k) => k % step === 0).reverse();
  await ghosts.want(wanted, choices.map((one) => [`${short(one.frames)} frames: ${one.time_s === null ? "not finished" : `${one.time_s.toFixed(2)} s`}`, evaluation(one)]));
}

function lapsChanged() {
  const [leader, author] = [ghosts.leader, ghosts.all.get("author")];
  player.setLength(Math.max(...ghosts.shown().map((ghost) => ghost.lap.duration), 1));
  const other = leader === author ? null : author;
  results.sectors(leader, other, (time) => player.go(time));
  traces.show(leader, other);
  scene?.setLine("leader", leader?.lap ?? null, leader && sectorColours(leader.lap, other?.lap));
  values.follow(leader, runs.page, trackQuery(view.trackName));
  if (leader && !view.hasPlayed) {
    view.hasPlayed = true;
    if (!scene?.renderer.isSlow && !matchMedia("(prefers-reduced-motion: reduce)").matches) player.toggle(true);
  }
  stir();
}

// ---- the view

function picture(now) {
  requestAnimationFrame(picture);
  if (scene?.renderer.isSlow && !drive.isOn && now - view.drawnAt < SLOW_MS) return;
  const passedS = (now - view.drawnAt) / 1000;
  view.drawnAt = now;
  player.pass(passedS);
  if (player.isPlaying) stir(0.1);
  if (view.restless <= 0 || !view.track || $("stage").hidden) return;
  view.restless -= Math.min(passedS, 0.1); // a slow browser draws what it was asked for all the same
  const own = drive.state(now);
  const time = own ? own.time : player.time;
  const leader = ghosts.leader;
  const cars = ghosts.shown().map((ghost) => ({
    state: ghost.lap.at(time), colour: ghost.colour, label: ghost.label, isFollowed: !own && ghost.key === ghosts.followed,
  }));
  if (own) cars.push({ state: own, colour: [0.93, 0.3, 0.62], label: "you", isFollowed: true });
  scene?.draw(cars, passedS, Boolean(own));
  minimap.draw(cars.map((car) => ({ ...car, colour: css(car.colour) })));
  if (own) {
    const rival = ghosts.all.get("best") ?? ghosts.all.get("author");
    const theirs = rival?.lap.timeAt(own.progress) ?? null;
    readings(own, own.finished_s ?? time, theirs === null ? null : time - theirs, rival);
    drive.drawn();
  } else if (leader) {
    const author = ghosts.all.get("author");
    const gap = author && author !== leader ? leader.lap.behind(author.lap, time) : null;
    readings(leader.lap.at(time), Math.min(time, leader.lap.duration), gap, author);
    values.at(time);
  }
}

function readings(car, time, gap, rival) {
  say($("time"), time.toFixed(2));
  say($("gap"), gap === null ? "" : signed(gap));
  say($("rival"), gap === null ? "" : `to ${rival.label}`);
  $("gap").className = gap === null || Math.abs(gap) < 0.005 ? "" : gap > 0 ? "lost" : "won";
  say($("speed"), String(Math.round(3.6 * car.speed)));
  say($("gear"), String(car.gear));
  $("rpm").firstElementChild.style.transform = `scaleX(${Math.min(car.rpm / 10000, 1).toFixed(3)})`;
  ["up", "down", "left", "right"].forEach((key, k) => $(`key-${key}`).classList.toggle("down", Boolean(car.keys & (1 << k))));
}

function nextCamera() {
  setCamera(CAMERAS[(CAMERAS.indexOf(scene?.camera) + 1) % CAMERAS.length]);
}

function setCamera(camera) {
  if (!scene) return;
  Object.assign(scene, { camera, zoom: 1 });
  say($("camera"), `Camera: ${camera}`);
  $("minimap").hidden = camera === "above"; // which is the map, but larger
  stir();
}

// ---- driving

function startDrive() {
  if (!view.track || isReport) return;
  player.toggle(false);
  if (scene?.camera === "above") setCamera("behind");
  $("drive").textContent = "End";
  $("view").focus();
  document.body.classList.add("driving");
  drive.start(trackQuery(view.trackName));
}

function driveEnded() {
  $("drive").textContent = "Drive";
  document.body.classList.remove("driving");
  player.go(0);
}

// ---- keys and buttons

const KEYS = {
  " ": () => player.toggle(), Home: () => player.go(0), End: () => player.go(player.length),
  ArrowLeft: () => player.go(player.time - 0.5), ArrowRight: () => player.go(player.time + 0.5),
  ",": () => player.go(player.time - 0.05), ".": () => player.go(player.time + 0.05),
  "+": () => player.quicken(1), "=": () => player.quicken(1), "-": () => player.quicken(-1),
  c: nextCamera, f: () => ghosts.followNext(), d: startDrive, "?": () => $("help").showModal(),
};

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || $("help").open) return;
  if (drive.isOn) {
    if (event.key.toLowerCase() === "c") nextCamera();
    return;
  }
  if (event.target.matches("select, input[type=range]") || (event.key === " " && event.target.matches("button, input"))) return;
  const act = KEYS[event.key] ?? KEYS[event.key.toLowerCase()];
  if (!act) return;
  event.preventDefault();
  act();
});

$("run").addEventListener("change", (event) => openRun(event.target.value).then(showList));
$("track").addEventListener("change", (event) => loadTrack(event.target.value));
$("camera").addEventListener("click", nextCamera);
$("minimap").addEventListener("click", () => setCamera("above"));
$("drive").addEventListener("click", () => (drive.isOn ? drive.stop() : startDrive()));
$("view").addEventListener("wheel", (event) => {
  if (!event.ctrlKey && document.activeElement !== $("view")) return; // else the page could not be scrolled
  if (!scene) return;
  event.preventDefault();
  scene.zoom = Math.min(Math.max(scene.zoom * Math.exp(0.001 * event.deltaY), 0.15), 3);
  stir();
}, { passive: false });
new ResizeObserver(() => stir()).observe($("view"));

for (const what of ["evaluate", "save", "stop"]) {
  $(`ask-${what}`).addEventListener("click", async (event) => {
    event.target.disabled = true;
    try {
      await post("ask", { run: runs.open, what });
      notice("");
    } catch (error) {
      notice(error.message);
    }
    setTimeout(() => (event.target.disabled = false), 4000);
  });
}

const lost = (isThere) => notice(isThere ? "" : "The connection is lost: is tm-torchrl live still running? Trying again…");
const shown = (work) => async () => {
  try {
    await work();
  } catch (error) {
    if (!(error instanceof ServerError)) throw error;
    notice(error.message);
  }
};
repeat(shown(refreshList), LIST_S, lost);
if (!isReport) repeat(shown(refreshRun), REFRESH_S, lost);
window.addEventListener("beforeprint", () => {
  if (!scene || !view.track) return;
  const cars = ghosts.shown().map((ghost) => ({ state: ghost.lap.at(player.time), colour: ghost.colour, label: ghost.label, isFollowed: ghost.key === ghosts.followed }));
  scene.draw(cars, 0);
  $("printed").src = $("picture").toDataURL(); // a canvas itself is often printed empty
});
requestAnimationFrame(picture);
