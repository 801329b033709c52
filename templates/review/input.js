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
  first: () => versions.length && decide("pick_a"),
  second: () => versions.length && decide("pick_b"),
  other: drawFromOther,
  ellipse: startEllipse,
  reject: () => decide("reject"),
  skip: () => decide("skip"),
  flag: () => decide("flag"),
  undo,
  clear: () => { forget(); mask.fill(0); refresh(); },
  restore: () => { forget(); mask = proposal.slice(); refresh(); },
};
const keys = {
  a: commands.accept, e: startEllipse, r: commands.reject, s: commands.skip, f: commands.flag, u: undo,
  v: () => choose("move"), b: () => choose("brush"), x: () => choose("eraser"), p: () => choose("polygon"),
  t: () => (item.prompts.length ? choose("prompt") : say(item.no_prompt)),
  1: commands.first, 2: commands.second, w: drawFromOther, n: () => go(1), l: () => go(-1),
  0: fit, "+": () => zoom(1.25), "=": () => zoom(1.25), "-": () => zoom(0.8),
  "[": () => resize(-1), "]": () => resize(1), "?": () => document.body.classList.toggle("brief"),
  arrowleft: () => nudge(-1, 0), arrowright: () => nudge(1, 0), arrowup: () => nudge(0, -1), arrowdown: () => nudge(0, 1),
  enter: closePolygon, escape: () => { polygon = []; box = null; cancelEllipse(); refresh(); },
  " ": () => { hidden = true; draw(); },
};

/* In an adjudication: puts the other reviewer's mask on the left, to be drawn on. */
function drawFromOther() {
  if (!versions.length) return;
  forget();
  mask = versions[same(mask, versions[1]) ? 0 : 1].slice();
  refresh();
}

function resize(step) { $("size").value = Number($("size").value) + step; $("size").dispatchEvent(new Event("input")); }

document.addEventListener("keydown", (event) => {
  const name = event.key.toLowerCase(), own = event.target;
  if (event.ctrlKey || event.metaKey || event.altKey || (!item && name !== "n" && name !== "l")) return;
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
  if (tool === "polygon") polygon.push(last);
  else if (tool === "prompt") box = [...last, ...last];
  else if (tool !== "move") stroke(last, last, tool === "brush" ? 1 : 0);
  refresh();
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
call("/api/next/-1").then((answer) => answer.json())
  .then(({ place: first }) => step(first === null ? 0 : first))
  .catch((error) => say(error.message, "failed"));
