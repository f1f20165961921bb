// Every chat of the account, as the page shows it. Each change dispatches an event.

import { fillerChats, fillerMessages } from "./filler.js";
import * as model from "./model.js";

/** Returns the id of an outgoing message: 32 characters; those of incoming messages are shorter. */
export const newId = () => crypto.randomUUID().replaceAll("-", "").toUpperCase();

export class Book extends EventTarget {
  constructor() {
    super();
    this.began = Date.now();
    this.chats = new Map();
  }

  /** Loads the chats of the profile. */
  async load() {
    for (const chat of fillerChats(this.began)) this.chats.set(chat.phone, chat);
    for (const chat of await model.chats()) this.chats.set(chat.phone, { ...this.chats.get(chat.phone), ...chat });
    this.incoming = await model.lastIncoming();
  }

  /** Returns a chat, created if it is missing; a chat is not listed until it has a message. */
  chat(phone, title = `+${phone}`) {
    if (!this.chats.has(phone)) this.chats.set(phone, { phone, title });
    return this.chats.get(phone);
  }

  /** Returns the chats that have messages, newest first. */
  listed() {
    return [...this.chats.values()].filter((chat) => chat.at).sort((a, b) => b.at - a.at);
  }

  /** Returns a chat's messages, oldest first. */
  async messages(chat) {
    const earlier = chat.number === undefined ? [] : fillerMessages(chat, this.began);
    return [...earlier, ...(await model.messagesOf(chat.phone))];
  }

  /** Changes a chat and stores the change. */
  async update(chat, change) {
    Object.assign(chat, change);
    this.tell("chat", chat);
    await model.saveChat(stored(chat));
  }

  /** Draws an outgoing message, and then stores it, still at the clock: in the order of the real page. */
  async post(chat, message, drawn) {
    const { id, text, at } = message;
    Object.assign(chat, { id, text, at, mine: true, ack: 0, kind: "text", draft: "" });
    this.tell("message", { chat, message });
    await drawn();
    await model.add(message, stored(chat));
  }

  /**
   * Takes a message that this page did not send: {seq, id, phone, title, text, at, mine?, kind?, quote?}. `mine`: the
   * account's own phone sent it; `seen`: its chat is open.
   */
  async receive({ seq, id, phone, title, text, at, mine = false, kind, quote }, seen) {
    if (seq <= (this.incoming ?? 0)) return;
    this.incoming = seq;
    const chat = this.chat(phone, title);
    const message = { id, phone, text, at, mine, ack: mine ? 1 : null, kind, quote };
    if (mine) message.open = 1;
    const unread = seen || mine ? 0 : (chat.unread ?? 0) + 1;
    Object.assign(chat, { id: message.id, text, at, mine, ack: message.ack, kind, unread });
    await model.addIncoming(message, stored(chat), seq);
    this.tell("message", { chat, message });
  }

  /** Moves an outgoing message to a later status. */
  async advance(id, ack) {
    const message = await model.advance(id, ack);
    if (!message) return;
    const chat = this.chat(message.phone);
    if (chat.id === id) await this.update(chat, { ack });
    this.tell("ack", message);
  }

  tell(name, detail) {
    this.dispatchEvent(new CustomEvent(name, { detail }));
  }
}

/** The fields of a chat that the profile stores. */
const stored = ({ phone, title, own, at, text, mine, ack, id, kind, unread, draft }) => ({
  phone, title, own, at, text, mine, ack, id, kind, unread, draft,
});
