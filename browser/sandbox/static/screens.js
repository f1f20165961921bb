// Screens that fill the page.

import { button, h } from "./dom.js";
import { harsh } from "./generation.js";
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

let held = false;

/** Fills the page with what `draw` shows, and ignores all screens and dialogs after it. */
export function hold(draw) {
  held = false;
  for (const layer of document.querySelectorAll(".backdrop")) layer.remove();
  draw();
  held = true;
}

/** Shows a layer over the page. */
export function lay(layer) {
  if (!held) document.body.append(layer);
}

/** Shows the start-up shell, with a bar that does not move. */
export function showStartup() {
  document.getElementById("app")?.remove();
  document.body.prepend(startup);
}

/** Replaces the content of the page, or the start-up shell. */
export function show(...nodes) {
  const app = h("div", { id: "app" }, nodes);
  if (held) return app;
  startup.remove();
  const old = document.getElementById("app");
  if (old) old.replaceWith(app);
  else document.body.append(app);
  return app;
}

/** Shows how much of the chats has been loaded after linking; returns a function that updates it. */
export function showSyncing(percent) {
  const progress = h("progress", { max: "100", dir: "ltr" });
  const text = h("div", { class: "sync-text" });
  const note = h("p", {}, "Don't close this window. Your messages are downloading.");
  const logo = h("div", { class: "startup-logo" });
  show(h("div", {}, h("div", { class: "sync" }, logo, h("div", { class: "sync-bar" }, progress), text, note)));
  const advance = (to) => {
    progress.value = to;
    text.textContent = to < 100 ? `Loading your chats [${to}%]` : "Organizing messages";
  };
  advance(percent);
  return advance;
}

/** Shows the loading of chats after linking; it takes long on a harsh page. */
export async function runSyncing() {
  const advance = showSyncing(0);
  for (let percent = 0; percent <= 100; percent += 5) {
    advance(percent);
    await wait((harsh ? timing.long_syncing : timing.syncing) / 21);
  }
}

/** Shows that the page is forgetting its login. */
export function showLoggingOut() {
  show(h("div", { class: "notice" }, h("h1", {}, "Logging out"), h("p", {}, "Do not close this window")));
}

function duration(seconds) {
  const two = (number) => String(Math.floor(number)).padStart(2, "0");
  return `${two(seconds / 3600)}:${two((seconds / 60) % 60)}:${two(seconds % 60)}`;
}

/** Shows that the account is banned for so many seconds. */
export function showBan(reason, seconds, logOut) {
  show(
    h("div", { class: "notice" },
      h("h1", {}, `You're temporarily banned from WhatsApp because ${reason}`),
      h("p", {}, `You'll be able to use WhatsApp again in ${duration(seconds)}`),
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

/** Shows that there is no connection; the page retries all the time. */
export function showConnecting() {
  show(
    h("div", { class: "notice" },
      h("h1", {}, "Connecting to WhatsApp"),
      h("p", {}, "Make sure your computer has an active internet connection.")),
  );
}
