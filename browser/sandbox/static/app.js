// A logged-in page: chats on the left, the open chat on the right, and what the server says about the account.

import { Book, newId } from "./book.js";
import { Chat } from "./chat.js";
import { Connection } from "./connection.js";
import { confirmLogOut, notOnWhatsApp, offlineAlert, openElsewhere, startingChat, whatsNew } from "./dialogs.js";
import { h, svg } from "./dom.js";
import { clearStorage, testid } from "./generation.js";
import { LOCK } from "./icons.js";
import * as keys from "./keys.js";
import * as model from "./model.js";
import { Outbox } from "./outbox.js";
import * as screens from "./screens.js";
import { Sidebar } from "./sidebar.js";
import { timing, wait } from "./settings.js";

const NEWS_SEEN = "whats-new-loads";

export class App {
  constructor(device) {
    this.device = device;
    this.book = new Book();
    this.main = null;
    this.chat = null;
    this.crashed = false;
  }

  /** Loads the profile and connects; resolves when the server has said how the account stands. */
  async start() {
    await this.book.load();
    this.connection = new Connection(this.device, () => this.book.incoming);
    this.outbox = new Outbox(this.connection, this.book, () => this.crash());
    const on = (name, act) => this.connection.addEventListener(name, ({ detail }) => act(detail));
    on("incoming", (message) => this.receive(message));
    on("ack", ({ id, ack }) => this.book.advance(id, ack));
    on("unlinked", () => this.leave());
    on("conflict", () => this.yield());
    on("lost", () => this.main ? this.stand() : screens.showConnecting());
    this.book.addEventListener("message", ({ detail }) => this.added(detail));
    this.book.addEventListener("ack", ({ detail }) => this.at(detail.phone)?.messages.advance(detail));
    const told = new Promise((resolve) => this.connection.addEventListener("standing", resolve, { once: true }));
    await this.connection.start();
    await told;
    on("standing", () => this.stand());
    this.stand();
  }

  /** Shows how the account stands: banned, online or not, restricted or not. */
  stand() {
    if (this.crashed || this.connection.ended) return;
    const { standing, online } = this.connection;
    if (standing?.banned) {
      this.main = this.chat = null;
      return screens.showBan(standing, () => this.logOut());
    }
    if (!this.main) this.showMain();
    if (online) this.offline?.remove();
    else if (!this.offline?.isConnected) {
      this.offline = offlineAlert(() => this.connection.online || location.reload());
      this.sidebar.alerts.prepend(this.offline);
    }
    this.chat?.allow(!this.closed(this.chat.chat));
    if (online) this.catchUp().catch(() => {}); // lost again: the next connection tries again
  }

  async catchUp() {
    await this.outbox.flush();
    await this.outbox.catchUp();
  }

  showMain() {
    const open = (chat) => this.openChat(chat.phone);
    this.sidebar = new Sidebar(this.book, { open, logOut: () => this.askLogOut() });
    this.place = h("div", { class: "place" }, welcome());
    this.main = h("div", { class: "two", ...testid("wa-web-main-screen") }, this.sidebar.node, this.place);
    screens.show(this.main);
    this.sidebar.draw();
  }

  /** Shows the dialog about what is new: after linking, and on most fresh loads. */
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

  /** Opens a chat from a link: asks whether the number is on WhatsApp, shows that it asks, and fills in the text. */
  async openLink(phone, text) {
    const began = performance.now();
    let cancelled = false;
    let close = null;
    const asking = setTimeout(() => {
      close = startingChat(() => {
        cancelled = true;
      });
    }, timing.popup_after);
    const answer = await this.ask(phone);
    await wait(Math.max(0, timing.lookup - (performance.now() - began)));
    clearTimeout(asking);
    if (close) await wait(Math.max(0, timing.popup_after + timing.popup_stay - (performance.now() - began)));
    close?.();
    if (cancelled) return;
    if (answer.exists) return this.showChat(phone, answer, text);
    notOnWhatsApp(answer.title);
  }

  async openChat(phone) {
    return this.showChat(phone, await this.ask(phone));
  }

  /** Asks the server about a chat, as soon as there is a connection; some numbers block the page then. */
  async ask(phone) {
    for (;;) {
      await this.connection.whenOnline();
      try {
        const answer = await this.connection.post("open", { phone });
        const until = performance.now() + answer.hang * 1000;
        while (performance.now() < until); // the page hangs: nothing else runs in it
        return answer;
      } catch {
        await wait(timing.reconnect);
      }
    }
  }

  async showChat(phone, answer, text = null) {
    if (!this.main || this.crashed || this.connection.standing.banned) return;
    const chat = this.book.chat(phone, answer.title);
    chat.known = answer.known || chat.number !== undefined;
    if (text) chat.draft = text;
    const messages = await this.book.messages(chat);
    this.chat?.close();
    this.chat = new Chat(chat, messages, {
      self: this.connection.standing.name,
      closed: this.closed(chat),
      send: (words) => this.send(chat, words),
      draft: (words) => words !== (chat.draft ?? "") && this.book.update(chat, { draft: words }),
    });
    this.place.replaceChildren(this.chat.node);
    this.chat.messages.toFirstUnread(chat.unread ?? 0);
    this.chat.focus();
    this.sidebar.select(chat);
    if (chat.unread) await this.book.update(chat, { unread: 0 });
  }

  /** Returns the open chat if it is this phone's. */
  at(phone) {
    return this.chat?.chat.phone === phone ? this.chat : null;
  }

  added({ chat, message }) {
    this.at(chat.phone)?.messages.add(message);
    this.at(chat.phone)?.allow(!this.closed(chat));
  }

  /** Whether the account may not write in a chat. */
  closed(chat) {
    return Boolean(this.connection.standing?.restricted && !chat.known && !chat.at);
  }

  async send(chat, text) {
    await this.book.post(chat, { id: newId(), phone: chat.phone, text, at: Date.now(), mine: true, ack: 0, open: 1 });
    await this.outbox.flush();
  }

  receive(message) {
    const seen = this.at(message.phone) !== null && document.visibilityState === "visible";
    this.receiving = (this.receiving ?? Promise.resolve()).then(() => this.book.receive(message, seen));
    return this.receiving;
  }

  crash() {
    this.crashed = true;
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
    await this.connection.post("logout", {}).catch(() => {}); // a device that cannot say so forgets itself all the same
    await this.leave();
  }

  /** Forgets the login and everything else, and shows the QR code again. */
  async leave() {
    this.connection.end();
    await keys.forget();
    await model.forget();
    clearStorage();
    localStorage.setItem("post-logout", "1");
    location.replace("./?post_logout=1");
  }
}

function welcome() {
  return h("div", { class: "welcome" }, h("h1", {}, "WhatsApp Web"),
    h("p", {}, "Send and receive messages without keeping your phone online."),
    h("p", { class: "welcome-lock" }, svg(LOCK, { size: 14 }), "Your personal messages are end-to-end encrypted"));
}
