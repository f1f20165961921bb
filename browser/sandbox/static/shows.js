// Rare screens and dialogs of WhatsApp, shown by order. Nothing else runs under a screen that fills the page. The names
// are those of control.py.

import { listen } from "./api.js";
import * as crash from "./crash.js";
import { newTerms, openElsewhere, updateSoon, whatsNew } from "./dialogs.js";
import { button, h } from "./dom.js";
import * as rename from "./rename.js";
import * as screens from "./screens.js";
import { timing, wait } from "./settings.js";

const MEGABYTE = 1024 * 1024;

const press = (label, act = () => location.reload()) => button({ class: "button" }, act, label);

const notice = (title, text, ...buttons) =>
  screens.show(
    h("div", { class: "notice" }, h("h1", {}, title), text && h("p", {}, text),
      h("div", { class: "notice-buttons" }, buttons)));

const FULL_PAGE = {
  loading: screens.showStartup,
  syncing: () => screens.showSyncing(20),
  logging_out: screens.showLoggingOut,
  banned: () => screens.showBan("you may have violated our terms of service.", 86_400, () => location.reload()),
  conflict_window: () => {
    screens.show();
    const again = () => location.reload();
    openElsewhere("in another window", { other: "Close", leave: () => {}, use: again });
  },
  conflict_tab: () =>
    notice("There is already another active WhatsApp Web tab in this browser. Close it and click Refresh.", null,
      press("Refresh")),
  offline: () =>
    notice("Computer not connected", "Make sure your computer has an active internet connection.", press("Reconnect")),
  connecting: () => notice("Connecting to WhatsApp", "Retrying in 5 seconds…", press("Retry now")),
  proxy_blocked: () =>
    notice("Can't load WhatsApp",
      "Your computer is connected to a network that prevents WhatsApp from working correctly."),
  unavailable: () =>
    notice("Service unavailable", "We're having trouble connecting to WhatsApp. Please try again later."),
  disk_full: () =>
    notice("Your computer does not have enough space for WhatsApp to run. Free some space and try again.", null),
  unsupported: () =>
    notice("WhatsApp works with Google Chrome 100+",
      "To use WhatsApp, update Chrome or use Mozilla Firefox, Safari, Microsoft Edge or Opera."),
  deprecated: () =>
    notice("The version of WhatsApp on your phone is too old. Update it to go on.", null, press("Log in"),
      press("Log out")),
  crashed: screens.showCrash,
  unknown: () => notice("Choose your avatar", "It is what your contacts will see of you from now on.", press("Begin")),
};

/** Shows for good that a button of the unknown dialog was pressed. */
const agree = () => screens.hold(() => notice("You have agreed", "Your plan begins today."));

const DIALOGS = {
  conflict_browser: () =>
    openElsewhere("on another computer or browser",
      { other: "Log out", leave: () => {}, use: () => location.reload() }),
  whats_new: whatsNew,
  update: () => updateSoon(() => location.reload()),
  unknown_dialog: () => newTerms(agree),
};

let shown = null;

/** Shows a screen or a dialog by name; null ends it with a reload. */
function show(name) {
  if (name === shown) return;
  if (name === null) return location.reload();
  shown = name;
  if (FULL_PAGE[name]) screens.hold(FULL_PAGE[name]);
  else DIALOGS[name]();
}

/** Shows the screen or dialog that the page was loaded with; returns whether it fills the page. */
export function begin() {
  const { shown: name } = document.documentElement.dataset;
  if (name) show(name);
  return name in FULL_PAGE;
}

const taken = [];

/** Takes memory for good, and writes to it: memory that was never written to costs nothing. */
function leak({ mb }) {
  const bytes = new Uint8Array(Math.round(mb * MEGABYTE));
  for (let at = 0; at < bytes.length; at += 1) bytes[at] = at * 31 + (at >> 12);
  taken.push(bytes);
}

function hang({ seconds }) {
  const until = performance.now() + seconds * 1000;
  while (performance.now() < until); // nothing else runs in the page
}

/** Follows the orders to this page; reconnects when the server is away. */
export function follow() {
  const again = async () => {
    await wait(timing.reconnect);
    follow();
  };
  const orders = { show: ({ screen }) => show(screen), rename: rename.order, leak, hang, crash: crash.order };
  listen("control", orders, again);
}
