// Uploads a file, and watches its import.

import {$, POLL_MS, call, described, element, hasKey, moment, number, pages, save, say, sentence, showRows, turns, visible, withKey} from "./session.js";

const PAGE = 5;
const COUNTS = ["rows", "imported", "updated", "rejected"];
const DONE = ["imported", "updated"];
const SAYS = {completed: "Done", failed: "Failed", cancelled: "Cancelled"};
const BADGES = {processing: "Importing", ...SAYS};
let current = null;
let account = 0;  // another one with each change of the key
let shown = PAGE;
let timer = null;
const turn = turns();

function show(state) {
  current = state;
  const percent = Math.floor(state.progress * 100);
  const ended = SAYS[state.status];
  const doing = state.dry_run ? "Counting" : "Importing";
  $("status").textContent = ended
    ? visible(`${ended}: ${state.file_name}${state.dry_run ? " (dry run: nothing was imported)" : ""}`)
    : `${doing}: ${percent} %`;
  $("bar").value = state.progress;
  for (const name of COUNTS) $(name).textContent = number(state[name]);
  for (const name of DONE) $(`${name}-label`).textContent = state.dry_run ? `Would be ${name}` : sentence(name);
  $("counts").hidden = state.status === "failed" && state.rows === 0;  // a file that was refused
  $("errors-row").hidden = !state.error_file;
  $("cancel").hidden = Boolean(ended);
  $("read-as").textContent = state.encoding || "–";
  ask(state.candidates);
  if (state.error) say(reason(state));
}

function reason(state) {
  return state.candidates.length
    ? "The encoding of the file is uncertain. Choose the right one below, and import it again." : state.error;
}

function ask(candidates) {
  $("candidates").hidden = candidates.length === 0;
  $("readings").replaceChildren(...readings(candidates));
}

// Choosing one fills in the encoding; the person then starts the import again.
function readings(candidates) {
  return candidates.map(candidate => {
    const choice = element("button", {type: "button", className: "small", textContent: candidate.encoding});
    choice.addEventListener("click", () => {
      $("options").open = true;
      $("encoding").value = candidate.encoding;
      $($("file").files.length ? "start" : "file").focus();
    });
    return element("div", {}, element("dt", {}, choice),
      element("dd", {textContent: candidate.sample.join(" / ")}));
  });
}

// EventSource cannot send an Authorization header, so the stream is read by hand.
async function watch(links) {
  const mine = account;
  let ended = false;
  while (!ended && mine === account) {
    try {
      const answer = await call(links.events);
      const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
      let text = "";
      for (let part; !(part = await reader.read()).done;) {
        text += part.value;
        const events = text.split("\n\n");
        text = events.pop();
        if (mine !== account) return reader.cancel();
        for (const event of events) {
          const data = event.split("\n").filter(line => line.startsWith("data: "));
          if (data.length === 0) continue;
          show(JSON.parse(data.map(line => line.slice(6)).join("\n")));
          ended = current.status !== "processing";
        }
      }
    } catch (error) {
      if (error.final) throw error;
    }
    if (!ended) await new Promise(resolve => setTimeout(resolve, POLL_MS));
  }
}

function item(state) {
  const would = state.dry_run ? "would be " : "";
  const counts = state.status === "failed" && state.rows === 0 ? "nothing was read" : [
    `${number(state.imported)} ${would}imported`, `${number(state.updated)} ${would}updated`,
    `${number(state.rejected)} rejected`,
  ].join(", ");
  const what = element("div", {className: "what"},
    element("strong", {textContent: state.file_name}),
    element("span", {textContent: `${moment(state.created_at)} · ${counts}${state.dry_run ? " · dry run" : ""}`}));
  const row = element("li", {}, what,
    element("span", {className: `badge ${state.status}`, textContent: BADGES[state.status]}));
  if (state.status === "processing")
    row.append(
      button("Cancel", state, () => call(state.links.cancel, {method: "POST"}).then(() => list())),
      element("progress", {className: "more", max: 1, value: state.progress, ariaLabel: `${state.file_name} is being read`}));
  if (state.error_file)
    row.append(button("Rejected rows", state, () => save(state.links.errors, `errors-${state.id}.csv`)));
  const why = state.candidates.length
    ? "The encoding of the file was uncertain. Choose the right one, and import the file again." : sentence(state.error);
  if (why) row.append(element("p", {className: "more empty", textContent: why}));
  if (state.candidates.length)
    row.append(element("dl", {className: "more readings"}, ...readings(state.candidates)));
  return row;
}

function button(text, state, act) {
  const made = element("button", {type: "button", className: "small", textContent: text});
  made.setAttribute("aria-label", `${text}: ${state.file_name}, ${moment(state.created_at)}`);
  made.addEventListener("click", async () => { try { await act(); } catch (error) { say(described(error)); } });
  return made;
}

// All rows that are shown, again while one of them is under way.
async function list() {
  clearTimeout(timer);
  const mine = turn();
  try {
    const {items, more} = await pages("/imports", shown);
    if (!mine()) return;
    showRows(items.map(item), more);
    $("empty").textContent = "You have not imported anything yet. Choose a file above.";
    if (items.some(each => each.status === "processing")) timer = setTimeout(listed, 2 * POLL_MS);
  } catch (error) {
    if (mine()) throw error;
  }
}

const listed = async () => {
  try {
    await list();
  } catch (error) {
    say(described(error));
    if (!error.final) timer = setTimeout(listed, 5 * POLL_MS);
  }
};

$("form").addEventListener("submit", async event => {
  event.preventDefault();
  say("");
  const form = new FormData();
  if ($("encoding").value.trim()) form.append("encoding", $("encoding").value.trim());
  form.append("file", $("file").files[0]);
  const mine = account;
  $("start").disabled = true;
  $("result").hidden = $("bar").hidden = $("counts").hidden = false;
  $("errors-row").hidden = true;
  ask([]);
  $("read-as").textContent = "–";
  $("bar").removeAttribute("value");
  for (const name of COUNTS) $(name).textContent = "0";
  $("status").textContent = "Uploading";
  try {
    const query = $("dry").checked ? "?dry_run=true" : "";
    const started = await (await call(`/imports${query}`, {method: "POST", body: form})).json();
    if (mine === account) await watch(started.links);
  } catch (error) {
    if (mine !== account) return;
    // The browser's own message is not helpful: the connection was cut.
    say(error.final === undefined
      ? "The server cannot be reached, or the upload was cut off. The file may be too large." : error.message);
    $("status").textContent = "Not imported";
    if (error.ofKey) $("result").hidden = true;  // nothing was sent
    $("bar").hidden = $("counts").hidden = true;
  } finally {
    if (mine === account) {
      $("start").disabled = false;
      $("cancel").hidden = true;
      if (document.activeElement === document.body) $("start").focus();  // a disabled button loses it
    }
  }
  if (mine === account && hasKey() && current) await listed();
});

$("cancel").addEventListener("click", async () => {
  try {
    await call(current.links.cancel, {method: "POST"});
  } catch (error) {
    say(described(error));
  }
});

$("errors").addEventListener("click", async () => {
  try {
    await save(current.links.errors, `errors-${current.id}.csv`);
  } catch (error) {
    say(described(error));
  }
});

$("more").addEventListener("click", () => { shown += PAGE; listed(); });

withKey(() => listed(), () => {
  account += 1;
  current = null;
  clearTimeout(timer);
  $("start").disabled = false;
  $("result").hidden = $("cancel").hidden = true;
});
