// Screens that take the whole page.

import { button, h } from "./dom.js";
import { timing, wait } from "./settings.js";

const startup = document.getElementById("wa_web_initial_startup");

/** Runs the start-up shell's progress bar to its end. */
export async function runStartup() {
  const progress = startup.querySelector("progress");
  for (const value of [0, 35, 70, 100]) {
    progress.value = value;
    await wait(timing.startup / 4);
  }
}

/** Replaces whatever fills the page; the start-up shell goes when `#app` comes. */
export function show(...nodes) {
  startup.remove();
  const app = h("div", { id: "app" }, nodes);
  const old = document.getElementById("app");
  if (old) old.replaceWith(app);
  else document.body.append(app);
  return app;
}

/** Shows the loading of chats after linking. */
export async function runSyncing() {
  const progress = h("progress", { value: "0", max: "100", dir: "ltr" });
  const text = h("div", { class: "sync-text" });
  const note = h("p", {}, "Don't close this window. Your messages are downloading.");
  const logo = h("div", { class: "startup-logo" });
  show(h("div", {}, h("div", { class: "sync" }, logo, h("div", { class: "sync-bar" }, progress), text, note)));
  for (const percent of [0, 20, 40, 60, 80, 100]) {
    progress.value = percent;
    text.textContent = percent < 100 ? `Loading your chats [${percent}%]` : "Organizing messages";
    await wait(timing.syncing / 6);
  }
}

function duration(seconds) {
  const two = (number) => String(Math.floor(number)).padStart(2, "0");
  return `${two(seconds / 3600)}:${two((seconds / 60) % 60)}:${two(seconds % 60)}`;
}

/** Shows that the account is banned for a while. */
export function showBan(standing, logOut) {
  const reason =
    "You're temporarily banned from WhatsApp because you sent too many messages to people who don't have " +
    `+${standing.phone} in their address books.`;
  show(
    h("div", { class: "notice" },
      h("h1", {}, reason),
      h("p", {}, `You'll be able to use WhatsApp again in ${duration(standing.banSeconds)}`),
      h("div", { class: "notice-buttons" },
        button({ class: "button button-plain" }, logOut, "Log out"),
        button({ class: "button" }, () => {}, "Learn more"))),
  );
}

/** Shows that the page has failed. */
export function showCrash() {
  show(
    h("div", { class: "notice" },
      h("h1", {}, "Unexpected error occurred."),
      h("div", { class: "notice-buttons" }, button({ class: "button" }, () => location.reload(), "Reload"))),
  );
}

/** Shows that there is no connection; it is tried again all the time. */
export function showConnecting() {
  show(
    h("div", { class: "notice" },
      h("h1", {}, "Connecting to WhatsApp"),
      h("p", {}, "Make sure your computer has an active internet connection.")),
  );
}
