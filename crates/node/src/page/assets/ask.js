// Questions to nodes, and purges. What is for another node goes through the page's server, which knows where it is.

let purgeOrder = [];

// A node without an `at` is the server itself.
const at = (where, path) => where ? `/v1/at/${encodeURIComponent(where)}/${path}` : `/v1/${path}`;

export function know(nodes) {
  const there = nodes.filter((node) => !node.ended && node.tier !== "origin");
  const of = (...tiers) => there.filter((node) => tiers.includes(node.tier));
  // Shields first: else an edge may fetch from one again what it was just told to forget. One that is not reached is asked
  // too, so that it is said which did not purge.
  purgeOrder = [...of("shield"), ...of("edge"), ...of("unknown")];
  const [http, dns] = [of("edge", "shield").filter((node) => !node.away), of("geodns").filter((node) => !node.away)];
  fill(".http-nodes", http, nodes);
  fill(".dns-nodes", dns, nodes);
  document.querySelector("#ask-http").hidden = !http.length;
  document.querySelector("#ask-dns").hidden = !dns.length;
  document.querySelector("#purge").closest("section").hidden = !http.length;
}

// Nodes of one name are told apart by where they are.
const name = (node, nodes) => nodes.filter((other) => other.node === node.node).length > 1 && node.at ? `${node.node} (${node.at})` : node.node;

function fill(selector, list, nodes) {
  const wanted = list.map((node) => [name(node, nodes), node.at ?? ""]);
  for (const select of document.querySelectorAll(selector)) {
    if (JSON.stringify([...select.options].map((option) => [option.text, option.value])) === JSON.stringify(wanted)) continue;
    // What somebody chose stays; else it is the first, though others came before it.
    const chosen = select.dataset.chosen;
    select.replaceChildren(...wanted.map(([text, value]) => new Option(text, value, false, value === chosen)));
  }
}

function say(output, text, wrong) {
  output.className = wrong ? "wrong" : "";
  output.textContent = text;
}

async function json(url, options) {
  const answer = await fetch(url, options);
  const told = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Error(told.message ?? `${answer.status} ${answer.statusText}`);
  return told;
}

export async function explainHttp(url, node) {
  const told = await json(at(node, `explain/http?url=${encodeURIComponent(url)}`));
  if (told.refused) return `refused: ${told.refused.status} ${told.refused.reason}`;
  const lines = [`site ${told.site}, generation ${told.generation}`, `${told.verdict.action}: ${told.verdict.reason}${told.verdict.clause ? ` (${told.verdict.clause})` : ""}`];
  if (told.key) lines.push(`key ${told.key}`);
  for (const stored of told.stored ?? []) {
    const fresh = stored.freshness;
    lines.push(`stored: ${stored.status}, ${stored.bytes ?? "?"} bytes, in ${stored.head}; age ${Math.round(fresh.age_ms / 1000)} s of ${Math.round(fresh.lifetime_ms / 1000)} s (${fresh.source})`);
    if (stored.purged) lines.push(`purged: ${stored.purged.reason}`);
  }
  if (!(told.stored ?? []).length) lines.push("nothing is stored");
  return lines.join("\n");
}

export async function explainDns(name, client, node) {
  const told = await json(at(node, `explain/dns?name=${encodeURIComponent(name)}&client=${encodeURIComponent(client)}`));
  return Array.isArray(told.text) ? told.text.join("\n") : told.text;
}

async function purge(url, soft, token) {
  const lines = [];
  for (const node of purgeOrder) {
    const said = name(node, purgeOrder);
    if (node.tier === "unknown") {
      // It may be no node at all: no token for it.
      lines.push(`${said}: not asked, since it was never heard: ${node.away?.why ?? ""}`);
      continue;
    }
    const headers = { authorization: `Bearer ${token}`, "content-type": "application/json" };
    try {
      const told = await json(at(node.at, "purge"), { method: "POST", headers, body: JSON.stringify({ url, soft }) });
      lines.push(`${said}: purged, number ${told.seq}`);
    } catch (error) {
      lines.push(`${said}: ${error.message}`);
    }
  }
  return lines.join("\n");
}

function on(form, output, work) {
  document.querySelector(form).addEventListener("submit", async (event) => {
    event.preventDefault();
    const said = document.querySelector(output);
    const fields = new FormData(event.target);
    say(said, "asking");
    try {
      say(said, await work((name) => (fields.get(name) ?? "").toString().trim()));
    } catch (error) {
      say(said, error.message, true);
    }
  });
}

export function listen() {
  for (const select of document.querySelectorAll("select")) select.addEventListener("change", () => { select.dataset.chosen = select.value; });
  on("#ask-http", "#answer", (of) => explainHttp(of("url"), of("node")));
  on("#ask-dns", "#answer", (of) => explainDns(of("name"), of("client"), of("node")));
  on("#purge", "#purged", (of) => purge(of("url"), of("soft") === "on", of("token")));
}
