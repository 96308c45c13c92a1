// Makes land.path from Natural Earth's land at 1:110 million (public domain, version 4.1.0), as the npm package
// world-atlas 2.0.2 has it in land-110m.json:
//
//     node land.mjs land-110m.json > land.path
//
// Equirectangular, five units a degree, whole units. Rings that cross the date line are drawn at both edges of the map;
// Antarctica is left out, since nobody serves from there.
import { readFileSync } from "node:fs";

const world = JSON.parse(readFileSync(process.argv[2]));
const { scale, translate } = world.transform;
const arcs = world.arcs.map((arc) => {
  let [x, y] = [0, 0];
  return arc.map(([dx, dy]) => [(x += dx) * scale[0] + translate[0], (y += dy) * scale[1] + translate[1]]);
});
const rings = (shape) => shape.geometries?.flatMap(rings) ?? (shape.type === "Polygon" ? shape.arcs : shape.arcs.flat());
const points = (ring) => ring.flatMap((at) => at < 0 ? arcs[~at].toReversed() : arcs[at]);

// Longitudes go on beyond 180 where a ring crosses the date line.
function unrolled(ring) {
  let turn = 0;
  return ring.map(([longitude, latitude], at) => {
    const step = at ? longitude - ring[at - 1][0] : 0;
    if (Math.abs(step) > 180) turn -= 360 * Math.sign(step);
    return [longitude + turn, latitude];
  });
}

function path(ring, shift) {
  let [text, last] = ["", null];
  let count = 0;
  for (const [longitude, latitude] of ring) {
    const at = [Math.round((longitude + shift + 180) * 5), Math.round((90 - latitude) * 5)];
    if (last && at[0] === last[0] && at[1] === last[1]) continue;
    const [x, y] = last ? [at[0] - last[0], at[1] - last[1]] : at;
    text += `${count === 0 ? "M" : count === 1 ? "l" : x < 0 ? "" : " "}${x}${y < 0 ? "" : " "}${y}`;
    [last, count] = [at, count + 1];
  }
  return count > 3 ? `${text}z` : "";
}

let all = "";
for (const ring of rings(world.objects.land).map(points).map(unrolled)) {
  if (ring.every(([, latitude]) => latitude < -60)) continue;
  const longitudes = ring.map(([longitude]) => longitude);
  all += path(ring, 0);
  if (Math.max(...longitudes) > 180.5) all += path(ring, -360);
  if (Math.min(...longitudes) < -180.5) all += path(ring, 360);
}
process.stdout.write(all);
