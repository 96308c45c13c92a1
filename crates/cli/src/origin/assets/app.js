// Shows how this page and its parts came here: asks for each again and reads what the edge says about it.
"use strict";

async function journey(path) {
  const response = await fetch(path, { method: "HEAD" });
  return [
    path,
    response.headers.get("cache-status") ?? "straight from the origin",
    response.headers.get("age") ?? "0",
  ];
}

async function tell() {
  const table = document.getElementById("journey");
  if (!table) return;
  const parts = [...document.querySelectorAll("img[src], script[src], link[rel=stylesheet]")];
  const paths = new Set(parts.map((part) => new URL(part.src ?? part.href).pathname));
  const rows = await Promise.all([location.pathname, ...paths].map(journey));
  for (const row of [["part", "Cache-Status", "Age"], ...rows]) {
    const line = table.insertRow();
    for (const cell of row) line.insertCell().textContent = cell;
  }
}

tell().catch((error) => console.warn(error));
