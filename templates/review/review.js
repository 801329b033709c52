"use strict";
/* The page of a mask review. The mask is an array of 0 and 1 in the pixels of the stored frame, so
   what is drawn is what is stored, at any zoom. A decision is shown as saved only when the server
   has it on disk. */

const $ = (id) => document.getElementById(id);
const COLOR = [255, 176, 0]; // visible on gray for all kinds of color vision
const view = { scale: 1, x: 0, y: 0 }; // canvas pixels per frame pixel, and the place of pixel 0, 0
const canvas = $("view"), stage = $("stage"), pen = canvas.getContext("2d");
let item = null, frame = null, mask = null, proposal = null, layer = null;
let tool = "move", hidden = false, busy = false, polygon = [], last = null, pointers = new Map();
const ready = new Map(); // items that were loaded ahead, by place

/* -- the server -- */

async function call(path, body) {
  const given = body === undefined ? {} : {
    method: "POST", body: JSON.stringify(body), headers: { "Content-Type": "application/json" },
  };
  const answer = await fetch(path, { credentials: "same-origin", ...given });
  if (answer.status === 409) return { stale: true };
  if (!answer.ok) {
    const text = await answer.text();
    let told = text;
    try { const parsed = JSON.parse(text); told = parsed.error || parsed.detail || text; } catch { /* plain text */ }
    throw new Error(typeof told === "string" ? told : JSON.stringify(told));
  }
  return answer;
}

async function load(place) {
  const facts = await (await call(`/api/item/${place}`)).json();
  const [picture, bits] = await Promise.all([
    call(`/api/frame/${place}`).then((answer) => answer.blob()).then(createImageBitmap),
    call(`/api/mask/${place}`).then((answer) => answer.arrayBuffer()),
  ]);
  const packed = new Uint8Array(bits), pixels = new Uint8Array(facts.width * facts.height);
  for (let at = 0; at < pixels.length; at++) pixels[at] = (packed[at >> 3] >> (7 - (at & 7))) & 1;
  return { facts, picture, pixels };
}

async function show(place) {
  say("loading", "busy");
  const loaded = ready.get(place) || load(place);
  ready.clear();
  const { facts, picture, pixels } = await loaded;
  const fits = item && item.width === facts.width && item.height === facts.height;
  item = facts; frame = picture; proposal = pixels; mask = pixels.slice(); polygon = [];
  layer = new ImageData(item.width, item.height);
  describe();
  paint();
  if (!fits) fit(); else draw();
  say(item.decided ? `saved: ${item.decided}` : "ready");
  ahead(place).catch((error) => say(error.message, "failed")); // a key that is pressed meanwhile counts
}

function describe() {
  $("structure").textContent = item.structure;
  $("facts").textContent = [
    item.plane || "plane unknown", `source ${item.source}`,
    item.score === null ? "no score" : `score ${item.score.toFixed(2)}`,
    `mask ${item.place + 1}`, item.decided ? `decided: ${item.decided}` : item.state,
  ].join(" · ");
  document.title = `${item.structure} · review`;
}

async function ahead(place) {
  await count();
  const next = (await (await call(`/api/next/${place}`)).json()).place;
  if (next === null || next === place) return;
  const loading = load(next).catch(() => load(next));
  loading.catch(() => {}); // `show` reports it
  ready.set(next, loading);
}

async function count() {
  const all = await (await call("/api/progress")).json();
  $("bar").max = all.total; $("bar").value = all.decided;
  $("count").textContent = `${all.decided} of ${all.total} decided by ${all.reviewer}`;
  $("structures").replaceChildren(...Object.entries(all.structures).map(([name, [done, total]]) => {
    const row = document.createElement("tr");
    for (const text of [name, `${done} / ${total}`]) row.insertCell().textContent = text;
    return row;
  }));
}

function packed(pixels) {
  const bytes = new Uint8Array(Math.ceil(pixels.length / 8));
  for (let at = 0; at < pixels.length; at++) bytes[at >> 3] |= pixels[at] << (7 - (at & 7));
  let text = "";
  for (const byte of bytes) text += String.fromCharCode(byte);
  return btoa(text);
}

const changed = () => mask.some((value, at) => value !== proposal[at]);

async function decide(action) {
  if (busy || !item) return;
  if (action === "accept" && changed()) action = "edit";
  busy = true;
  say("saving", "busy");
  try {
    const body = { place: item.place, version: item.version, action };
    if (action === "edit") body.mask = packed(mask);
    const answer = await call("/api/decision", body);
    if (answer.stale) {
      ready.clear();
      await show(item.place);
      say("decided elsewhere meanwhile; this is the mask as it is now", "failed");
      return;
    }
    item = { ...item, ...(await answer.json()) };
    describe();
    say(`saved: ${action}`);
    await go(1).catch((error) => say(`saved: ${action}; the next mask cannot be shown: ${error.message}`, "failed"));
  } catch (error) {
    say(`NOT saved: ${error.message}`, "failed");
  } finally {
    busy = false;
  }
}

