// Starts the page.

import { App } from "./app.js";
import { openElsewhere } from "./dialogs.js";
import * as keys from "./keys.js";
import { link } from "./link.js";
import * as mutex from "./mutex.js";
import * as rename from "./rename.js";
import * as screens from "./screens.js";
import * as shows from "./shows.js";

/** Returns the target of a deep link: {phone, text}, or null. */
function deepLink() {
  const query = new URLSearchParams(location.search);
  const phone = query.get("phone");
  if (!location.pathname.endsWith("/send") || !/^\d{1,20}$/.test(phone ?? "")) return null;
  return { phone, text: query.get("text") };
}

/** Shows that WhatsApp is open in another page of this profile; this page may take over. */
function openInAnotherWindow() {
  screens.show();
  openElsewhere("in another window", { other: "Close", leave: () => {}, use: () => start({ steal: true }) });
}

async function start(how = {}) {
  let app = null;
  const lost = () => {
    app?.connection.end();
    openInAnotherWindow();
  };
  if (!(await mutex.acquire(lost, how))) return openInAnotherWindow();
  let device = await keys.load();
  const fresh = !device;
  if (fresh) {
    const { device: id, secret } = await link();
    await keys.keep(id, secret);
    device = await keys.load();
    await screens.runSyncing();
  }
  app = new App(device);
  await app.start();
  const { phone, name } = app.connection.standing;
  localStorage.setItem("last-wid-md", JSON.stringify(`${phone}:1@c.us`));
  localStorage.setItem("me-display-name", JSON.stringify(name));
  localStorage.removeItem("post-logout");
  const asked = deepLink();
  // The link is used up: a reload shows the chats.
  history.replaceState(null, "", "./");
  if (app.main) void app.showNews({ fresh });
  if (asked && app.main) await app.main.openLink(asked.phone, asked.text);
}

rename.begin();
shows.follow();
if (!shows.begin()) {
  await screens.runStartup();
  await start();
}
