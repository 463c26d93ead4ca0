// Sets up integrations, shows how their last sync went, and requests another.

import {$, POLL_MS, call, described, element, moment, pages, say, sendJson, showRows, turns, visible, withKey} from "./session.js";

const BADGES = {never: "Not synced yet", syncing: "Syncing", synced: "Synced", failed: "Failed"};
const LOOKS = {never: "", syncing: "processing", synced: "completed", failed: "failed"};
const PAGE = 10;
const asked = new Map();  // by name: the job that copies the records
let shown = PAGE;
let timer = null;
const turn = turns();

function item(state) {
  const busy = asked.has(state.name);
  const status = busy ? "syncing" : state.status;
  const last = state.last_synced_at ? `Last synced ${moment(state.last_synced_at)}` : "Never synced";
  const row = element("li", {},
    element("div", {className: "what"},
      element("strong", {textContent: state.name}),
      element("p", {textContent: state.url}),
      element("p", {textContent: last})),
    element("span", {className: `badge ${LOOKS[status]}`, textContent: BADGES[status]}),
    button("Sync now", state, busy, () => sync(state)),
    button("Change", state, busy, () => change(state)),
    button("Remove", state, busy, () => remove(state)));
  if (busy) row.append(element("progress", {className: "more", ariaLabel: `${state.name} is being synced`}));
  else if (state.error) row.append(element("p", {className: "more reason", textContent: state.error}));
  return row;
}

function button(text, state, disabled, act) {
  const made = element("button", {type: "button", className: "small", textContent: text, disabled});
  made.setAttribute("aria-label", `${text}: ${state.name}`);
  made.addEventListener("click", async () => {
    say("");
    try { await act(); } catch (error) { say(described(error)); }
  });
  return made;
}

async function sync(state) {
  const job = await (await sendJson(state.links.sync, {})).json();
  asked.set(state.name, job.links.self);
  await list();
}

function change(state) {
  $("name").value = state.name;
  $("url").value = state.url;
  $("credential").value = "";
  $("url").focus();
}

async function remove(state) {
  if (!confirm(`Remove ${visible(state.name)} with its records and its credential?`)) return;
  await call(state.links.self, {method: "DELETE"});
  await list();
}

// A job that has ended is waited for no longer; the list then says how it went.
async function followed() {
  for (const [name, job] of asked) {
    const run = await (await call(job)).json();
    if (run.status === "succeeded" || run.status === "failed") asked.delete(name);
  }
}

async function list() {
  clearTimeout(timer);
  const mine = turn();
  try {
    await followed();
    const {items, more} = await pages("/integrations", shown);
    if (!mine()) return;
    showRows(items.map(item), more);
    $("empty").textContent = "You have no integrations yet. Set one up above.";
    $("status").textContent = asked.size ? `${asked.size === 1 ? "One sync is" : `${asked.size} syncs are`} under way.` : "";
    if (asked.size) timer = setTimeout(list, POLL_MS);
  } catch (error) {
    if (!mine()) return;
    say(described(error));
    if (error.final) asked.clear();
    else timer = setTimeout(list, 5 * POLL_MS);
  }
}

$("form").addEventListener("submit", async event => {
  event.preventDefault();
  say("");
  $("save").disabled = true;
  try {
    const body = {url: $("url").value.trim()};
    if ($("credential").value) body.credential = $("credential").value;
    await sendJson(`/integrations/${encodeURIComponent($("name").value.trim())}`, body, "PUT");
    $("form").reset();
    await list();
  } catch (error) {
    say(described(error));
  } finally {
    $("save").disabled = false;
  }
});

$("more").addEventListener("click", () => { shown += PAGE; list(); });

withKey(list, () => {
  asked.clear();
  clearTimeout(timer);
  $("status").textContent = "";
});
