"use strict";
/* What is drawn and not saved yet: its steps back, and drawings that wait until the reviewer is back. */

const MOST_STEPS = 50;
const drafts = new Map(); // by place: the drawing, its steps back, and the version of the mask below it
let steps = []; // what was drawn before each change, the last one at the end
let asked = ""; // the decision that would drop the drawing, and was asked about

const drawing = () => ({ mask: mask.slice(), polygon: [...polygon], ellipse: ellipse && { ...ellipse }, beforeEllipse });

function putBack(one) {
  mask = one.mask.slice();
  polygon = [...one.polygon];
  ellipse = one.ellipse && { ...one.ellipse };
  beforeEllipse = one.beforeEllipse;
}

/* Keeps what is drawn before it is changed. */
function remember() {
  steps.push(drawing());
  if (steps.length > MOST_STEPS) steps.shift();
}

/* Takes back the last change of the drawing; false if there is none. */
function stepBack() {
  while (steps.length) {
    const before = steps.pop();
    const equal = same(before.mask, mask) && before.polygon.length === polygon.length && !before.ellipse === !ellipse;
    if (equal) continue; // a click that changed nothing
    putBack(before);
    refresh();
    return true;
  }
  return false;
}

/* Whether something is drawn that no decision has stored; one of two verdicts is stored as it is. */
const unsaved = () => polygon.length > 0 ||
  (changed() && !(item.versions.length && versions.some((one) => same(one, mask))));

function sayUnsaved() {
  asked = "";
  if (unsaved()) say("changed, not saved", "changed");
  else if ($("saved").className === "changed") say(shortcuts());
}

/* Fills an open polygon before it is stored; false if it has too few corners. */
function polygonIsDone() {
  if (!polygon.length) return true;
  if (polygon.length > 2) { closePolygon(); return true; }
  say(`the open polygon has ${polygon.length} of at least 3 corners: click the others, or press Escape to remove it`, "failed");
  return false;
}

/* Whether a decision may be sent: one that drops the drawing must be given twice. */
function mayDrop(action) {
  if (["edit", "skip", "flag"].includes(action) || !unsaved() || asked === action) return true;
  asked = action;
  const named = action === "reject" && item.empty ? '"Not here"' : `"${action.replace("_", " ")}"`;
  say(`${named} would drop what you have drawn: press it again to drop it, or Accept to store it`, "failed");
  return false;
}

/* After a decision that is saved: `sent` is the mask of an edit. What is skipped or flagged stays drawn. */
function settle(action, sent) {
  if (action === "skip" || action === "flag") return;
  if (action === "edit") proposal = sent; // what was drawn meanwhile is not saved
  else { mask = proposal.slice(); polygon = []; repaint(); }
  steps = [];
}

/* Keeps the drawing on a mask that is left. */
function keepDraft() {
  if (!item) return;
  if (unsaved()) drafts.set(item.place, { version: item.version, structure: item.structure, drawn: drawing(), steps });
  else drafts.delete(item.place);
}

/* Puts the drawing back that was left on this mask; returns what the reviewer reads about it. */
function restoreDraft() {
  const kept = drafts.get(item.place);
  drafts.delete(item.place);
  steps = [];
  if (!kept) return "";
  if (kept.version === item.version) {
    putBack(kept.drawn);
    steps = kept.steps;
    return "your drawing is back, not saved";
  }
  steps = [kept.drawn];
  return `${shortcuts()}; Undo brings back what you had drawn`;
}

/* What is drawn on other masks and not saved, for the end of the queue. */
function leftDrawings() {
  const names = [...drafts.values()].map((one) => one.structure);
  if (unsaved()) names.push(item.structure);
  return names.length ? `; drawings that are NOT saved: ${names.join(", ")}` : "";
}

window.addEventListener("beforeunload", (event) => {
  if (item && (drafts.size || unsaved())) event.preventDefault(); // the browser asks
});
