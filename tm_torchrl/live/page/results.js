// What came of a run: tiles, curves, sectors, messages, and the list of runs.

import { Chart } from "./charts.js";
import { $, clock, fill, make, say, seconds, short, signed } from "./dom.js";

export const MEDALS = { bronze: "var(--bronze)", silver: "var(--silver)", gold: "var(--gold)", author: "var(--author)" };
export const RUN_COLOURS = ["var(--blue)", "var(--orange)", "var(--green)", "var(--red)", "#9a6fc4", "#3f9f9f", "#a0894a"];
const percent = (value) => `${Math.round(100 * value)}%`;

const CHARTS = [
  ["finish_rate", "Laps that finished", { form: percent, bounds: [0, 1] }],
  ["return_mean", "Return of the evaluations", {}],
  ["r2_mean", "Linear probe, R²", { note: "How much of speed, lateral offset and curvature a linear map of the features explains; 1 is all of it." }],
  ["episode/return", "Return in training, with exploration", { smooth: true, note: "It may fall while the driver gets better: laps that come further also lose more for their time." }],
  ["episode/terminated", "Episodes that reached the end, with exploration", { form: percent, smooth: true, bounds: [0, 1] }],
  ["train/loss", "Loss", { smooth: true }],
  ["train/test_loss", "Loss on held-out data", { smooth: true }],
  ["train/loss_reconstruction", "Loss of the reconstruction", { smooth: true }],
  ["train/loss_kl", "Weighted divergence of the latent numbers", { smooth: true }],
  ["train/accuracy", "Actions foretold", { form: percent, smooth: true }],
  ["train/test_accuracy", "Actions foretold, held-out laps", { form: percent, smooth: true }],
  ["train/gradient_norm", "Gradient norm", { smooth: true }],
  ["train/kl", "Divergence of the updates", { smooth: true }],
  ["train/clip_share", "Clipped ratios", { form: percent, smooth: true }],
  ["train/entropy", "Entropy of the policy", { smooth: true }],
  ["train/explained_variance", "Variance explained by the values", { smooth: true }],
  ["diagnostics/action_gap", "Action gap", {}],
  ["diagnostics/policy_churn", "Policy churn", {}],
  ["diagnostics/noise_changes_action", "Actions that noise changes", { form: percent }],
  ["diagnostics/noise_over_gap", "Noise over action gap", {}],
  ["diagnostics/dormant_share", "Dormant neurons", { form: percent }],
  ["diagnostics/effective_rank", "Effective rank", {}],
  ["diagnostics/crossing_rate", "Crossing quantiles", { form: percent }],
  ["schedule/epsilon", "Random actions", { form: percent }],
  ["schedule/learning_rate", "Learning rate", {}],
  ["speed/env_steps_per_s", "Frames per second", { smooth: true }],
  ["speed/updates_per_s", "Updates per second", { smooth: true }],
  ["speed/learner_share", "Time spent learning", { form: percent, smooth: true }],
  ["memory/rss_mb", "Memory of the process, MB", {}],
];

export class Results {
  constructor() {
    this.laps = new Chart($("chart-laps"), "Lap times");
    this.reached = new Chart($("chart-reached"), "How far the best lap came");
    this.charts = CHARTS.map(([key, title, options]) => {
      const place = $("charts").appendChild(make("figure", { hidden: true }));
      return [key, new Chart(place, title, options.note), options];
    });
  }

