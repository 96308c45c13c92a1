// Questions to nodes, and purges. In a fleet's page they go through its server, which knows where nodes are.

let fleet = false;
let purgeOrder = [];

const at = (node, path) => fleet ? `/v1/at/${encodeURIComponent(node)}/${path}` : `/v1/${path}`;

export function know(nodes) {
  fleet = nodes.length > 1;
  const http = nodes.filter((node) => (node.tier === "edge" || node.tier === "shield") && !node.ended).map((node) => node.node);
  const dns = nodes.filter((node) => node.tier === "geodns" && !node.ended).map((node) => node.node);
  // Shields first: else an edge may fetch from one again what it was just told to forget.
  purgeOrder = [...nodes].filter((node) => !node.ended && (node.tier === "edge" || node.tier === "shield"))
    .sort((a, b) => (b.tier === "shield") - (a.tier === "shield")).map((node) => node.node);
  fill(".http-nodes", http);
  fill(".dns-nodes", dns);
  document.querySelector("#ask-http").hidden = !http.length;
  document.querySelector("#ask-dns").hidden = !dns.length;
  document.querySelector("#purge").closest("section").hidden = !http.length;
}

function fill(selector, names) {
  for (const select of document.querySelectorAll(selector)) {
    if ([...select.options].map((option) => option.value).join() === names.join()) continue;
    const chosen = select.value;
    select.replaceChildren(...names.map((name) => new Option(name, name, false, name === chosen)));
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
    const headers = { authorization: `Bearer ${token}`, "content-type": "application/json" };
    try {
      const told = await json(at(node, "purge"), { method: "POST", headers, body: JSON.stringify({ url, soft }) });
      lines.push(`${node}: purged, number ${told.seq}`);
    } catch (error) {
      lines.push(`${node}: ${error.message}`);
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
  on("#ask-http", "#answer", (of) => explainHttp(of("url"), of("node")));
  on("#ask-dns", "#answer", (of) => explainDns(of("name"), of("client"), of("node")));
  on("#purge", "#purged", (of) => purge(of("url"), of("soft") === "on", of("token")));
}
