// The caller's key, whose it is, and requests with it. Shared by the pages.

const KEPT = "api-key";
export const POLL_MS = 1000;

export const $ = id => document.getElementById(id);

// Without characters that cannot be seen and turn the ones around them, as in "\u202Eexe.stcatnoc".
export const visible = text => String(text).replace(/[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]/g, "\ufffd");

export function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  if (properties.textContent !== undefined) made.textContent = visible(properties.textContent);
  made.append(...children);
  return made;
}

export const sentence = text => text && text[0].toUpperCase() + text.slice(1);

export function say(problem) {
  $("problem").textContent = sentence(visible(problem));
}

// A list's first `shown` items, page by page, and whether there are more.
export async function pages(path, shown) {
  const items = [];
  let after = null;
  do {
    const query = `limit=${Math.min(shown - items.length, 100)}${after ? `&after=${encodeURIComponent(after)}` : ""}`;
    const page = await (await call(`${path}?${query}`)).json();
    items.push(...page.items);
    after = page.next;
  } while (after && items.length < shown);
  return {items, more: Boolean(after)};
}

// Puts rows in the place of the list's, and leaves the focus on the button that had it.
export function showRows(rows, more) {
  const focused = document.activeElement?.getAttribute("aria-label");
  $("list").replaceChildren(...rows);
  if (focused) $("list").querySelector(`[aria-label="${CSS.escape(focused)}"]`)?.focus();
  $("more-row").hidden = !more;
  $("empty").hidden = rows.length > 0;
}

function key() {
  return $("key").value.trim();
}

export function hasKey() {
  return key() !== "";
}

// Makes a list's turns: `const mine = turn()` before a request, and `mine()` says afterwards whether its answer may be
// shown. Not if the list was asked for again meanwhile, nor if the key has changed: it is another account's then.
export function turns() {
  let last = 0;
  return () => {
    const [own, asked] = [++last, key()];
    return () => own === last && asked === key();
  };
}

// `error.final` says whether the same request would fail again; undefined: the server was not reached.
// `error.ofKey` says whether only another key helps.
export async function call(path, options = {}) {
  if (!/^[\x21-\x7e]+$/.test(key())) {  // the browser would refuse the header without a clear message
    const error = new Error(
      hasKey() ? "The key contains an invalid character. Copy it again." : "Enter your API key first.");
    error.final = error.ofKey = true;
    throw error;
  }
  sessionStorage.setItem(KEPT, key());
  const headers = {...options.headers, Authorization: `Bearer ${key()}`};
  const answer = await fetch(path, {...options, headers, credentials: "omit", cache: "no-store"});
  if (answer.ok) return answer;
  const body = await answer.json().catch(() => null);
  const error = new Error(answer.status === 401
    ? "That is not a valid key. Copy it again, or ask for a new one."
    : body?.error?.message || `The server answered ${answer.status}.`);
  error.ofKey = answer.status === 401;
  error.final = answer.status < 500 && answer.status !== 429;
  throw error;
}

export function described(error) {
  return error.final === undefined ? "The server cannot be reached. Try again in a moment." : error.message;
}

export function sendJson(path, body, method = "POST") {
  return call(path, {method, headers: {"Content-Type": "application/json"}, body: JSON.stringify(body)});
}

export const number = value => value.toLocaleString("en");
export const moment = text => new Date(text).toLocaleString("en", {dateStyle: "medium", timeStyle: "short"});

export function size(bytes) {
  const units = ["bytes", "kB", "MB", "GB"];
  let unit = 0;
  while (bytes >= 1000 && unit < units.length - 1) { bytes /= 1000; unit += 1; }
  return `${bytes.toLocaleString("en", {maximumFractionDigits: unit ? 1 : 0})} ${units[unit]}`;
}

// Saves an answer as a file, by its own name.
export async function save(path, name) {
  const content = await (await call(path)).blob();
  const link = element("a", {href: URL.createObjectURL(content), download: name});
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), POLL_MS);
}

async function showAccount() {
  const account = $("account");
  const asked = key();
  if (!/^[\x21-\x7e]+$/.test(asked)) return false;
  try {
    const me = await (await call("/me")).json();
    if (asked !== key()) return false;  // changed meanwhile: the other request answers
    const facts = [me.tenant_id, `plan ${me.plan}`, me.time_zone, me.caller];
    account.replaceChildren(
      element("strong", {textContent: me.name}),
      ...(me.status === "active" ? [] : [element("span", {className: "badge failed", textContent: sentence(me.status)})]),
      element("span", {textContent: facts.join(" · ")}));
    account.hidden = $("forget").hidden = false;
    return true;
  } catch (error) {
    if (asked !== key()) return false;
    account.hidden = $("forget").hidden = true;
    say(described(error));
    return false;
  }
}

// Ends with the press of a button that is under way, after its click. If what is pressed moved away before, there would
// be no click.
let press = Promise.resolve();
addEventListener("pointerdown", () => {
  press = new Promise(done => {
    for (const end of ["pointerup", "pointercancel"])
      addEventListener(end, () => setTimeout(done), {once: true, capture: true});
  });
}, {capture: true});

// Shows whose key it is, now and whenever it changes; `use` is called for each valid one. What was shown of another
// key's account is taken away at the first character that differs, by `forget` where it is the page's own.
export async function withKey(use, forget) {
  let last = null;
  const former = () => {
    if (last === null || last === key()) return;
    last = null;
    say("");
    $("account").hidden = $("forget").hidden = true;
    showRows([], false);
    $("empty").hidden = true;
    forget();
  };
  const show = async () => { if (await showAccount()) await use(); };
  const changed = async () => {
    former();
    if (last === key()) return;
    last = key();
    await press;
    if (last === key()) await show();
  };
  $("key").addEventListener("input", former);
  $("key").addEventListener("change", changed);
  $("key").addEventListener("blur", changed);  // a character that was typed and taken back is no change
  $("key-form").addEventListener("submit", event => {
    event.preventDefault();
    former();
    last = key();
    say("");
    show();
  });
  $("forget").addEventListener("click", () => {
    sessionStorage.removeItem(KEPT);
    location.reload();
  });
  $("key").value = sessionStorage.getItem(KEPT) || "";
  await changed();
}
