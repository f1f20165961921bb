// Popups and dialogs. They cover the page and intercept every click.

import { button, h } from "./dom.js";
import { legacy, testid } from "./generation.js";
import { lay } from "./screens.js";

const ok = (label, act) => ({ label, act, id: "popup-controls-ok" });
const cancel = (label, act) => ({ label, act, id: "popup-controls-cancel", plain: true });

/** Shows a dialog; returns a function that closes it. `buttons` are made by ok() and cancel(). */
function popup({ title = "", text = "", buttons, spinner = false, last = false }) {
  const close = () => layer.remove();
  const controls = buttons.map(({ label, act = () => {}, plain, id }) =>
    button({ class: `button${plain ? " button-plain" : ""}`, ...testid(id) }, () => (close(), act()), label));
  const layer = h("div", { class: `backdrop${last ? " backdrop-last" : ""}`, "data-animate-modal-backdrop": "true" },
    h("div", { role: "dialog", "aria-modal": "true", ...testid("confirm-popup") },
      h("div", { class: "popup", "data-animate-modal-popup": "true", "aria-label": `${title}${text}` },
        h("div", { class: "popup-body", "data-animate-modal-body": "true" },
          title && h("h1", {}, title),
          h("div", { ...testid("popup-contents"), class: "popup-text" },
            spinner && h("span", { class: "spinner" }), text),
          h("div", { class: "popup-buttons" }, controls)))));
  lay(layer);
  return close;
}

/** Shows that a number is being looked up. */
export const startingChat = (cancelled) =>
  popup({ text: "Starting chat", spinner: true, buttons: [cancel("Cancel", cancelled)] });

export const notOnWhatsApp = (number) =>
  popup({ text: `The number ${number} isn't on WhatsApp.`, buttons: [ok("OK")] });

/** Shows why there is no pairing code. */
export const refusedCode = (title, text, act) => popup({ title, text, buttons: [ok("OK", act)] });

export const updateSoon = (refresh) =>
  popup({ title: "WhatsApp will refresh in 1 min", buttons: [ok("Refresh now", refresh)] });

/** Shows a dialog that no driver knows; both of its buttons `agree` to something. */
export const newTerms = (agree) =>
  popup({ title: "Your messages move to a new plan", buttons: [ok("OK", agree), ok("Continue", agree)] });

export const confirmLogOut = (act) =>
  popup({
    title: "Log out?",
    text: "Are you sure you want to log out?",
    buttons: [cancel("Cancel"), ok("Log out", act)],
  });

/** Asks in which page to use WhatsApp; `where` is where else it is open. It covers every other dialog. */
export const openElsewhere = (where, { other, leave, use }) =>
  popup({
    text: `WhatsApp is open ${where}. Click "Use here" to use WhatsApp in this window.`,
    buttons: [cancel(other, leave), ok("Use here", use)],
    last: true,
  });

const NEWS = [
  ["Events in groups", "Plan something together and see who is coming."],
  ["Search by date", "Jump to the day a message was sent."],
  ["A calmer chat list", "Archive what can wait, and it stays there."],
];

/** Shows the dialog "What's new", which takes the focus; resolves when it is closed. */
export function whatsNew() {
  return new Promise((resolve) => {
    const close = () => {
      layer.remove();
      resolve();
    };
    const go = button({ class: "button" }, close, "Continue");
    const pressed = (event) => event.isTrusted && event.key === "Escape" && close();
    const layer = h("div", { class: "backdrop backdrop-top", onkeydown: pressed },
      h("div", { role: "dialog", "aria-modal": "true", class: "popup news" },
        button({ class: "news-close", "aria-label": "Close" }, close, "×"),
        h("h1", {}, "What’s new on WhatsApp Web"),
        h("ul", {}, NEWS.map(([title, text]) => h("li", {}, h("strong", {}, title), h("span", {}, text)))),
        go));
    lay(layer);
    go.focus();
  });
}

/** Whether a dialog covers the page. */
export const covered = () => document.querySelector('[aria-modal="true"]') !== null;

/** Returns the bar above the chat list that says that notifications are off. */
export function butterbar() {
  const bar = h("div", { class: "butterbar", ...testid("chat-butterbar"), ...(legacy ? { role: "note" } : {}) },
    h("div", { class: "butterbar-text" },
      h("div", { class: "butterbar-title" }, "Message notifications are off"),
      button({ class: "link" }, () => bar.remove(), "Turn on")),
    button({ class: "butterbar-close", "aria-label": "Close" }, () => bar.remove(), "×"));
  return bar;
}

/** The first day of next month, as each generation writes it. */
function capEnds() {
  const now = new Date();
  const style = { month: legacy ? "long" : "short", day: "numeric", year: "numeric" };
  return new Date(now.getFullYear(), now.getMonth() + 1, 1).toLocaleDateString("en-US", style);
}

function explainRestriction() {
  popup({
    title: "Your account is restricted right now",
    text: "Recent activity on your account may be a sign of spam, automated or bulk messaging. You can answer calls, " +
      "reply to new messages, and keep messaging in your chats and groups. We'll let you know when restrictions are " +
      "lifted.",
    buttons: [ok("OK")],
  });
}

/** Returns the notice of a restriction, for above the chat list and for the place of the compose box. */
export function restriction(kind) {
  const [title, text] = kind === "monthly_cap"
    ? ["You've reached the monthly limit on new chats you can start.",
      `You can't start any more new chats until ${capEnds()}.`]
    : ["Your account is restricted right now", "You can't start new chats right now."];
  return h("div", { class: "restriction", role: legacy ? null : "status" },
    h("strong", {}, title), h("span", {}, text),
    kind === "new_chats" && button({ class: "link" }, explainRestriction, "Show details"));
}

export const restrictionLifted = () =>
  popup({ title: "Your account is no longer restricted", text: "You can start new chats again.", buttons: [ok("OK")] });

/** Returns the alert that there is no connection. */
export const offlineAlert = (reconnect) =>
  h("div", { class: "butterbar offline", role: "alert" },
    h("div", { class: "butterbar-text" },
      h("div", { class: "butterbar-title" }, "Computer not connected"),
      h("div", {}, "Make sure your computer has an active internet connection."),
      button({ class: "link" }, reconnect, "Reconnect")));
