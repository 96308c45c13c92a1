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
  const states = new Map();
  for (const node of of(nodes, "edge")) states.set(node.node, own(node));
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
  if (node.ended) return ["down", "ended"];
  if (node.draining) return ["warn", "draining"];
  if (node.reasons && Object.keys(node.reasons).length) return ["warn", "not ready"];
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
  const all = nodes.flatMap((node) => (node.purges ?? []).map((purge) => ({ ...purge, node: node.node }))).sort((a, b) => b.at_ms - a.at_ms);
  for (const { at_ms, kind, node } of all) {
    const last = groups.at(-1);
    if (last && last.kind === kind && last.at_ms - at_ms < 5000) last.nodes.add(node);
    else groups.push({ at_ms, kind, nodes: new Set([node]) });
  }
  return groups.slice(0, 5).map(({ at_ms, kind, nodes }) =>
    `${new Date(at_ms).toLocaleTimeString()} ${kind} at ${nodes.size === 1 ? [...nodes][0] : `${nodes.size} nodes`}`);
}

// What each PoP does for clients now, and its share of it.
export function traffic(nodes) {
  const edges = of(nodes, "edge").filter((node) => node.traffic?.now);
  const all = sum(edges, (node) => node.traffic.now.requests);
  return new Map(edges.map(({ node, traffic: { now } }) => [node,
    { share: all ? now.requests / all : 0, told: `${rate(now.requests_per_s)} a second, ${percent(now.hits, now.requests)} hits` }]));
}

export const sentTo = (nodes, pop) => {
  const servers = of(nodes, "geodns");
  return servers.length ? sum(servers, (node) => node.answers_by_pop?.[pop]) : null;
};