  /** page: of the run; compared: pages of further runs, {name, page}; track: the track that is shown. */
  show(page, compared, track) {
    this._tiles(page, track);
    const runs = [{ name: page.name, page }, ...compared];
    const of = (one, key) => {
      const evaluations = one.page.evaluations[track] ?? Object.values(one.page.evaluations)[0] ?? {};
      return key in evaluations ? evaluations : one.page.metrics;
    };
    const lines = (key, smooth) => runs.map((one, k) => {
      const rows = of(one, key);
      return { label: runs.length > 1 ? shortName(one.name) : "", colour: RUN_COLOURS[k % RUN_COLOURS.length], x: rows.frames ?? [], y: rows[key] ?? [], smooth };
    }).filter((one) => one.y.length);
    const medals = page.tracks.find((one) => one.name === track)?.medals ?? {};
    const marks = Object.entries(medals).map(([label, at]) => ({ label, at, colour: MEDALS[label] }));
    const median = lines("median_lap_s").map((one) => ({ ...one, label: `${one.label} median`.trim() }));
    const best = lines("best_lap_s").slice(0, 1).map((one) => ({ ...one, label: "best", colour: "var(--orange)" }));
    const slow = 1.25 * (medals.bronze ?? Infinity);
    const capped = [...median, ...(runs.length > 1 ? [] : best)].map((one) => ({ ...one, y: one.y.map((y) => y && Math.min(y, slow)) }));
    this.laps.show({ series: capped, marks, form: (value) => `${+value.toFixed(2)} s` });
    const reached = hasValues(lines("best_lap_s")) ? [] : lines("farthest_m");
    this.reached.show({ series: reached, form: (value) => `${Math.round(value)} m`, bounds: [0, null] });
    for (const [key, chart, { form, bounds, smooth }] of this.charts) chart.show({ series: lines(key, smooth), form, bounds });
    this._messages(page, track);
    this._about(page);
  }

  /** What the run was made with, and what can be done with it. */
  _about(page) {
    fill($("about").querySelector("ul"), ...page.about.map((line) => make("li", {}, line)));
    fill($("about").querySelector("dl"), ...page.commands.flatMap(([line, does]) => [make("dt", {}, make("code", {}, line)), make("dd", {}, does)]));
    say($("settings"), page.settings);
    $("kept-picture").hidden = !page.picture;
    if (page.picture) $("kept-picture").querySelector("img").src = page.picture;
  }

  _tiles(page, track) {
    const found = page.tracks.find((one) => one.name === track);
    const last = (columns, key) => columns?.[key]?.findLast((value) => value !== null) ?? null;
    const evaluations = page.evaluations[track] ?? Object.values(page.evaluations)[0];
    const speed = last(page.metrics, "speed/env_steps_per_s");
    const tiles = [];
    if (found) {
      const best = found.best_lap_s;
      const won = Object.entries(found.medals).filter(([, at]) => best !== null && best <= at).at(-1)?.[0];
      const next = Object.entries(found.medals).find(([, at]) => best === null || at < best);
      const goal = next && best !== null ? `${(best - next[1]).toFixed(2)} s to ${next[0]}` : "";
      const farthest = Math.max(...(evaluations?.farthest_m ?? [0]));
      if (best === null && farthest) tiles.push(["farthest", `${Math.round(farthest)} m`, null, "no lap has finished yet"]);
      else tiles.push(["best lap", seconds(best), won, goal]);
      tiles.push(["median lap", seconds(last(evaluations, "median_lap_s")), null, "last evaluation"]);
      const rate = last(evaluations, "finish_rate");
      tiles.push(["finished", rate === null ? "-" : percent(rate), null, "last evaluation"]);
    } else {
      const probe = last(evaluations, "r2_mean");
      const found = probe === null ? ["mean return", last(evaluations, "return_mean") ?? 0] : ["linear probe, R²", probe];
      tiles.push([found[0], short(found[1]), null, "last evaluation"]);
    }
    tiles.push(["frames", short(page.frames), null, speed === null ? "" : `${short(speed)} a second`]);
    fill($("tiles"), ...tiles.map(([label, value, medal, note]) =>
      make("div", { class: "tile" }, make("span", {}, label), make("b", {}, value, " ", medal ? badge(medal) : ""), make("span", {}, note ?? ""))));
  }

