// The page to watch a node, or a fleet, by: figures come each second over /v1/live.

import { arcs, bytes, heard, minutes, number, own, percent, purges, rate, sentTo, state as stateOf, states, totals, traffic, urls } from "./figures.js";
import { bars, draw, outline } from "./map.js";
import { know, listen } from "./ask.js";

const $ = (selector) => document.querySelector(selector);

// Cells that say the same stay, so that neither a reader's place nor a selection is lost each second.
function rows(table, lines) {
  // What has the focus is not taken away from under it.
  if ($(table).contains(document.activeElement)) return;
  const body = $(`${table} tbody`);
  while (body.rows.length > lines.length) body.deleteRow(-1);
  lines.forEach((cells, at) => {
    const row = body.rows[at] ?? body.insertRow();
    cells.forEach((content, column) => {
      const cell = row.cells[column] ?? row.appendChild(heading(column));
      const said = content instanceof Node ? content.outerHTML : String(content);
      if (cell.dataset.said === said) return;
      cell.dataset.said = said;
      cell.replaceChildren(content);
    });
  });
}

function heading(column) {
  const cell = document.createElement(column ? "td" : "th");
  if (!column) cell.scope = "row";
  return cell;
}

function state([kind, text]) {
  const element = document.createElement("span");
  element.className = `state ${kind}`;
  element.textContent = text;
  return element;
}

function figures(list) {
  $("#figures").replaceChildren(...list.map(([name, value]) => {
    const group = document.createElement("div");
    const [term, told] = [document.createElement("dt"), document.createElement("dd")];
    [term.textContent, told.textContent] = [name, value];
    group.append(term, told);
    return group;
  }));
}

function nodeRow(nodes, pops) {
  return (node) => {
    const { now, hour } = node.traffic ?? {};
    const caches = node.tier === "edge" || node.tier === "shield";
    const sent = node.tier === "edge" ? sentTo(nodes, node) : null;
    return [node.node, node.tier === "geodns" ? "nameserver" : node.tier, state(stateOf(node, pops)),
      sent === null ? "" : number(sent), now ? rate(now.requests_per_s ?? 0) : "", caches && now ? percent(now.hits, now.requests) : "",
      hour ? number(hour.requests) : node.total ? number(node.total.requests) : "", caches && hour ? percent(hour.hits, hour.requests) : "",
      node.memory ? `${bytes(node.memory.used)} of ${bytes(node.memory.capacity)}` : ""];
  };
}

function urlRow(seen) {
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = seen.url;
  button.addEventListener("click", () => {
    for (const form of ["#ask-http", "#purge"]) $(form).elements.url.value = `http://${seen.url}`;
    $("#ask-http").scrollIntoView({ block: "center" });
    $("#ask-http").elements.url.focus();
  });
  const endings = [...seen.endings].sort((a, b) => b[1] - a[1]).map(([ending, count]) => `${ending} ${count}`);
  return [button, number(seen.requests), percent(seen.hits, seen.requests), endings.join(", ")];
}

function upstreams(world, nodes) {
  const lines = [];
  for (const shield of world?.shields ?? []) {
    const node = nodes.find((node) => node.tier === "shield" && node.node === shield.id);
    lines.push(`${shield.id} at ${shield.url}, for ${shield.pops.join(", ") || "every PoP"}` + (node ? `: ${own(node)[1]}, ${percent(node.traffic?.hour?.hits, node.traffic?.hour?.requests)} hits` : ""));
  }
  for (const site of world?.sites ?? []) lines.push(`${site.name} from ${site.origins.join(", ")}`);
  const list = $("#upstreams");
  if (list.textContent === lines.join("")) return;
  list.replaceChildren(...lines.map((line) => Object.assign(document.createElement("li"), { textContent: line })));
}

function show(all) {
  const nodes = heard(all);
  const world = nodes.find((node) => node.world)?.world;
  const pops = states(nodes);
  $("#cdn").textContent = world ? `${world.cdn}, ${world.zone}` : nodes[0]?.node ?? "";
  document.title = `${nodes.length === 1 ? nodes[0].node : world?.cdn ?? `${nodes.length} nodes`} – Perigee`;
  figures(totals(nodes));
  $(".map").hidden = !world;
  draw(world, pops, arcs(nodes), traffic(nodes));
  bars(minutes(nodes));
  const order = ["edge", "shield", "geodns", "origin", "unknown"];
  rows("#nodes", [...nodes].sort((a, b) => order.indexOf(a.tier) - order.indexOf(b.tier)).map(nodeRow(nodes, pops)));
  rows("#urls", urls(nodes).map(urlRow));
  upstreams(world, nodes);
  know(nodes);
  const lately = purges(nodes);
  const line = $("#purges");
  const told = lately.length ? `Purged lately: ${lately.join(", ")}.` : "";
  if (line.textContent !== told) line.textContent = told;
}

function link(text, lost) {
  const line = $("#link");
  line.className = lost ? "lost" : "";
  if (line.textContent !== text) line.textContent = text;
}

// A stream that is silent for so long is as good as lost; a page that nobody sees for so long needs none.
const [SILENCE_MS, UNSEEN_MS] = [10000, 30000];
let live = null;
let last = null;
let heardAt = 0;

function present() {
  if (document.hidden || !last) return;
  try {
    show(JSON.parse(last));
    link("live");
  } catch (error) {
    link(`figures came that this page cannot read: ${error.message}`, true);
  }
}

function follow() {
  const stream = new EventSource("/v1/live");
  live = stream;
  heardAt = performance.now();
  stream.onmessage = (event) => {
    heardAt = performance.now();
    last = event.data;
    present();
  };
  stream.onerror = () => {
    link("the server of this page does not answer; trying again", true);
    // A refusal ends an EventSource for good; what was only cut goes on by itself.
    if (stream.readyState === EventSource.CLOSED) setTimeout(() => live === stream && follow(), 5000);
  };
}

function watch() {
  if (!live || document.hidden || performance.now() - heardAt < SILENCE_MS) return;
  link(`no figures for ${Math.round((performance.now() - heardAt) / 1000)} s`, true);
}

// Browsers open few streams to one server: pages in hidden tabs must not keep them all.
let unseen = 0;
document.addEventListener("visibilitychange", () => {
  clearTimeout(unseen);
  if (document.hidden) {
    unseen = setTimeout(() => {
      live?.close();
      live = null;
    }, UNSEEN_MS);
  } else if (live) {
    present();
  } else {
    link("connecting");
    follow();
  }
});

listen();
outline();
follow();
setInterval(watch, 2000);