async function go(step) {
  if (step < 0) { if (item.place > 0) await show(item.place - 1); return; }
  const next = (await (await call(`/api/next/${item.place}`)).json()).place;
  if (next === null) { await count(); say("all masks are decided; close the page and press Ctrl-C in the terminal"); return; }
  await show(next);
}

const move = (step) => go(step).catch((error) => say(error.message, "failed"));

async function undo() {
  if (busy) return;
  busy = true;
  try {
    const { item: before } = await (await call("/api/undo", {})).json();
    ready.clear();
    if (before === null) say("nothing to undo"); else { await show(before.place); say("undone"); }
  } catch (error) {
    say(`NOT undone: ${error.message}`, "failed");
  } finally {
    busy = false;
  }
}

function say(text, kind = "") { $("saved").textContent = text; $("saved").className = kind; }

/* -- drawing -- */

function paint() {
  const data = layer.data, alpha = Math.round(2.55 * $("opacity").value);
  const { width, height } = item;
  for (let at = 0; at < mask.length; at++) {
    const x = at % width, y = (at - x) / width;
    const edge = mask[at] && (x === 0 || y === 0 || x === width - 1 || y === height - 1 ||
      !mask[at - 1] || !mask[at + 1] || !mask[at - width] || !mask[at + width]);
    data.set(COLOR, 4 * at);
    data[4 * at + 3] = mask[at] ? (edge ? 255 : alpha) : 0;
  }
}

const sheet = document.createElement("canvas");
function draw() {
  if (!item) return;
  const ratio = window.devicePixelRatio || 1;
  canvas.width = Math.round(stage.clientWidth * ratio);
  canvas.height = Math.round(stage.clientHeight * ratio);
  pen.setTransform(view.scale * ratio, 0, 0, view.scale * ratio, view.x * ratio, view.y * ratio);
  pen.imageSmoothingEnabled = view.scale < 1;
  pen.drawImage(frame, 0, 0);
  if (!hidden) {
    sheet.width = item.width; sheet.height = item.height;
    sheet.getContext("2d").putImageData(layer, 0, 0);
    pen.imageSmoothingEnabled = false;
    pen.drawImage(sheet, 0, 0);
  }
  if (polygon.length) {
    pen.strokeStyle = "#7cc0ff"; pen.lineWidth = 1.5 / view.scale;
    pen.beginPath();
    polygon.forEach(([x, y], at) => (at ? pen.lineTo(x, y) : pen.moveTo(x, y)));
    pen.closePath(); pen.stroke();
  }
  if (last && (tool === "brush" || tool === "eraser")) {
    pen.strokeStyle = "#ffffff"; pen.lineWidth = 1 / view.scale;
    pen.beginPath(); pen.arc(last[0], last[1], radius(), 0, 7); pen.stroke();
  }
}

const refresh = () => { paint(); draw(); };
const radius = () => Number($("size").value) / 2;

function fit() {
  view.scale = Math.min(stage.clientWidth / item.width, stage.clientHeight / item.height);
  view.x = (stage.clientWidth - view.scale * item.width) / 2;
  view.y = (stage.clientHeight - view.scale * item.height) / 2;
  draw();
}

function zoom(factor, x = stage.clientWidth / 2, y = stage.clientHeight / 2) {
  const scale = Math.min(64, Math.max(0.1, view.scale * factor));
  view.x = x - (x - view.x) * scale / view.scale;
  view.y = y - (y - view.y) * scale / view.scale;
  view.scale = scale;
  draw();
}

function stroke(from, to, value) {
  const reach = radius(), steps = Math.max(1, Math.ceil(Math.hypot(to[0] - from[0], to[1] - from[1])));
  for (let step = 0; step <= steps; step++) {
    const x = from[0] + (to[0] - from[0]) * step / steps, y = from[1] + (to[1] - from[1]) * step / steps;
    for (let row = Math.max(0, Math.floor(y - reach)); row <= Math.min(item.height - 1, y + reach); row++)
      for (let column = Math.max(0, Math.floor(x - reach)); column <= Math.min(item.width - 1, x + reach); column++)
        if (Math.hypot(column + 0.5 - x, row + 0.5 - y) <= Math.max(reach, 0.71)) mask[row * item.width + column] = value;
  }
}

/* Fills the pixels whose centers are inside, by the even-odd rule. */
function fill(points) {
  for (let row = 0; row < item.height; row++) {
    const y = row + 0.5, crossings = [];
    points.forEach(([x0, y0], at) => {
      const [x1, y1] = points[(at + 1) % points.length];
      if ((y0 <= y) !== (y1 <= y)) crossings.push(x0 + (y - y0) * (x1 - x0) / (y1 - y0));
    });
    crossings.sort((one, other) => one - other);
    for (let at = 0; at + 1 < crossings.length; at += 2)
      for (let x = Math.max(0, Math.ceil(crossings[at] - 0.5)); x <= Math.min(item.width - 1, crossings[at + 1] - 0.5); x++)
        mask[row * item.width + x] = 1;
  }
}