  _messages(page, track) {
    const rows = [];
    for (const [name, found] of Object.entries(page.evaluations)) {
      let record = Infinity;
      found.frames.forEach((frames, k) => {
        const [best, rate] = [found.best_lap_s?.[k], found.finish_rate?.[k]];
        const place = Object.keys(page.evaluations).length > 1 ? `${name}: ` : "";
        const probe = found.r2_mean?.[k] ?? null;
        let text = probe !== null ? `${place}linear probe, R² ${probe.toFixed(3)}` : rate === undefined || rate === null ? `${place}mean return ${short(found.return_mean?.[k] ?? 0)}` : `${place}${percent(rate)} finished`;
        let medal = null;
        if (best && best < record) {
          text += `, new best lap ${seconds(best)}`;
          const medals = Object.entries(page.tracks.find((one) => one.name === name)?.medals ?? {});
          medal = medals.filter(([, at]) => best <= at && record > at).at(-1)?.[0];
          record = best;
        }
        rows.push([found.seconds[k] ?? 0, text, medal]);
      });
    }
    for (const [at, text] of page.messages) rows.push([at, text.split("\n")[0], null]);
    if (page.facts.started) rows.push([0, `started ${page.facts.started.slice(0, 16).replace("T", " ")} on ${page.facts.device ?? "cpu"}, ${page.facts.platform ?? ""}`, null]);
    rows.sort((a, b) => b[0] - a[0]);
    fill($("messages").querySelector("ol"), ...rows.slice(0, 60).map(([at, text, medal]) =>
      make("li", {}, make("time", {}, clock(at)), make("span", {}, text, " ", medal ? badge(medal) : ""))));
  }

  /** Time lost by sector on the author, or on another lap. */
  sectors(ghost, other, toStep) {
    const found = ghost && other && ghost !== other ? ghost.lap.sectors(other.lap) : null;
    $("sectors").hidden = !found;
    if (!found) return;
    const most = Math.max(...found.map((one) => Math.abs(one.lost_s)), 0.01);
    const total = found.reduce((sum, one) => sum + one.lost_s, 0);
    const kind = ({ lost_s: lost }) => (Math.abs(lost) < 0.005 ? null : lost > 0 ? "lost" : "won");
    const row = (label, one, begin) => make("tr", {},
      make("td", {}, begin === null ? label : make("button", { class: "plain", title: "Go there", onclick: () => toStep(begin) }, label)),
      make("td", {}, seconds(one.own_s)), make("td", {}, seconds(one.other_s)),
      make("td", { class: kind(one) }, signed(one.lost_s)),
      make("td", { class: "bar" }, begin === null ? null : make("i", { class: kind(one), style: { width: `${(100 * Math.abs(one.lost_s)) / most}%` } })));
    const sum = (key) => found.reduce((all, one) => all + one[key], 0);
    fill($("sectors"),
      make("figcaption", {}, make("b", {}, `${ghost.label} against ${other.label}`), make("span", { class: total > 0 ? "lost" : "won" }, `${signed(total)} s`)),
      make("table", {}, make("thead", {}, make("tr", {}, ...["sector", ghost.label, other.label, "lost", ""].map((head) => make("th", {}, head)))),
        make("tbody", {}, ...found.map((one, k) => row(`${k + 1}`, one, k ? ghost.lap.gates_s[k - 1] : 0)), row("all", { own_s: sum("own_s"), other_s: sum("other_s"), lost_s: total }, null))));
  }

  /** The list of runs; open: the run that is shown; compared: ids that are ticked. */
  runs(list, open, compared, { choose, compare }) {
    fill($("runs").querySelector("tbody"), ...list.map((run) => {
      const box = make("input", { type: "checkbox", "aria-label": `Compare ${run.name}`, disabled: run.id === open });
      box.checked = run.id === open || compared.has(run.id);
      box.addEventListener("change", () => compare(run.id, box.checked));
      const result = run.best_lap_s === null ? (run.return_mean === null ? "-" : `return ${short(run.return_mean)}`) : seconds(run.best_lap_s);
      return make("tr", { class: run.id === open ? "open" : null }, make("td", {}, box),
        make("td", {}, make("button", { onclick: () => choose(run.id) }, run.name)),
        make("td", {}, result, " ", run.medal ? badge(run.medal) : ""), make("td", {}, short(run.frames)), make("td", {}, clock(run.seconds)));
    }));
  }
}

const hasValues = (series) => series[0]?.y.some((value) => value !== null);

const badge = (medal) => make("span", { class: "medal", style: { "--own": MEDALS[medal] } }, medal);

const shortName = (name) => (name.length > 18 ? `…${name.slice(-17)}` : name);
