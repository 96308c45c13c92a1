// Figures of several nodes made one; nothing here touches the page.

export const number = (n) => n >= 1e6 ? `${(n / 1e6).toFixed(1)}M` : n >= 1e4 ? `${(n / 1e3).toFixed(1)}k` : Math.round(n).toString();
export const rate = (n) => n >= 10 ? number(n) : n.toFixed(1);
export const percent = (part, whole) => whole > 0 ? `${Math.round(100 * part / whole)} %` : "–";
export const bytes = (n) => {
  for (const unit of ["B", "KiB", "MiB", "GiB"]) {
    if (n < 1024) return `${n < 10 && unit !== "B" ? n.toFixed(1) : Math.round(n)} ${unit}`;
    n /= 1024;
  }
  return `${n.toFixed(1)} TiB`;
};

const of = (nodes, ...tiers) => nodes.filter((node) => tiers.includes(node.tier));
const sum = (list, pick) => list.reduce((all, one) => all + (pick(one) ?? 0), 0);
// A PoP may have several nodes.
const place = (node) => node.pop ?? node.node;
const clock = (ms) => new Date(ms).toLocaleTimeString();

// What a node that is not heard, or has ended, told last is no news: what it counted stays, what was so then goes.
export const heard = (nodes) => nodes.map((node) => node.away || node.ended
  ? { ...node, traffic: node.traffic && { hour: node.traffic.hour }, pops: {}, arcs: [] } : node);

// What is shown at the top: of the edges, or of whatever this node is.
export function totals(nodes) {
  const edges = of(nodes, "edge");
  const front = edges.length ? edges : of(nodes, "shield");
  const dns = of(nodes, "geodns");
  const figures = [];
  if (front.length) {
    const now = (field) => sum(front, (node) => node.traffic?.now?.[field]);
    const hour = (field) => sum(front, (node) => node.traffic?.hour?.[field]);
    figures.push(["requests/s", rate(now("requests_per_s"))], ["hits now", percent(now("hits"), now("requests"))],
      ["requests, hour", number(hour("requests"))], ["hits, hour", percent(hour("hits"), hour("requests"))],
      ["sent, hour", bytes(hour("bytes"))]);
  }
  if (dns.length) {
    figures.push(["DNS answers/s", rate(sum(dns, (node) => node.traffic?.now?.requests_per_s))],
      ["DNS, hour", number(sum(dns, (node) => node.traffic?.hour?.requests))]);
  }
  for (const origin of of(nodes, "origin")) figures.push(["origin requests", number(origin.total.requests)]);
  return figures;
}

// [requests, hits] of each minute, of the tier that faces clients.
export function minutes(nodes) {
  const front = ["edge", "shield", "geodns"].map((tier) => of(nodes, tier)).find((list) => list.length) ?? [];
  const points = Array.from({ length: 60 }, () => [0, 0]);
  for (const node of front) (node.traffic?.hour?.minutes ?? []).forEach(([requests, hits], at) => {
    points[at][0] += requests;
    points[at][1] += hits;
  });
  return points;
}

// How a PoP is: what nameservers say of its addresses, else what the node there says of itself.
export function states(nodes) {
  const [states, places] = [new Map(), new Map()];
  for (const node of of(nodes, "edge")) places.set(place(node), [...places.get(place(node)) ?? [], own(node)]);
  for (const [pop, all] of places) {
    const up = all.filter(([kind]) => kind === "up").length;
    states.set(pop, up === 0 || up === all.length ? all[0] : ["warn", `${up} of ${all.length} nodes up`]);
  }
  for (const server of of(nodes, "geodns")) {
    for (const [id, pop] of Object.entries(server.pops ?? {})) {
      const addresses = Object.values(pop.addresses ?? {});
      const up = addresses.filter((address) => address === "up").length;
      const all = addresses.length;
      const known = states.get(id)?.[0];
      if (known === "down" || known === "warn") continue;
      if (pop.state === "drain") states.set(id, ["warn", "drained by an operator"]);
      else if (pop.state === "force_up") states.set(id, ["up", "up, says an operator"]);
      else if (all && up < all) states.set(id, up ? ["warn", `${up} of ${all} up`] : [addresses[0] === "down" ? "down" : "warn", addresses[0]]);
      else states.set(id, ["up", "up"]);
    }
  }
  return states;
}

