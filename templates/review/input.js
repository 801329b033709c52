"use strict";
/* Input: buttons, keys, mouse, fingers. */

const pointers = new Map();
let grabbed = null; // the panel in which a pointer went down

function choose(name) {
  if (tool === "polygon" && name !== "polygon") closePolygon();
  if (name !== "move") leaveEllipse();
  box = null;
  tool = name;
  for (const button of $("tools").children) button.setAttribute("aria-pressed", String(button.dataset.tool === name));
  stage.style.cursor = name === "move" ? "grab" : "crosshair";
}

const commands = {
  accept: () => decide("accept"),
  take_1: () => take(0), take_2: () => take(1), take_3: () => take(2), take_4: () => take(3),
  other: drawFromOther,
  ellipse: startEllipse,
  reject: () => decide("reject"),
  skip: () => decide("skip"),
  flag: () => decide("flag"),
  undo,
  next: () => walk(1), previous: () => walk(-1), next_structure: () => walk(1, true),
  move: () => choose("move"), brush: () => choose("brush"), eraser: () => choose("eraser"), polygon: () => choose("polygon"),
  prompt: () => (item.prompts.length ? choose("prompt") : say(item.no_prompt)),
  others: () => { $("others-shown").click(); },
  smaller: () => resize(-1), larger: () => resize(1),
  zoom_in: () => zoom(1.25), zoom_out: () => zoom(0.8), fit,
  hide: () => hide(true),
  new_mask: openStructures, exclude: openReasons, caption: () => openCaption(),
  help: () => $("help").showModal(),
  clear: () => { remember(); forget(); mask.fill(0); refresh(); },
  restore: () => { remember(); forget(); mask = proposal.slice(); refresh(); },
};
/* Steps to another mask, also while one is loading. */
function walk(direction, other = false) { if (!waits()) go(direction, "", other); }

const TITLES = {
  accept: "accept; a changed mask is stored as edited", reject: "reject", skip: "skip: it comes again", flag: "flag: it stays proposed",
  undo: "take back the last change of the drawing, then the last decision (also Ctrl+Z)", next: "next without a decision", previous: "previous", next_structure: "next of another structure",
  take_1: "take the first of the masks side by side", take_2: "take the second", take_3: "take the third", take_4: "take the fourth",
  other: "draw on another of them", move: "move the view", brush: "brush", eraser: "eraser", polygon: "polygon", ellipse: "ellipse with handles",
  others: "show the outlines of other structures, or not", prompt: "ask for a new mask by a box or click", smaller: "smaller brush", larger: "larger brush", zoom_in: "zoom in", zoom_out: "zoom out",
  new_mask: "draw another structure of this frame", fit: "fit the frame", hide: "hide the mask (hold)", exclude: "exclude the frame", caption: "correct the caption", help: "these keys",
};
const LOADED = new Set(["next", "previous", "next_structure", "undo", "help"]); // work without a mask on the screen
const REPEATED = new Set(["smaller", "larger", "zoom_in", "zoom_out"]);
const nudges = { arrowleft: [-1, 0], arrowright: [1, 0], arrowup: [0, -1], arrowdown: [0, 1] };
let names = {}; // what a key does

const nameOf = (key) => (key === " " ? "Space" : key.toUpperCase());
function hide(on) { hidden = on; draw(); }

/* Shows the keys of the study on the buttons and in the help. */
function showKeys(keys) {
  names = Object.fromEntries(Object.entries(keys).map(([name, key]) => [key, name]));
  for (const one of document.querySelectorAll("[data-do], [data-tool], [data-hold]")) {
    const key = keys[one.dataset.do || one.dataset.tool || one.dataset.hold], shown = one.querySelector("kbd");
    if (key && shown) shown.textContent = nameOf(key);
  }
  $("keys").replaceChildren(...Object.entries(keys).map(([name, key]) => {
    const row = document.createElement("tr");
    row.insertCell().append(Object.assign(document.createElement("kbd"), { textContent: nameOf(key) }));
    row.insertCell().textContent = TITLES[name];
    return row;
  }));
}

/* Puts the next of the masks side by side first, to be drawn on. */
function drawFromOther() {
  if (!versions.length) return;
  remember();
  forget();
  const now = versions.findIndex((one) => same(mask, one));
  mask = versions[(now + 1) % versions.length].slice();
  refresh();
}

function resize(step) { $("size").value = Number($("size").value) + step; $("size").dispatchEvent(new Event("input")); }

function moveMask(event) {
  if (!event.repeat) remember();
  nudge(...nudges[event.key.toLowerCase()].map((step) => step * (event.shiftKey ? 10 : 1)));
}

const fillPolygon = () => { if (polygonIsDone()) closePolygon(); };

function takeBack() {
  if (polygon.length || ellipse) remember();
  polygon = [];
  box = null;
  cancelEllipse();
  refresh();
}

