"use strict";
/* Drawing: the frame, the masks over it, and the tools that change pixels of the mask. */

const ORANGE = 0x00b0ff, BLUE = 0xff8f64; // as 0xBBGGRR; told apart with all kinds of color vision
const view = { scale: 1, x: 0, y: 0 }; // canvas pixels per frame pixel, and the place of pixel 0, 0
const canvas = $("view"), stage = $("stage"), pen = canvas.getContext("2d");
let tool = "move", hidden = false, polygon = [], last = null, box = null;
let layers = []; // the mask as colors, and in an adjudication the other reviewer's mask

/* Masks side by side, the one that is drawn on first: two along the longer side, up to four in a square. */
function panels() {
  const [width, height] = [stage.clientWidth, stage.clientHeight], many = Math.max(1, versions.length);
  const columns = many > 2 || (many === 2 && width > height) ? 2 : 1, rows = Math.ceil(many / columns);
  return Array.from({ length: many }, (_, at) => [
    (at % columns) * width / columns, Math.floor(at / columns) * height / rows, width / columns, height / rows,
  ]);
}

function colored(pixels, color) {
  const { width, height } = item, picture = new ImageData(width, height);
  const out = new Uint32Array(picture.data.buffer), alpha = Math.round(2.55 * $("opacity").value);
  const inside = (color | (alpha << 24)) >>> 0, edge = (color | 0xff000000) >>> 0;
  for (let y = 0, at = 0; y < height; y++)
    for (let x = 0; x < width; x++, at++) {
      if (!pixels[at]) continue;
      const within = x > 0 && y > 0 && x < width - 1 && y < height - 1 &&
        pixels[at - 1] && pixels[at + 1] && pixels[at - width] && pixels[at + width];
      out[at] = within ? inside : edge;
    }
  return picture;
}

function paint() {
  layers = [colored(mask, ORANGE)];
  for (const other of versions.slice(1)) layers.push(colored(other, BLUE));
}

const sheet = document.createElement("canvas");
function draw() {
  if (!item) return;
  const ratio = window.devicePixelRatio || 1;
  canvas.width = Math.round(stage.clientWidth * ratio);
  canvas.height = Math.round(stage.clientHeight * ratio);
  panels().forEach(([left, top, width, height], number) => {
    pen.save();
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    pen.beginPath(); pen.rect(left, top, width, height); pen.clip();
    pen.translate(left + view.x, top + view.y); pen.scale(view.scale, view.scale);
    drawPanel(layers[number], number);
    pen.restore();
    if (versions.length) label(number, left, top, ratio);
  });
  placeHandles();
}

function drawPanel(layer, number) {
  pen.imageSmoothingEnabled = view.scale < 1;
  pen.drawImage(frame, 0, 0);
  if (!hidden) {
    sheet.width = item.width; sheet.height = item.height;
    sheet.getContext("2d").putImageData(layer, 0, 0);
    pen.imageSmoothingEnabled = false;
    pen.drawImage(sheet, 0, 0);
    if ($("others-shown").checked) drawOthers();
  }
  if (number) return;
  pen.strokeStyle = "#7cc0ff"; pen.lineWidth = 1.5 / view.scale;
  if (polygon.length) {
    pen.beginPath();
    polygon.forEach(([x, y], at) => (at ? pen.lineTo(x, y) : pen.moveTo(x, y)));
    pen.closePath(); pen.stroke();
  }
  if (box) pen.strokeRect(box[0], box[1], box[2] - box[0], box[3] - box[1]);
  if (last && (tool === "brush" || tool === "eraser")) {
    pen.strokeStyle = "#ffffff"; pen.lineWidth = 1 / view.scale;
    pen.beginPath(); pen.arc(last[0], last[1], radius(), 0, 7); pen.stroke();
  }
}

/* The masks of other structures, faintly. */
function drawOthers() {
  pen.strokeStyle = "#ffffffa0"; pen.lineWidth = 1.5 / view.scale;
  pen.setLineDash([5 / view.scale, 4 / view.scale]);
  for (const ring of others.flatMap((one) => one.rings)) {
    pen.beginPath();
    ring.forEach(([x, y]) => pen.lineTo(x, y));
    pen.closePath(); pen.stroke();
  }
  pen.setLineDash([]);
}

/* The name of a panel: the first mask is what it was until it is changed. */
function label(number, left, top, ratio) {
  const [, , width, height] = panels()[number];
  const names = item.versions.length
    ? ["A", "B"].map((name, at) => (item.versions[at].state === "rejected" ? `${name}: rejected` : name))
    : [item, ...item.rivals].map((one, at) => `${at + 1}: ${one.source}${one.score === null ? "" : ` ${one.score.toFixed(2)}`}`);
  const drawn = { pick_a: names[0], pick_b: names[1], edit: "yours", accept: names[0] }[accepted()];
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  pen.font = "600 18px system-ui, sans-serif";
  pen.fillStyle = number ? "#648fff" : "#ffb000";
  pen.fillText(number ? names[number] : drawn, left + 12, top + 26);
  pen.strokeStyle = "#5c6670"; pen.lineWidth = 1;
  pen.strokeRect(left, top, width, height);
}

/* Forgets what belongs to the mask before. */
function forget() { polygon = []; box = null; leaveEllipse(); }

const repaint = () => { paint(); draw(); };
const refresh = () => { repaint(); sayUnsaved(); };
const radius = () => Number($("size").value) / 2;

function fit() {
  if (!item) return;
  const [, , width, height] = panels()[0];
  view.scale = Math.min(width / item.width, height / item.height);
  view.x = (width - view.scale * item.width) / 2;
  view.y = (height - view.scale * item.height) / 2;
  draw();
}

function zoom(factor, x = panels()[0][2] / 2, y = panels()[0][3] / 2) {
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
  if (polygon.length) remember();
  if (polygon.length > 2) fill(polygon);
  polygon = [];
  refresh();
}

function nudge(dx, dy) {
  if (ellipse) { moveHandle("center", dx, dy); return; }
  const moved = new Uint8Array(mask.length), { width, height } = item;
  for (let y = Math.max(0, dy); y < Math.min(height, height + dy); y++)
    for (let x = Math.max(0, dx); x < Math.min(width, width + dx); x++)
      moved[y * width + x] = mask[(y - dy) * width + x - dx];
  mask = moved;
  refresh();
}
