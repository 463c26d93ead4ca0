// Requests exports, shows how far they are, and saves their files.

import {$, POLL_MS, call, described, element, moment, number, pages, say, save, sendJson, sentence, showRows, size, turns, withKey} from "./session.js";

const DATA = {contacts: "Contacts", invoices: "Invoices", usage_events: "Usage events"};
const BADGES = {requested: "Being written", completed: "Ready", failed: "Failed"};
const PAGE = 10;
let shown = PAGE;
let timer = null;
const turn = turns();

function item(state) {
  const details = [state.format === "csv" ? "CSV" : "Parquet"];
  const times = [`requested ${moment(state.requested_at)}`];
  if (state.status === "completed") {
    details.push(`${number(state.rows)} ${state.rows === 1 ? "row" : "rows"}`, size(state.bytes));
    times.push(`kept until ${moment(state.expires_at)}`);
  }
  const row = element("li", {},
    element("div", {className: "what"},
      element("strong", {textContent: DATA[state.dataset]}),
      element("p", {textContent: details.join(" · ")}),
      element("p", {textContent: sentence(times.join(" · "))})),
    element("span", {className: `badge ${state.status}`, textContent: BADGES[state.status]}));
  if (state.status === "completed") {
    const button = element("button", {type: "button", className: "small", textContent: "Download"});
    button.setAttribute("aria-label", `Download ${DATA[state.dataset]} of ${moment(state.requested_at)}`);
    button.addEventListener("click", () => download(state));
    row.append(button);
  }
  if (state.status === "requested")
    row.append(element("progress", {className: "more", ariaLabel: `${DATA[state.dataset]} is being written`}));
  if (state.status === "failed")
    row.append(element("p", {className: "more empty", textContent: "It could not be written. Request it again."}));
  return row;
}

// By a link that works without a key, so that the browser saves a large file as it arrives.
async function download(state) {
  try {
    const export_ = await (await call(state.links.self)).json();
    if (export_.download_url) location.assign(new URL(export_.download_url).pathname);
    else await save(state.links.file, `${state.dataset}.${state.format}`);
  } catch (error) {
    say(described(error));
  }
}

async function list() {
  clearTimeout(timer);
  const mine = turn();
  try {
    const {items, more} = await pages("/exports", shown);
    if (!mine()) return;
    const waiting = items.filter(each => each.status === "requested").length;
    showRows(items.map(item), more);
    $("empty").textContent = "You have no exports yet. Request one above.";
    $("exports").setAttribute("aria-busy", String(waiting > 0));
    $("status").textContent = waiting ? `${waiting === 1 ? "One export is" : `${waiting} exports are`} being written.` : "";
    if (waiting) timer = setTimeout(list, POLL_MS);
  } catch (error) {
    if (!mine()) return;
    say(described(error));
    if (!error.final) timer = setTimeout(list, 5 * POLL_MS);
  }
}

$("form").addEventListener("submit", async event => {
  event.preventDefault();
  say("");
  $("start").disabled = true;
  try {
    const format = new FormData($("form")).get("format");
    await sendJson("/exports", {dataset: $("dataset").value, format});
    await list();
  } catch (error) {
    say(described(error));
  } finally {
    $("start").disabled = false;
  }
});

$("more").addEventListener("click", () => { shown += PAGE; list(); });

withKey(list, () => {
  clearTimeout(timer);
  $("status").textContent = "";
});
