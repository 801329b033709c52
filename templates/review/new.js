"use strict";
/* A new mask: the reviewer names a structure of the frame, and draws it. */

async function openStructures() {
  if (busy || !item) return;
  try {
    const { plane, all, masked } = await (await call(`/api/structures/${item.place}`)).json();
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

async function drawNew(structure) {
  try {
    const asked = await (await call("/api/new", { place: item.place, structure })).json();
    if (!item.added) left = item.place;
    $("choose").close();
    await step(asked.place);
  } catch (error) {
    $("unknown").textContent = error.message;
  }
}

$("draw-other").addEventListener("click", () => drawNew($("other-structure").value));
$("other-structure").addEventListener("keydown", (event) => { if (event.key === "Enter") drawNew(event.target.value); });
moveByArrows($("shown-structures"));
