// A logged-in page: its profile, its connection, and the screen for the account's state.

import { Book } from "./book.js";
import { Connection } from "./connection.js";
import { onCrash, pass } from "./crash.js";
import { confirmLogOut, openElsewhere, whatsNew } from "./dialogs.js";
import { clearStorage } from "./generation.js";
import * as keys from "./keys.js";
import { MainScreen } from "./mainscreen.js";
import * as model from "./model.js";
import { Outbox } from "./outbox.js";
import * as screens from "./screens.js";
import { timing, wait } from "./settings.js";

const NEWS_SEEN = "whats-new-loads";

export class App {
  constructor(device) {
    this.book = new Book();
    this.connection = new Connection(device, () => this.book.incoming);
    this.outbox = new Outbox(this.connection, this.book, () => this.crash());
    onCrash(() => this.crash());
    this.main = null;
    this.receiving = Promise.resolve();
  }

  /** Loads the profile and connects; resolves when the server has sent the account's state. */
  async start() {
    await this.book.load();
    const on = (name, act) => this.connection.addEventListener(name, ({ detail }) => act(detail));
    on("incoming", (message) => this.receive(message));
    on("ack", async ({ id, ack }) => {
      await this.book.advance(id, ack);
      pass("ticked");
    });
    on("unlinked", (how) => this.leave(how?.reason));
    on("conflict", () => this.yield());
    on("lost", () => (this.main ? this.stand() : screens.showConnecting()));
    const told = new Promise((resolve) => on("standing", () => resolve(this.stand())));
    await this.connection.start();
    await told;
  }

  /** Shows the account's state. */
  stand() {
    if (this.connection.ended) return;
    const { standing, online } = this.connection;
    if (standing.banned) {
      this.main?.close();
      this.main = null;
      const where = `people who don't have +${standing.phone} in their address books.`;
      screens.showBan(`you sent too many messages to ${where}`, standing.banSeconds, () => this.logOut());
      return;
    }
    if (!this.main) {
      this.main = new MainScreen(this.connection, this.book, this.outbox, { logOut: () => this.askLogOut() });
      screens.show(this.main.node);
    }
    this.main.stand();
    if (online) this.catchUp().catch(() => {}); // the connection is lost again: the next one retries
  }

  async catchUp() {
    await this.outbox.flush();
    await this.outbox.catchUp();
  }

  /** Shows the dialog "What's new": after linking, and on most loads. */
  async showNews({ fresh }) {
    const loads = Number(localStorage.getItem(NEWS_SEEN) ?? 0);
    localStorage.setItem(NEWS_SEEN, loads + 1);
    if (loads % 4 === 3) return;
    await wait(timing.whats_new);
    // A new device that leaves it open is logged out after some minutes (seen 2026-07-29).
    const impatient = fresh && setTimeout(() => this.logOut(), timing.unacknowledged);
    await whatsNew();
    clearTimeout(impatient);
  }

  /** Handles incoming messages one after the other. */
  receive(message) {
    this.receiving = this.receiving.then(() => {
      const seen = this.main?.at(message.phone) && document.visibilityState === "visible";
      return this.book.receive(message, Boolean(seen));
    });
  }

  crash() {
    this.connection.end();
    screens.showCrash();
  }

  /** Another page of this device has connected: this one gives way. */
  yield() {
    const leave = () => this.logOut();
    openElsewhere("on another computer or browser", { other: "Log out", leave, use: () => location.reload() });
  }

  askLogOut() {
    confirmLogOut(() => this.logOut());
  }

  async logOut() {
    await this.connection.post("logout", {}).catch(() => {}); // without a connection, the login is deleted here only
    await this.leave();
  }

  /** Deletes the login and everything else, and shows the QR code again, with the reason. */
  async leave(reason = "post_logout") {
    this.connection.end();
    screens.showLoggingOut();
    await keys.forget();
    await model.forget();
    clearStorage();
    localStorage.setItem("post-logout", "1");
    location.replace(`./?post_logout=1${reason === "post_logout" ? "" : `&logout_reason=${reason}`}`);
  }
}
