// The main screen: chats on the left, the open chat on the right.

import { newId } from "./book.js";
import { Chat } from "./chat.js";
import { pass } from "./crash.js";
import { notOnWhatsApp, offlineAlert, restriction, restrictionLifted, startingChat } from "./dialogs.js";
import { h, svg } from "./dom.js";
import { harsh, testid } from "./generation.js";
import { LOCK } from "./icons.js";
import { timing, wait } from "./settings.js";
import { Sidebar } from "./sidebar.js";

export class MainScreen {
  constructor(connection, book, outbox, { logOut }) {
    Object.assign(this, { connection, book, outbox, chat: null, restriction: null });
    this.closing = new AbortController();
    const { signal } = this.closing;
    this.sidebar = new Sidebar(book, { open: (chat) => this.openChat(chat.phone), logOut, signal });
    this.place = h("div", { class: "place" }, welcome());
    this.node = h("div", { class: "two", ...testid("wa-web-main-screen") }, this.sidebar.node, this.place);
    book.addEventListener("message", ({ detail }) => this.added(detail), { signal });
    book.addEventListener("ack", ({ detail }) => this.at(detail.phone)?.messages.advance(detail), { signal });
  }

  /** Stops following the book. */
  close() {
    this.chat?.close();
    this.closing.abort();
  }

  /** Shows the account's state: online or not, restricted or not. */
  stand() {
    if (this.connection.online) this.offline?.remove();
    else if (!this.offline?.isConnected) {
      this.offline = offlineAlert(() => location.reload());
      this.sidebar.alerts.prepend(this.offline);
    }
    this.restrict(this.connection.standing.restriction);
    this.chat?.restrict(this.closed(this.chat.chat));
  }

  /** Shows over the list that the account may not start new chats, and that it may again. */
  restrict(kind) {
    if (kind === this.restriction) return;
    this.bar?.remove();
    this.bar = kind && restriction(kind);
    if (this.bar) this.sidebar.alerts.append(this.bar);
    if (!kind && this.restriction === "new_chats") restrictionLifted();
    this.restriction = kind;
  }

  /** Opens a chat from a link: asks whether the number is on WhatsApp, shows that it asks, and fills in the text. */
  async openLink(phone, text) {
    const began = performance.now();
    const until = (moment) => wait(Math.max(0, began + moment - performance.now()));
    let cancelled = false;
    let close = null;
    const asking = setTimeout(() => {
      close = startingChat(() => {
        cancelled = true;
      });
    }, timing.popup_after);
    const answer = await this.ask(phone);
    await until(timing.lookup);
    clearTimeout(asking);
    if (close) await until(timing.popup_after + timing.popup_stay);
    close?.();
    if (cancelled) return;
    if (answer.exists) await this.show(phone, answer, text);
    else notOnWhatsApp(answer.title);
  }

  async openChat(phone) {
    await this.show(phone, await this.ask(phone));
  }

  /** Asks the server about a chat, as soon as there is a connection; some answers make the page hang. */
  async ask(phone) {
    pass("open");
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

  /** Shows a chat; `text` takes the place of its draft. */
  async show(phone, answer, text = null) {
    const chat = this.book.chat(phone, answer.title);
    chat.known = answer.known || chat.number !== undefined;
    chat.own = answer.own;
    if (text) chat.draft = text;
    const messages = await this.book.messages(chat);
    this.chat?.close();
    this.chat = new Chat(chat, messages, {
      self: this.connection.standing.name,
      closed: this.closed(chat),
      send: (words) => this.send(chat, words),
      draft: (words) => this.draft(chat, words),
    });
    this.place.replaceChildren(this.chat.node);
    this.chat.messages.toFirstUnread(chat.unread ?? 0);
    this.chat.focus();
    this.sidebar.select(chat);
    if (chat.unread) await this.book.update(chat, { unread: 0 });
  }

  /** Returns the open chat if it is the one with this phone. */
  at(phone) {
    return this.chat?.chat.phone === phone ? this.chat : null;
  }

  added({ chat, message }) {
    this.at(chat.phone)?.messages.add(message);
    this.at(chat.phone)?.restrict(this.closed(chat));
  }

  /** Returns the restriction that keeps the account from writing in a chat, or null. */
  closed(chat) {
    return chat.known || chat.at ? null : this.connection.standing?.restriction ?? null;
  }

  async draft(chat, text) {
    if (text === (chat.draft ?? "")) return;
    pass("type");
    await this.book.update(chat, { draft: text });
  }

  /** Draws a message, stores it and then sends it (WAWebSendTextMsgChatAction of 2026-08). */
  async send(chat, text) {
    pass("enter");
    const message = { id: newId(), phone: chat.phone, text, at: Date.now(), mine: true, ack: 0, open: 1 };
    await this.book.post(chat, message, async () => {
      pass("drawn");
      if (harsh) await wait(timing.drawn);
    });
    pass("stored");
    await this.outbox.flush();
  }
}

function welcome() {
  return h("div", { class: "welcome" }, h("h1", {}, "WhatsApp Web"),
    h("p", {}, "Send and receive messages without keeping your phone online."),
    h("p", { class: "welcome-lock" }, svg(LOCK, { size: 14 }), "Your personal messages are end-to-end encrypted"));
}
