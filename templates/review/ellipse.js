"use strict";
/* The mask as an ellipse with handles: its center, the ends of its two half axes, and its turn.
   Handles are dragged, or moved by the arrow keys when they have the focus (Tab, Shift: ten pixels). */

const HANDLES = {
  center: "Center", a: "End of the first axis", b: "End of the second axis", turn: "Turn",
};
const TURN_REACH = 34; // screen pixels from the end of the first axis to the handle of the turn
let ellipse = null, beforeEllipse = null; // x, y, half axes a and b in frame pixels, turn in radians

/* The ellipse with the center and second moments of the mask; one in the middle for an empty mask. */
function fitted() {
  const { width, height } = item;
  let n = 0, sx = 0, sy = 0, sxx = 0, sxy = 0, syy = 0;
  for (let y = 0, at = 0; y < height; y++)
    for (let x = 0; x < width; x++, at++)
      if (mask[at]) { n++; sx += x; sy += y; sxx += x * x; sxy += x * y; syy += y * y; }
  if (!n) return { x: width / 2, y: height / 2, a: width / 4, b: height / 4, turn: 0 };
  const x = sx / n, y = sy / n, xx = sxx / n - x * x + 1 / 12, yy = syy / n - y * y + 1 / 12, xy = sxy / n - x * y;
  const middle = (xx + yy) / 2, spread = Math.hypot((xx - yy) / 2, xy);
  return {
    x: x + 0.5, y: y + 0.5, turn: Math.atan2(2 * xy, xx - yy) / 2,
    a: 2 * Math.sqrt(middle + spread), b: 2 * Math.sqrt(Math.max(middle - spread, 1 / 12)),
  };
}

/* Sets the pixels whose centers are inside of the ellipse. */
function rasterize() {
  const { x, y, a, b, turn } = ellipse, cos = Math.cos(turn), sin = Math.sin(turn);
  for (let row = 0, at = 0; row < item.height; row++)
    for (let column = 0; column < item.width; column++, at++) {
      const dx = column + 0.5 - x, dy = row + 0.5 - y;
      mask[at] = Number(((dx * cos + dy * sin) / a) ** 2 + ((dy * cos - dx * sin) / b) ** 2 <= 1);
    }
  refresh();
}

function startEllipse() {
  if (tool !== "move") choose("move");
  remember();
  polygon = [];
  beforeEllipse = mask.slice();
  ellipse = fitted();
  rasterize();
  handle("center").focus();
}

/* The drawn pixels stay, the handles go. */
function leaveEllipse() {
  ellipse = beforeEllipse = null;
  placeHandles();
}

function cancelEllipse() {
  if (ellipse) mask = beforeEllipse.slice();
  leaveEllipse();
}

const handle = (name) => $("handles").querySelector(`[data-handle="${name}"]`);

/* Where a handle is, in pixels of the frame. */
function spotOf(name) {
  const { x, y, a, b, turn } = ellipse, cos = Math.cos(turn), sin = Math.sin(turn);
  if (name === "center") return [x, y];
  if (name === "b") return [x - b * sin, y + b * cos];
  const reach = name === "a" ? a : a + TURN_REACH / view.scale;
  return [x + reach * cos, y + reach * sin];
}

function placeHandles() {
  $("handles").hidden = !ellipse || hidden;
  if (!ellipse) return;
  const { a, b, turn } = ellipse, degrees = Math.round(turn * 180 / Math.PI);
  const values = {
    center: `${Math.round(ellipse.x)}, ${Math.round(ellipse.y)}`, a: `${a.toFixed(1)} pixels`,
    b: `${b.toFixed(1)} pixels`, turn: `${degrees} degrees`,
  };
  for (const name of Object.keys(HANDLES)) {
    const [x, y] = spotOf(name), one = handle(name);
    one.style.left = `${view.x + x * view.scale}px`;
    one.style.top = `${view.y + y * view.scale}px`;
    one.setAttribute("aria-valuetext", values[name]);
  }
}

/* Moves a handle by pixels of the frame; the turn by degrees, an axis by its length. */
function moveHandle(name, dx, dy) {
  if (name === "center") { ellipse.x += dx; ellipse.y += dy; }
  else if (name === "turn") ellipse.turn += (dx + dy) * Math.PI / 180;
  else ellipse[name] = Math.max(1, ellipse[name] + dx - dy);
  rasterize();
}

/* Puts a handle at a place of the frame. */
function dragHandle(name, [x, y]) {
  const dx = x - ellipse.x, dy = y - ellipse.y, cos = Math.cos(ellipse.turn), sin = Math.sin(ellipse.turn);
  if (name === "center") { ellipse.x = x; ellipse.y = y; }
  else if (name === "turn") ellipse.turn = Math.atan2(dy, dx);
  else ellipse[name] = Math.max(1, Math.abs(name === "a" ? dx * cos + dy * sin : dy * cos - dx * sin));
  rasterize();
}

for (const [name, title] of Object.entries(HANDLES)) {
  const one = document.createElement("div");
  one.dataset.handle = name;
  one.tabIndex = 0;
  one.title = title;
  one.setAttribute("role", "slider");
  one.setAttribute("aria-label", title);
  one.addEventListener("keydown", (event) => {
    const arrow = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (!arrow || !ellipse || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    event.stopPropagation();
    const by = event.shiftKey ? 10 : 1;
    if (!event.repeat) remember();
    moveHandle(name, by * arrow[0], by * arrow[1]);
  });
  one.addEventListener("pointerdown", (event) => {
    event.stopPropagation();
    one.setPointerCapture(event.pointerId);
    one.focus();
    remember();
  });
  one.addEventListener("pointermove", (event) => {
    if (!one.hasPointerCapture(event.pointerId) || !ellipse) return;
    event.stopPropagation();
    const stand = stage.getBoundingClientRect();
    dragHandle(name, [
      (event.clientX - stand.left - view.x) / view.scale, (event.clientY - stand.top - view.y) / view.scale,
    ]);
  });
  $("handles").append(one);
}