export function own(node) {
  const [kind, said] = word(node);
  const skew = Math.round((node.skew_ms ?? 0) / 1000);
  return [kind, Math.abs(skew) > 5 ? `${said}, its clock ${Math.abs(skew)} s ${skew > 0 ? "ahead" : "behind"}` : said];
}

function word(node) {
  if (node.away) return ["unknown", node.away.since_ms ? `not reached since ${clock(node.away.since_ms)}: ${node.away.why}` : node.away.why];
  if (node.ended) return ["down", "ended"];
  if (node.draining) return ["warn", "draining"];
  if (node.reasons && Object.keys(node.reasons).length) return ["warn", `not ready: ${node.reasons[0]}`];
  return ["up", "up"];
}

export function arcs(nodes) {
  const all = new Map();
  for (const { latitude, longitude, country, pop, answers } of of(nodes, "geodns").flatMap((node) => node.arcs ?? [])) {
    const key = `${latitude} ${longitude} ${pop}`;
    const known = all.get(key) ?? { latitude, longitude, country, pop, answers: 0 };
    known.answers += answers;
    all.set(key, known);
  }
  return [...all.values()].sort((a, b) => b.answers - a.answers).slice(0, 64);
}

export function urls(nodes) {
  const all = new Map();
  const edges = of(nodes, "edge");
  for (const seen of (edges.length ? edges : nodes).flatMap((node) => node.urls ?? [])) {
    const known = all.get(seen.url) ?? { url: seen.url, requests: 0, hits: 0, endings: new Map() };
    known.requests += seen.requests;
    known.hits += seen.hits;
    for (const [cache, reason, count] of seen.endings) {
      const ending = `${cache} (${reason})`;
      known.endings.set(ending, (known.endings.get(ending) ?? 0) + count);
    }
    all.set(seen.url, known);
  }
  return [...all.values()].sort((a, b) => b.requests - a.requests || a.url.localeCompare(b.url)).slice(0, 20);
}

// The last purges: those of one kind within five seconds are one, at so many nodes.
export function purges(nodes) {
  const groups = [];
  const all = nodes.flatMap((node) => (node.purges ?? []).map((purge) => ({ ...purge, at_ms: purge.at_ms - (node.skew_ms ?? 0), node: node.node }))).sort((a, b) => b.at_ms - a.at_ms);
  for (const { at_ms, kind, node } of all) {
    const last = groups.at(-1);
    if (last && last.kind === kind && last.at_ms - at_ms < 5000) last.nodes.add(node);
    else groups.push({ at_ms, kind, nodes: new Set([node]) });
  }
  return groups.slice(0, 5).map(({ at_ms, kind, nodes }) =>
    `${clock(at_ms)} ${kind} at ${nodes.size === 1 ? [...nodes][0] : `${nodes.size} nodes`}`);
}

// What each PoP does for clients now, and its share of it.
export function traffic(nodes) {
  const pops = new Map();
  for (const node of of(nodes, "edge").filter((node) => node.traffic?.now)) pops.set(place(node), [...pops.get(place(node)) ?? [], node]);
  const of_pop = (all, field) => sum(all, (node) => node.traffic.now[field]);
  const whole = sum([...pops.values()], (all) => of_pop(all, "requests"));
  return new Map([...pops].map(([pop, all]) => [pop, {
    share: whole ? of_pop(all, "requests") / whole : 0,
    told: `${rate(of_pop(all, "requests_per_s"))} a second, ${percent(of_pop(all, "hits"), of_pop(all, "requests"))} hits`,
  }]));
}

// Of a node's row: its own word, and where that is good, what is known of its PoP.
export function state(node, pops) {
  const mine = own(node);
  return node.tier === "edge" && mine[0] === "up" && mine[1] === "up" ? pops.get(place(node)) ?? mine : mine;
}

export const sentTo = (nodes, node) => {
  const servers = of(nodes, "geodns").filter((server) => server.answers_by_pop);
  return servers.length ? sum(servers, (server) => server.answers_by_pop[place(node)]) : null;
};
