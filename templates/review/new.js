"use strict";
/* A new mask: the reviewer names a structure of the frame, and draws it. */

let foreseen = [], doubted = ""; // what the plane lists, and a structure that was asked about

async function openStructures() {
  if (!free()) return;
  try {
    const on = item, { plane, all, masked } = await (await call(`/api/structures/${item.place}`)).json();
    if (item !== on) return;
    foreseen = plane;
    doubted = "";
    const others = masked.filter((name) => !plane.includes(name));
    $("shown-structures").replaceChildren(...[...plane, ...others].map((name) =>
      button(masked.includes(name) ? `${name} (has a mask)` : name, () => drawNew(name))));
    $("all-structures").replaceChildren(...all.map((name) => new Option("", name)));
    $("other-structure").value = $("unknown").textContent = "";
    $("choose").showModal();
  } catch (error) {
    say(error.message, "failed");
  }
}

async function drawNew(given) {
  try {
    const made = await (await call("/api/new", { place: item.place, structure: given })).json(), name = made.structure;
    if (foreseen.length && !foreseen.includes(name) && doubted !== name) {
      doubted = name;
      $("unknown").textContent = `The plane ${item.plane} does not list ${name}, so no caption will name it. Is the plane wrong ` +
        "(exclude the frame), or is the structure missing in the planes file? To draw it anyway, choose it again.";
      return;
    }
    if (!item.added) left = item.place;
    $("choose").close();
    await step(made.place);
  } catch (error) {
    $("unknown").textContent = error.message;
  }
}

$("draw-other").addEventListener("click", () => drawNew($("other-structure").value));
$("other-structure").addEventListener("keydown", (event) => { if (event.key === "Enter") drawNew(event.target.value); });
moveByArrows($("shown-structures"));
