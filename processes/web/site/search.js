// Searches contacts and documents, and shows what was found.

import {$, call, described, element, number, say, sentence, turns, visible, withKey} from "./session.js";

const KINDS = {contact: "Contact", document: "Document"};
const FIELDS = {email: "E-mail", name: "Name", phone: "Phone", company: "Company", country: "Country"};
let query = "";
let next = null;
const turn = turns();

function facts(contact) {
  const pairs = Object.entries(FIELDS).map(([name, label]) => [label, contact[name]]);
  pairs.push(...Object.entries(contact.attributes).map(([name, value]) => [name, String(value)]));
  return element("dl", {className: "facts more"}, ...pairs.filter(([, value]) => value).flatMap(([label, value]) => [
    element("dt", {textContent: label}), element("dd", {textContent: value})]));
}

const label = name => sentence(name.replaceAll("_", " "));
const isNumber = value => typeof value === "number";
const plain = value => value === null ? "–" : isNumber(value) ? number(value)
  : typeof value === "object" ? JSON.stringify(value) : String(value);

// A document's values by name, and its lists of things as tables.
function readable(content) {
  const lists = Object.entries(content).filter(([, value]) => Array.isArray(value) && value.length > 0);
  const others = Object.entries(content).filter(([, value]) => !Array.isArray(value) || value.length === 0)
    .flatMap(([name, value]) => name === "parameters" && value ? Object.entries(value) : [[name, value]]);
  return [
    element("dl", {className: "facts"}, ...others.flatMap(([name, value]) => [
      element("dt", {textContent: label(name)}), element("dd", {textContent: plain(value)})])),
    ...lists.map(([name, rows]) => table(name, rows))];
}

function table(name, rows) {
  const isThing = row => row !== null && typeof row === "object";
  const columns = [...new Set(rows.flatMap(row => isThing(row) ? Object.keys(row) : []))];
  const values = rows.map(row => isThing(row) ? columns.map(column => row[column] ?? null) : [row]);
  // A column of numbers is read from the right.
  const kinds = columns.map((_, place) => values.map(row => row[place]).filter(value => value !== null))
    .map(column => column.length > 0 && column.every(isNumber) ? "number" : "");
  const line = (kind, texts) => element("tr", {}, ...texts.map((text, place) =>
    element(kind, {textContent: text, className: kinds[place] || ""})));
  const wide = element("div", {className: "wide", tabIndex: 0}, element("table", {},
    element("caption", {textContent: label(name)}),
    element("thead", {}, line("th", columns.map(label))),
    element("tbody", {}, ...values.map(row => line("td", row.map(plain))))));
  wide.setAttribute("role", "region");  // one that the keyboard scrolls has a name
  wide.setAttribute("aria-label", label(name));
  return wide;
}

function item(found) {
  const open = element("button", {type: "button", className: "small", textContent: "Show", ariaExpanded: "false"});
  open.setAttribute("aria-label", `Show ${found.title}`);
  const row = element("li", {},
    element("div", {className: "what"},
      element("strong", {textContent: found.title}), element("p", {textContent: found.snippet})),
    element("span", {className: `badge ${found.kind}`, textContent: KINDS[found.kind]}), open);
  const load = async () => {
    const content = await (await call(found.links.self)).json();
    const details = found.kind === "contact" ? facts(content)
      : element("div", {className: "more"}, ...readable(content.content));
    details.hidden = true;
    row.append(details);
    return details;
  };
  let loading = null;  // two clicks load it once
  open.addEventListener("click", async () => {
    say("");
    try {
      const details = await (loading ??= load());
      details.hidden = !details.hidden;
      open.ariaExpanded = String(!details.hidden);
      open.textContent = details.hidden ? "Show" : "Hide";
    } catch (error) {
      loading = null;
      say(described(error));
    }
  });
  return row;
}

async function search(after = null) {
  const mine = turn();
  say("");
  $("start").disabled = true;
  $("found").hidden = false;
  if (!after) {
    $("status").textContent = "Searching";
    $("list").replaceChildren();
    $("more-row").hidden = $("empty").hidden = true;
  }
  try {
    const cursor = after ? `&after=${encodeURIComponent(after)}` : "";
    const page = await (await call(`/search?q=${encodeURIComponent(query)}${cursor}`)).json();
    if (!mine()) return;
    $("list").append(...page.items.map(item));
    next = page.next;
    const count = $("list").children.length;
    $("more-row").hidden = !next;
    $("empty").hidden = count > 0;
    $("status").textContent = visible(count === 0 ? `Nothing matches “${query}”`
      : `${next ? "The best " : ""}${count} ${count === 1 ? "match" : "matches"} for “${query}”`);
  } catch (error) {
    if (!mine()) return;
    say(described(error));
    if (!after) $("found").hidden = true;
  } finally {
    $("start").disabled = false;
  }
}

$("form").addEventListener("submit", event => {
  event.preventDefault();
  query = $("query").value.trim();
  if (!query) return;
  history.replaceState(null, "", `?q=${encodeURIComponent(query)}`);
  search();
});
$("more").addEventListener("click", () => search(next));

// A reloaded or shared address searches again.
withKey(async () => {
  const asked = new URLSearchParams(location.search).get("q")?.trim();
  if (!asked) return;
  $("query").value = query = asked;
  await search();
}, () => { $("found").hidden = true; });