for (const name of ["keydown", "click"]) document.addEventListener(name, () => { missed = false; }, true);
document.addEventListener("keydown", (event) => {
  const key = event.key.toLowerCase(), own = event.target;
  if (event.altKey || document.querySelector("dialog[open]")) return;
  const control = event.ctrlKey || event.metaKey;
  if (control && (key !== "z" || event.shiftKey)) return;
  const name = control ? "undo" : names[key] || (key === "=" && names["+"]);
  if (!item && !LOADED.has(name)) return;
  if (own.type === "range" && key.startsWith("arrow")) return;
  if ((own.tagName === "BUTTON" || own.type === "checkbox") && (key === "enter" || key === " ")) return;
  const command = nudges[key] ? () => moveMask(event) : { enter: fillPolygon, escape: takeBack }[key] || commands[name];
  if (!command) return;
  event.preventDefault();
  if (!event.repeat || nudges[key] || REPEATED.has(name)) command();
});
document.addEventListener("keyup", (event) => { if (names[event.key.toLowerCase()] === "hide") hide(false); });
window.addEventListener("blur", () => hide(false));
document.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (!button) return;
  if ("close" in button.dataset) { button.closest("dialog").close(); return; }
  if (!item && !LOADED.has(button.dataset.do)) return;
  commands[button.dataset.tool || button.dataset.do]?.();
});
for (const [name, on] of [["pointerdown", true], ["pointerup", false], ["pointerleave", false], ["pointercancel", false]])
  document.querySelector('[data-hold="hide"]').addEventListener(name, () => hide(on));
$("size").addEventListener("input", () => { $("size-now").textContent = $("size").value; draw(); });
$("others-shown").addEventListener("change", () => draw());
$("opacity").addEventListener("input", () => { if (item) repaint(); });
window.addEventListener("resize", fit);

const place = (event) => {
  const box = stage.getBoundingClientRect();
  return [event.clientX - box.left, event.clientY - box.top];
};
/* A place in its own panel; both panels show the same part of the frame. */
const panelAt = ([x, y]) => panels().findLast(([left, top]) => x >= left && y >= top) || [0, 0];
const local = ([x, y]) => {
  const [left, top] = grabbed || panelAt([x, y]);
  return [x - left, y - top];
};
const pixel = ([x, y]) => [(x - view.x) / view.scale, (y - view.y) / view.scale];

stage.addEventListener("wheel", (event) => {
  event.preventDefault();
  zoom(event.deltaY < 0 ? 1.15 : 1 / 1.15, ...local(place(event)));
}, { passive: false });
stage.addEventListener("pointerdown", (event) => {
  if (!item) return;
  stage.setPointerCapture(event.pointerId);
  pointers.set(event.pointerId, place(event));
  grabbed ||= panelAt(place(event));
  last = pixel(local(place(event)));
  if (pointers.size > 1) return;
  if (tool !== "move" && tool !== "prompt") remember();
  if (tool === "polygon") polygon.push(last);
  else if (tool === "prompt") box = [...last, ...last];
  else if (tool !== "move") stroke(last, last, tool === "brush" ? 1 : 0);
  if (tool !== "move") refresh();
});
stage.addEventListener("pointermove", (event) => {
  if (!item) return;
  const spot = place(event), before = pointers.get(event.pointerId), now = pixel(local(spot));
  if (!before) { last = now; if (tool !== "move") draw(); return; }
  if (pointers.size > 1) { // two fingers zoom and move
    const other = [...pointers].find(([id]) => id !== event.pointerId)[1];
    const distance = ([x, y]) => Math.hypot(x - other[0], y - other[1]);
    zoom(distance(spot) / Math.max(1, distance(before)), ...local(other));
  } else if (tool === "move") {
    view.x += spot[0] - before[0]; view.y += spot[1] - before[1];
    draw();
  } else if (tool === "prompt") {
    if (box) box = [box[0], box[1], ...now];
    draw();
  } else if (tool !== "polygon") {
    stroke(last, now, tool === "brush" ? 1 : 0);
    refresh();
  }
  last = now;
  pointers.set(event.pointerId, spot);
});
stage.addEventListener("pointerup", () => {
  if (tool !== "prompt" || !box || pointers.size > 1) return;
  const span = (one, other, end) => [one, other].map((value) => Math.min(end, Math.max(0, Math.round(value)))).sort((low, high) => low - high);
  const [x0, x1] = span(box[0], box[2], item.width), [y0, y1] = span(box[1], box[3], item.height);
  const click = (x1 - x0) * view.scale < 6 && (y1 - y0) * view.scale < 6;
  const kind = click ? "point" : "box";
  box = null;
  draw();
  if (!item.prompts.includes(kind)) say(`drag a ${item.prompts[0]}: ${item.no_prompt}`, "failed");
  else ask(click ? { point: [Math.min(x0, item.width - 1), Math.min(y0, item.height - 1)] } : { box: [x0, y0, x1, y1] });
});
for (const name of ["pointerup", "pointercancel"])
  stage.addEventListener(name, (event) => {
    pointers.delete(event.pointerId);
    if (!pointers.size) grabbed = null;
  });
stage.addEventListener("dblclick", () => { if (tool === "polygon") closePolygon(); });

choose("move");
call("/api/page").then((answer) => answer.json())
  .then(({ keys, exclusions }) => { showKeys(keys); listReasons(exclusions); })
  .then(() => call("/api/next/-1")).then((answer) => answer.json())
  .then(({ place: first }) => step(first === null ? 0 : first))
  .catch((error) => say(error.message, "failed"));
