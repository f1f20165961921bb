// The phone's page: buttons for what the owner of an account can do, and the recipients' messages.

import { button, h } from "./dom.js";

const POLL = 1000; // milliseconds
const CARDS = [
  ["15550000404", "not on WhatsApp"],
  ["15550000408", "hangs once"],
  ["15550000409", "stays at the clock"],
  ["15550000429", "restricts new chats"],
  ["15550000403", "temporary ban"],
  ["15550000500", "crashes once"],
  ["15550000503", "offline for a while"],
];

const list = document.getElementById("accounts");
const problem = document.getElementById("problem");
let drawn = "";

async function act(account, name, body) {
  const options = { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body ?? {}) };
  const response = await fetch(`accounts/${account}/${name}`, options);
  problem.hidden = response.ok;
  if (!response.ok) problem.textContent = (await response.json()).detail;
  await look();
}

const flag = (text, kind) => h("span", { class: `flag flag-${kind}` }, text);

function flags({ qr, code, live, devices, banned, restriction, offline }) {
  return h("div", { class: "flags" },
    qr && flag("QR code on screen", "ask"),
    code && flag(`Pairing code ${code.slice(0, 4)}-${code.slice(4)}`, "ask"),
    live ? flag("open in a browser", "good") : flag("no browser open", "plain"),
    flag(`${devices} linked`, devices ? "good" : "plain"),
    banned && flag("banned", "bad"),
    restriction && flag(restriction === "monthly_cap" ? "no more new chats this month" : "no new chats", "bad"),
    offline && flag("offline", "bad"));
}

function buttons({ account, qr, code, devices, banned, restricted, offline }) {
  const one = (label, name, enabled = true, main = false, body = {}) =>
    button({ class: main ? "main" : null, disabled: !enabled }, () => act(account, name, body), label);
  return h("div", { class: "buttons" },
    one("Scan QR code", "scan", qr, true),
    code && one("Enter pairing code", "pair", true, true, { code }),
    one("Unlink", "unlink", devices > 0),
    banned ? one("Lift ban", "unban") : one("Ban", "ban"),
    restricted ? one("Allow new chats", "unrestrict") : one("Restrict new chats", "restrict"),
    !restricted && one("Reach the monthly limit", "restrict", true, false, { kind: "monthly_cap" }),
    offline ? one("Online", "online") : one("Offline", "offline"),
    one("Release held messages", "release"));
}

function write(account) {
  const phone = h("input", { placeholder: "From, e.g. 15551234567", "aria-label": "From" });
  const text = h("input", { placeholder: "Message", "aria-label": "Message", class: "wide" });
  const send = () => act(account, "incoming", { phone: phone.value, text: text.value });
  return h("div", { class: "write" }, phone, text, button({}, send, "Send to this account"));
}

function received(messages) {
  if (!messages.length) return h("p", { class: "soft" }, "Recipients have received nothing from this account.");
  const row = ({ phone, text, at }) =>
    h("tr", {},
      h("td", {}, new Date(at * 1000).toLocaleTimeString()), h("td", {}, `+${phone}`), h("td", { dir: "auto" }, text));
  return h("table", {}, h("tbody", {}, messages.map(row)));
}

function card(account) {
  return h("section", {},
    h("h2", {}, account.account, h("span", { class: "soft" }, ` +${account.phone}`)),
    flags(account), account.picture && h("img", { class: "qr", src: account.picture, alt: "The QR code on its screen" }),
    buttons(account), write(account.account),
    h("h3", {}, "What recipients have received"), received(account.messages));
}

const help = () =>
  h("section", { class: "cards" }, h("h3", {}, "Numbers that misbehave"),
    h("table", {}, h("tbody", {}, CARDS.map(([phone, what]) =>
      h("tr", {}, h("td", {}, h("code", {}, phone)), h("td", {}, what))))));

/** Draws the page anew if something has changed, but not while a person is writing. */
async function look() {
  const { items } = await (await fetch("overview")).json();
  const now = JSON.stringify(items);
  const writing = document.activeElement?.tagName === "INPUT" && document.activeElement.value;
  if (now === drawn || writing) return;
  drawn = now;
  document.getElementById("nothing").hidden = items.length > 0;
  list.replaceChildren(...items.map(card), help());
}

async function watch() {
  await look().catch(() => {}); // the server is away: retry
  setTimeout(watch, POLL);
}

await watch();
