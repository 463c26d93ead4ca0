// Uploads a file, and watches its import.

import {$, POLL_MS, call, described, element, hasKey, moment, number, save, say, sentence, withKey} from "./session.js";

const COUNTS = ["rows", "imported", "updated", "rejected"];
const SAYS = {completed: "Done", failed: "Failed", cancelled: "Cancelled"};
const BADGES = {processing: "Importing", ...SAYS};
let current = null;
let next = null;

function show(state) {
  current = state;
  const percent = Math.floor(state.progress * 100);
  const ended = SAYS[state.status];
  const doing = state.dry_run ? "Counting" : "Importing";
  $("status").textContent = ended
    ? `${ended}: ${state.file_name}${state.dry_run ? " (dry run: nothing was imported)" : ""}`
    : `${doing}: ${percent} %`;
  $("bar").value = state.progress;
  for (const name of COUNTS) $(name).textContent = number(state[name]);
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

// Choosing one fills in the encoding; the person then starts the import again.
function ask(candidates) {
  $("candidates").hidden = candidates.length === 0;
  $("readings").replaceChildren(...candidates.map(candidate => {
    const choice = element("button", {type: "button", className: "small", textContent: candidate.encoding});
    choice.addEventListener("click", () => {
      $("options").open = true;
      $("encoding").value = candidate.encoding;
      $("start").focus();
    });
    return element("div", {}, element("dt", {}, choice),
      element("dd", {textContent: candidate.sample.join(" / ")}));
  }));
}

// EventSource cannot send an Authorization header, so the stream is read by hand.
async function watch(links) {
  let ended = false;
  while (!ended) {
    try {
      const answer = await call(links.events);
      const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
      let text = "";
      for (let part; !(part = await reader.read()).done;) {
        text += part.value;
        const events = text.split("\n\n");
        text = events.pop();
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
  const counts = [
    `${number(state.imported)} imported`, `${number(state.updated)} updated`, `${number(state.rejected)} rejected`,
  ].join(", ");
  const what = element("div", {className: "what"},
    element("strong", {textContent: state.file_name}),
    element("span", {textContent: `${moment(state.created_at)} · ${counts}${state.dry_run ? " · dry run" : ""}`}));
  const row = element("li", {}, what,
    element("span", {className: `badge ${state.status}`, textContent: BADGES[state.status]}));
  const why = state.candidates.length ? "The encoding of the file was uncertain." : sentence(state.error);
  if (why) row.append(element("p", {className: "more empty", textContent: why}));
  return row;
}

async function list(after = null) {
  const page = await (await call(`/imports?limit=5${after ? `&after=${encodeURIComponent(after)}` : ""}`)).json();
  if (!after) $("list").replaceChildren();
  $("list").append(...page.items.map(item));
  next = page.next;
  $("more-row").hidden = !next;
  $("empty").hidden = $("list").children.length > 0;
  $("empty").textContent = "You have not imported anything yet. Choose a file above.";
}

const listed = async after => { try { await list(after); } catch (error) { say(described(error)); } };

$("form").addEventListener("submit", async event => {
  event.preventDefault();
  say("");
  const form = new FormData();
  if ($("encoding").value.trim()) form.append("encoding", $("encoding").value.trim());
  form.append("file", $("file").files[0]);
  $("start").disabled = true;
  $("result").hidden = false;
  $("errors-row").hidden = true;
  ask([]);
  $("read-as").textContent = "–";
  $("bar").removeAttribute("value");
  for (const name of COUNTS) $(name).textContent = "0";
  $("status").textContent = "Uploading";
  try {
    const query = $("dry").checked ? "?dry_run=true" : "";
    const started = await (await call(`/imports${query}`, {method: "POST", body: form})).json();
    await watch(started.links);
  } catch (error) {
    // The browser's own message is not helpful: the connection was cut.
    say(error.final === undefined
      ? "The server cannot be reached, or the upload was cut off. The file may be too large." : error.message);
    $("status").textContent = "Not imported";
    $("bar").value = 0;
  } finally {
    $("start").disabled = false;
    $("cancel").hidden = true;
  }
  if (hasKey() && current) await listed();
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

$("more").addEventListener("click", () => listed(next));

withKey(() => listed());
