"use strict";
/* The state of a mask review, and its calls to the server. The mask is an array of 0 and 1 in the
   pixels of the stored frame, so what is drawn is what is stored, at any zoom. A decision is shown
   as saved only when the server has it on disk. draw.js, ellipse.js, unsaved.js, frame.js, new.js and
   input.js follow. */

const $ = (id) => document.getElementById(id);
let item = null, frame = null, mask = null, proposal = null;
let versions = []; // masks side by side: two verdicts, or this proposal and those of other sources
let here = -1; // the place in the queue that was asked for last
let busy = false, loading = 0; // something is being saved; masks that are being loaded
let missed = false; // something was pressed meanwhile
let others = []; // outlines of other structures of the frame, while a mask is drawn
let left = -1; // the place that was left for a new mask, which is behind the queue
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

async function pixelsAt(path, size) {
  return unpacked(await call(path), size);
}

async function unpacked(answer, size) {
  const bits = new Uint8Array(await answer.arrayBuffer()), pixels = new Uint8Array(size);
  for (let at = 0; at < size; at++) pixels[at] = (bits[at >> 3] >> (7 - (at & 7))) & 1;
  return pixels;
}

async function load(place) {
  const facts = await (await call(`/api/item/${place}`)).json();
  const size = facts.width * facts.height;
  const [picture, around, pixels, ...both] = await Promise.all([
    call(`/api/frame/${place}`).then((answer) => answer.blob()).then(createImageBitmap),
    facts.empty ? call(`/api/others/${place}`).then((answer) => answer.json()) : [],
    pixelsAt(`/api/mask/${place}`, size),
    ...facts.versions.map((version, at) => (version.state === "rejected"
      ? new Uint8Array(size) : pixelsAt(`/api/mask/${place}/${at}`, size))),
    ...facts.rivals.map((rival) => pixelsAt(`/api/mask/${rival.place}`, size)),
  ]);
  if (facts.rivals.length) both.unshift(pixels);
  return { facts, picture, around, pixels: both[0] || pixels, both };
}

async function show(place, before = "") {
  say("loading", "busy");
  here = place;
  const early = ready.get(place);
  ready.clear();
  loading++;
  const { facts, picture, around, pixels, both } = await (early ? early.catch(() => load(place)) : load(place))
    .finally(() => { loading--; });
  if (here !== place) return; // the reviewer has stepped on meanwhile
  keepDraft();
  const fits = item && item.width === facts.width && item.height === facts.height &&
    versions.length === both.length;
  item = facts; frame = picture; others = around; proposal = pixels; mask = pixels.slice(); versions = both;
  forget();
  const restored = restoreDraft();
  describe();
  paint();
  if (!fits) fit(); else draw();
  say(before + (restored || shortcuts()), unsaved() ? "changed" : "");
  ahead(place).catch((error) => say(error.message, "failed")); // a key that is pressed meanwhile counts
}

function shortcuts() {
  if (item.decided) return `saved: ${item.decided}`;
  if (item.empty) return "draw it: there is no mask yet";
  return item.blind ? "draw this one: its proposal is not shown" : "ready";
}

/* Shows a mask. If it cannot be shown, the keys N and L step past it. */
const step = (place, before = "") => show(place, before).catch((error) => here === place &&
  say(`${before}the mask at place ${place + 1} cannot be shown (N: the next one): ${error.message}`, "failed"));

function describe() {
  $("question").textContent = item.empty ? "Draw the" : "Is this the";
  $("mark").textContent = item.empty ? "" : "?";
  $("structure").textContent = item.structure;
  $("decisions").querySelector('[data-do="reject"] span').textContent = item.empty ? "Not here" : "Reject";
  $("facts").textContent = [
    item.plane || "plane unknown",
    ...item.empty ? ["no mask yet"] : [`source ${item.source}`, item.score === null ? "no score" : `score ${item.score.toFixed(2)}`],
    item.added ? "new" : `mask ${item.place + 1}`, ...item.versions.map((one, at) => `${"AB"[at]} ${one.state}${one.own ? " (YOUR OWN decision)" : ""}`),
    item.decided ? `decided: ${item.decided}` : item.versions.length ? "to adjudicate" : item.empty ? "to draw" : item.state,
  ].join(" · ");
  $("two").hidden = !versions.length;
  [...$("two").querySelectorAll('[data-do^="take"]')].forEach((one, at) => {
    one.hidden = at >= versions.length;
    one.querySelector("span").textContent = item.versions.length ? "AB"[at] : `${at + 1}, reject the rest`;
  });
  $("decisions").querySelector('[data-do="accept"]').lastChild.textContent = item.versions.length ? " Take the left one" : " Accept";
  const prompt = $("tools").querySelector('[data-tool="prompt"]');
  prompt.setAttribute("aria-disabled", String(!item.prompts.length));
  prompt.title = item.prompts.length ? `Prompt with a ${item.prompts.join(" or a ")} for a new mask` : item.no_prompt;
  if (!item.prompts.length && tool === "prompt") choose("move");
  document.title = `${item.structure} · review`;
  $("others").hidden = !others.length;
  $("others-named").textContent = [...new Set(others.map((one) => one.structure))].join(", ");
  describeFrame();
}

