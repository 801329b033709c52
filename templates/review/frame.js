"use strict";
/* The frame itself: its remarks and captions, and whether it is used. */

/* Sends a decision on the frame or a caption; returns whether it is saved. */
async function judge(path, body, done) {
  if (!free()) {
    $("refused").textContent = $("saved").textContent;
    return false;
  }
  busy = true;
  $("write-save").disabled = true;
  $("refused").textContent = "";
  say("saving", "busy");
  try {
    const answer = await call(path, { place: item.place, version: item.frame.version, ...body });
    ready.clear(); // a mask that was loaded ahead may be of this frame
    if (answer.stale) {
      await show(item.place);
      say("decided elsewhere meanwhile; this is the frame as it is now", "failed");
      $("refused").textContent = $("saved").textContent;
      return false;
    }
    item = { ...item, ...(await answer.json()) };
    describe();
    say(`saved: ${done}`);
    if (body.excluded) await go(1, `saved: ${done}; `); else count().catch(() => {});
    return true;
  } catch (error) {
    say(`NOT saved: ${error.message}`, "failed");
    $("refused").textContent = error.message;
    return false;
  } finally {
    busy = false;
    $("write-save").disabled = false;
  }
}

const wrongRemarks = () => item.frame.remarks.filter((one) => one.wrong).map((one) => one.code);
const judgeFrame = (excluded, withdrawn, done) => judge("/api/frame", { excluded, withdrawn }, done);

function withdraw(code, wrong) {
  const codes = new Set(wrongRemarks());
  if (wrong) codes.add(code); else codes.delete(code);
  return judgeFrame(item.frame.excluded, [...codes], wrong ? `${code} is wrong here` : `${code} is right here`);
}

function describeFrame() {
  const { excluded, refusal, remarks, captions } = item.frame;
  $("use").textContent = excluded ? `Excluded: ${excluded}` : remarks.length ? "Remarks on this frame:" : "No remarks on this frame.";
  $("use").className = excluded ? "excluded" : "";
  $("include").hidden = !excluded;
  const exclude = document.querySelector('[data-do="exclude"]');
  exclude.setAttribute("aria-disabled", String(Boolean(refusal)));
  exclude.title = refusal;
  $("remarks").replaceChildren(...remarks.map((remark) => {
    const line = document.createElement("li"), label = document.createElement("label");
    label.title = remark.meaning;
    if (!remark.fixed && !refusal) {
      const box = document.createElement("input");
      box.type = "checkbox";
      box.checked = remark.wrong;
      box.addEventListener("change", async () => {
        if (!(await withdraw(remark.code, box.checked))) box.checked = remark.wrong;
      });
      label.append(box, " wrong: ");
    }
    label.append(remark.code);
    line.append(label);
    return line;
  }));
  $("captions").replaceChildren(...(captions.length ? captions.map(captionLine) : ["No captions yet: sono captions build writes them."]));
}

function captionLine(caption) {
  const line = document.createElement("p"), text = document.createElement("span");
  text.textContent = caption.text;
  if (caption.state === "wrong") text.className = "wrong";
  line.append(text);
  if (caption.state) line.append(` (${caption.state === "wrong" ? "marked as wrong" : caption.state}) `);
  line.append(" ", button("Correct the caption", () => openCaption(caption)));
  if (caption.state === "wrong") line.append(" ", button("It is right", () => judgeCaption(caption, "corrected", caption.text)));
  else line.append(" ", button("Wrong", () => judgeCaption(caption, "wrong")));
  line.dataset.level = caption.level;
  return line;
}

function button(title, act) {
  const made = document.createElement("button");
  made.textContent = title;
  made.addEventListener("click", act);
  return made;
}

const judgeCaption = (caption, state, text = "") =>
  judge("/api/caption", { level: caption.level, state, text }, state === "wrong" ? "the caption is wrong" : "caption");

let edited = null; // the caption in the dialog
function openCaption(caption = item.frame.captions[0]) {
  if (!free()) return;
  if (!caption) { say("no captions yet: sono captions build writes them", "failed"); return; }
  edited = caption;
  $("text").value = caption.text;
  $("refused").textContent = "";
  $("write").showModal();
  $("text").focus();
}

async function saveCaption() {
  if (await judgeCaption(edited, "corrected", $("text").value)) $("write").close();
}
$("write-save").addEventListener("click", saveCaption);
$("text").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) { event.preventDefault(); saveCaption(); }
});

function openReasons() {
  if (!free()) return;
  if (item.frame.refusal) { say(item.frame.refusal, "failed"); return; }
  $("why").showModal();
}
$("include").addEventListener("click", () => judgeFrame(null, wrongRemarks(), "the frame is used"));
const moveByArrows = (list) => list.closest("dialog").addEventListener("keydown", (event) => {
  const step = { ArrowDown: "nextElementSibling", ArrowUp: "previousElementSibling" }[event.key];
  const now = document.activeElement, within = list.contains(now);
  if (!step || (!within && now.matches("input, textarea"))) return;
  event.preventDefault();
  (within ? now[step] : list.firstElementChild)?.focus();
});
moveByArrows($("reasons"));

function listReasons(exclusions) {
  $("reasons").replaceChildren(...exclusions.map(({ code, meaning }) => {
    const made = button("", () => {
      $("why").close();
      judgeFrame(code, wrongRemarks(), `frame excluded (${code})`);
    });
    const name = document.createElement("b");
    name.textContent = code.replaceAll("_", " ");
    made.dataset.reason = code;
    made.append(name, `: ${meaning.replace("a reviewer: ", "")}`);
    return made;
  }));
}