function closePolygon() {
  if (polygon.length > 2) fill(polygon);
  polygon = [];
  refresh();
}

function nudge(dx, dy) {
  const moved = new Uint8Array(mask.length), { width, height } = item;
  for (let y = Math.max(0, dy); y < Math.min(height, height + dy); y++)
    for (let x = Math.max(0, dx); x < Math.min(width, width + dx); x++)
      moved[y * width + x] = mask[(y - dy) * width + x - dx];
  mask = moved;
  refresh();
}

/* -- input -- */

function choose(name) {
  if (tool === "polygon" && name !== "polygon") closePolygon();
  tool = name;
  for (const button of $("tools").children) button.setAttribute("aria-pressed", String(button.dataset.tool === name));
  stage.style.cursor = name === "move" ? "grab" : "crosshair";
}

const commands = {
  accept: () => decide("accept"),
  save: () => (changed() ? decide("edit") : say("nothing is drawn; A accepts the mask as it is")),
  reject: () => decide("reject"),
  skip: () => decide("skip"),
  flag: () => decide("flag"),
  undo,
  clear: () => { mask.fill(0); refresh(); },
  restore: () => { mask = proposal.slice(); polygon = []; refresh(); },
};
const keys = {
  a: commands.accept, e: commands.save, r: commands.reject, s: commands.skip, f: commands.flag, u: undo,
  v: () => choose("move"), b: () => choose("brush"), x: () => choose("eraser"), p: () => choose("polygon"),
  n: () => move(1), l: () => move(-1), 0: fit, "+": () => zoom(1.25), "=": () => zoom(1.25), "-": () => zoom(0.8),
  "[": () => resize(-1), "]": () => resize(1), "?": () => document.body.classList.toggle("brief"),
  arrowleft: () => nudge(-1, 0), arrowright: () => nudge(1, 0), arrowup: () => nudge(0, -1), arrowdown: () => nudge(0, 1),
  enter: closePolygon, escape: () => { polygon = []; refresh(); },
  " ": () => { hidden = true; draw(); },
};

function resize(step) { $("size").value = Number($("size").value) + step; $("size").dispatchEvent(new Event("input")); }

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || !item) return;
  const name = event.key.toLowerCase(), own = event.target;
  if (own.type === "range" && name.startsWith("arrow")) return;
  if (own.tagName === "BUTTON" && (name === "enter" || name === " ")) return;
  const command = keys[name];
  if (!command) return;
  event.preventDefault();
  if (!event.repeat || name.startsWith("arrow") || name === "[" || name === "]") command();
});
document.addEventListener("keyup", (event) => { if (event.key === " ") { hidden = false; draw(); } });
window.addEventListener("blur", () => { hidden = false; draw(); });
document.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (!button || !item) return;
  if (button.dataset.tool) choose(button.dataset.tool); else commands[button.dataset.do]();
});
$("size").addEventListener("input", () => { $("size-now").textContent = $("size").value; draw(); });
$("opacity").addEventListener("input", refresh);
window.addEventListener("resize", fit);

const place = (event) => {
  const box = stage.getBoundingClientRect();
  return [event.clientX - box.left, event.clientY - box.top];
};
const pixel = ([x, y]) => [(x - view.x) / view.scale, (y - view.y) / view.scale];

stage.addEventListener("wheel", (event) => {
  event.preventDefault();
  zoom(event.deltaY < 0 ? 1.15 : 1 / 1.15, ...place(event));
}, { passive: false });
stage.addEventListener("pointerdown", (event) => {
  if (!item) return;
  stage.setPointerCapture(event.pointerId);
  pointers.set(event.pointerId, place(event));
  last = pixel(place(event));
  if (pointers.size > 1) return;
  if (tool === "polygon") polygon.push(last);
  else if (tool !== "move") stroke(last, last, tool === "brush" ? 1 : 0);
  refresh();
});
stage.addEventListener("pointermove", (event) => {
  if (!item) return;
  const here = place(event), before = pointers.get(event.pointerId), now = pixel(here);
  if (!before) { last = now; if (tool !== "move") draw(); return; }
  if (pointers.size > 1) { // two fingers zoom and move
    const other = [...pointers].find(([id]) => id !== event.pointerId)[1];
    const distance = ([x, y]) => Math.hypot(x - other[0], y - other[1]);
    zoom(distance(here) / Math.max(1, distance(before)), ...other);
  } else if (tool === "move") {
    view.x += here[0] - before[0]; view.y += here[1] - before[1];
    draw();
  } else if (tool !== "polygon") {
    stroke(last, now, tool === "brush" ? 1 : 0);
    refresh();
  }
  last = now;
  pointers.set(event.pointerId, here);
});
for (const name of ["pointerup", "pointercancel"])
  stage.addEventListener(name, (event) => pointers.delete(event.pointerId));
stage.addEventListener("dblclick", () => { if (tool === "polygon") closePolygon(); });

choose("move");
call("/api/next/-1").then((answer) => answer.json())
  .then(({ place: first }) => show(first === null ? 0 : first))
  .catch((error) => say(error.message, "failed"));