async function ahead(place) {
  await count();
  const next = (await (await call(`/api/next/${spot()}`)).json()).place;
  if (next === null || next === place) return;
  const loading = load(next);
  loading.catch(() => {}); // `show` tries again and reports it
  ready.set(next, loading);
}

async function count() {
  const all = await (await call("/api/progress")).json();
  $("bar").max = all.total; $("bar").value = all.decided;
  $("count").textContent = `${all.decided} of ${all.total} decided by ${all.reviewer}` +
    (all.set_aside ? `, ${all.set_aside} on excluded frames` : "");
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

function same(one, other) {
  for (let at = 0; at < one.length; at++) if (one[at] !== other[at]) return false;
  return true;
}
/* From where the next mask is looked for: a new mask is behind the queue. */
const spot = () => (item?.added ? left - 1 : here);
const changed = () => !same(mask, proposal);

/* Accepting what is drawn: in an adjudication it may be the mask of either reviewer. */
function accepted() {
  if (item.versions.length) return same(mask, versions[0]) ? "pick_a" : same(mask, versions[1]) ? "pick_b" : "edit";
  return changed() ? "edit" : "accept";
}

/* Takes one of the masks side by side; of several proposals the others are rejected. */
function take(number) {
  if (number >= versions.length) return undefined;
  if (item.versions.length) return decide(number ? "pick_b" : "pick_a");
  if (!number && !polygonIsDone()) return undefined;
  const all = [item, ...item.rivals], chosen = all[number];
  const over = all.filter((one) => one !== chosen).map((one) => [one.place, one.version]);
  return decide(number ? "accept" : accepted(), { place: chosen.place, version: chosen.version, over });
}

async function decide(action, more = {}) {
  if (!free()) return;
  if (action === "accept" && !more.over) {
    if (!polygonIsDone()) return;
    action = accepted();
  }
  if (!mayDrop(action)) return;
  busy = true;
  say("saving", "busy");
  try {
    const body = { place: item.place, version: item.version, action, ...more }, sent = mask.slice();
    if (action === "edit") body.mask = packed(sent);
    const answer = await call("/api/decision", body);
    if (answer.stale) {
      ready.clear();
      await show(item.place);
      const drawn = steps.length ? "; Undo brings back what you had drawn" : "";
      say(`decided elsewhere meanwhile; this is the mask as it is now${drawn}`, "failed");
      return;
    }
    const saved = await answer.json();
    settle(action, sent);
    if (item.rivals.length) ready.clear(); // they may show this one
    if (saved.place === item.place) { item = { ...item, ...saved }; describe(); }
    say(`saved: ${action}`);
    await go(1, `saved: ${action}; `);
  } catch (error) {
    say(`NOT saved: ${error.message}`, "failed");
  } finally {
    busy = false;
  }
}

async function go(direction, before = "", other = false) {
  try {
    if (direction < 0) { if (item?.added || here > 0) await step(item?.added ? Math.max(0, left) : here - 1); return; }
    const next = (await (await call(`/api/next/${spot()}${other ? "?other=true" : ""}`)).json()).place;
    if (next !== null) { await step(next, before); return; }
    await count();
    if (other) { say("no other structure is left"); return; }
    say(`${before}all masks are decided; close the page and press Ctrl-C in the terminal${leftDrawings()}`);
  } catch (error) {
    say(`${before}${error.message}`, "failed");
  }
}

async function undo() {
  if (waits() || (item && stepBack())) return;
  busy = true;
  try {
    const { item: before } = await (await call("/api/undo", {})).json();
    ready.clear();
    if (before === null) say("nothing to undo"); else await show(before.place, "undone; ");
  } catch (error) {
    say(`NOT undone: ${error.message}`, "failed");
  } finally {
    busy = false;
  }
}

function say(text, kind = "") {
  $("saved").textContent = text + (missed && kind !== "busy" ? "; what was pressed meanwhile did not count: press it again" : "");
  $("saved").className = kind;
}

/* Whether the page is saving or looking for something; then it says so. */
function waits() {
  if (!busy) return false;
  missed = true;
  say("wait: the page is busy", "busy");
  return true;
}

/* Whether the mask on the screen can be worked with; if not, the page says why. */
function free() {
  if (loading) { missed = true; say("wait: loading", "busy"); return false; }
  if (!item || waits()) return false;
  if (here === item.place) return true;
  say("the mask on the screen is not the one at this place; press N or L first", "failed");
  return false;
}

/* A new mask from the proposer, for a box or a point of the reviewer. */
async function ask(prompt) {
  if (!free()) return;
  busy = true;
  say("looking for a new mask", "busy");
  try {
    const asked = item;
    const found = await unpacked(await call("/api/prompt", { place: item.place, ...prompt }), mask.length);
    if (item !== asked) return;
    remember();
    mask = found;
    refresh();
    say("a new mask, not saved: A accepts it", "busy");
  } catch (error) {
    say(error.message, "failed");
  } finally {
    busy = false;
  }
}
