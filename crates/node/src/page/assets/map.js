// The map and the bars of the hour. Equirectangular, five units a degree, as the outline of the land is.

const SVG = "http://www.w3.org/2000/svg";
const WIDTH = 1800;
const NAMED_MAX = 40;
const x = (longitude) => (longitude + 180) * 5;
const y = (latitude) => (90 - latitude) * 5;

function add(parent, name, attributes, text) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  if (text !== undefined) element.textContent = text;
  parent.append(element);
  return element;
}

// Bowed towards the pole, more the longer it is.
function bow(arcs, [ax, ay], [bx, by], way, most) {
  const height = Math.hypot(bx - ax, by - ay) * 0.25;
  const d = `M${ax} ${ay}Q${(ax + bx) / 2} ${(ay + by) / 2 - height} ${bx} ${by}`;
  const path = add(arcs, "path", { d, "stroke-width": 2 + 6 * way.answers / most });
  add(path, "title", {}, `${way.country ?? "somewhere"} → ${way.pop}: ${way.answers}`);
}

// Whether a name to the right would lie on another PoP.
function hasRightNeighbour(pop, places) {
  return [...places.values()].some((other) => other.longitude > pop.longitude && other.longitude - pop.longitude < 25 && Math.abs(other.latitude - pop.latitude) < 8);
}

export async function outline() {
  const answer = await fetch("/page/land.path");
  if (answer.ok) document.querySelector("#land").setAttribute("d", await answer.text());
}

let drawn = "";

export function draw(world, states, ways, traffic) {
  // What is the same stays, with whatever the pointer is over.
  const now = JSON.stringify([world?.pops, [...states], ways, [...traffic]]);
  if (now === drawn) return;
  drawn = now;
  const places = new Map((world?.pops ?? []).map((pop) => [pop.id, pop]));
  const arcs = document.querySelector("#arcs");
  arcs.replaceChildren();
  const most = Math.max(1, ...ways.map((way) => way.answers));
  for (const way of ways) {
    const to = places.get(way.pop);
    if (!to) continue;
    const [ax, ay, by] = [x(way.longitude), y(way.latitude), y(to.latitude)];
    // The short way round: over the date line it is drawn at both edges of the map.
    const across = x(to.longitude) - ax;
    const turn = Math.abs(across) > WIDTH / 2 ? -WIDTH * Math.sign(across) : 0;
    for (const shift of new Set([0, -turn])) bow(arcs, [ax + shift, ay], [x(to.longitude) + turn + shift, by], way, most);
    add(arcs, "circle", { cx: ax, cy: ay, r: 6 });
  }
  // Where there are many, those are named that something is to be said of, and the busiest.
  const busy = [...traffic].sort(([, a], [, b]) => b.share - a.share).slice(0, NAMED_MAX / 2).map(([id]) => id);
  const named = (id) => places.size <= NAMED_MAX || busy.includes(id) || ["down", "warn"].includes(states.get(id)?.[0]);
  const pops = document.querySelector("#pops");
  pops.replaceChildren();
  for (const pop of places.values()) {
    const [state, said] = states.get(pop.id) ?? ["unknown", "not known here"];
    const here = traffic.get(pop.id);
    const wide = 12 + 10 * Math.sqrt(here?.share ?? 0);
    const dot = add(pops, "circle", { cx: x(pop.longitude), cy: y(pop.latitude), r: wide, class: state });
    add(dot, "title", {}, `${pop.city || pop.id}: ${said}${here ? `, ${here.told}` : ""}`);
    if (!named(pop.id)) continue;
    const toTheLeft = x(pop.longitude) > 1600 || hasRightNeighbour(pop, places);
    add(pops, "text", { x: x(pop.longitude) + (toTheLeft ? -wide - 8 : wide + 8), y: y(pop.latitude) + 9, "text-anchor": toTheLeft ? "end" : "start" }, pop.id);
  }
  const down = [...places.keys()].filter((id) => states.get(id)?.[0] === "down");
  const busiest = ways.slice(0, 3).map((way) => `${way.country ?? "somewhere"} to ${way.pop}`);
  const told = `${places.size} PoP${places.size === 1 ? "" : "s"}, ${down.length ? `${down.join(", ")} down` : "none known to be down"}.` +
    (busiest.length ? ` Most asked lately: ${busiest.join(", ")}.` : ways.length ? "" : " No steered answers lately.");
  const line = document.querySelector("#map-told");
  if (line.textContent !== told) line.textContent = told;
}

export function bars(points) {
  const svg = document.querySelector("#hour");
  svg.replaceChildren();
  const most = Math.max(1, ...points.map(([requests]) => requests));
  points.forEach(([requests, hits], at) => {
    const tall = 115 * requests / most;
    const hit = requests ? Math.min(tall, tall * hits / requests) : 0;
    if (requests) add(svg, "rect", { class: "rest", x: at * 10 + 1, y: 120 - tall, width: 8, height: Math.max(0, tall - hit) });
    if (hits) add(svg, "rect", { class: "hit", x: at * 10 + 1, y: 120 - hit, width: 8, height: hit });
  });
  const all = points.reduce((sum, [requests]) => sum + requests, 0);
  const hits = points.reduce((sum, [, hits]) => sum + hits, 0);
  const told = `A bar a minute, the last at the right; the green part was answered from the cache. ${all} in all, ${hits} hits, at most ${most} a minute.`;
  const line = document.querySelector("#hour-told");
  if (line.textContent !== told) line.textContent = told;
}
