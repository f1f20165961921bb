// The messages and chats that this browser profile stores, and no others: a linked device does not get its own sent
// messages from the server, so an older copy of the profile does not show newer ones.

import { Database } from "./database.js";

const database = new Database("model-storage", (db) => {
  const messages = db.createObjectStore("message", { keyPath: "n", autoIncrement: true });
  messages.createIndex("id", "id", { unique: true });
  messages.createIndex("phone", "phone");
  messages.createIndex("open", "open");
  db.createObjectStore("chat", { keyPath: "phone" });
  db.createObjectStore("meta");
});

/** Messages: {n, id, phone, text, mine, at, ack, open?}; `open` is 1 while ticks are still to come. */
export const messagesOf = (phone) =>
  database.read("message", (messages) => messages.index("phone").getAll(phone));

/** Returns outgoing messages whose last tick is still to come, oldest first. */
export const openMessages = () => database.read("message", (messages) => messages.index("open").getAll(1));

/** Chats: {phone, title, own, at, text, mine, ack, id, unread, draft}; all but the first two may be missing. */
export const chats = () => database.read("chat", (all) => all.getAll());

/** Stores a chat, for example with a new draft; the change may be lost when the machine crashes. */
export const saveChat = (chat) => database.write(["chat"], (all) => void all.put(chat), "relaxed");

/** Returns the number of the last incoming message, or undefined. */
export const lastIncoming = () => database.read("meta", (meta) => meta.get("incoming"));

/** Adds a message, and stores its chat; resolves when both are on the disk. */
export const add = (message, chat) =>
  database.write(["message", "chat"], (messages, all) => {
    messages.add(message);
    all.put(chat);
  });

/** Adds an incoming message, and stores its chat and its number. */
export const addIncoming = (message, chat, seq) =>
  database.write(["message", "chat", "meta"], (messages, all, meta) => {
    messages.add(message);
    all.put(chat);
    meta.put(seq, "incoming");
  });

/** Moves a message to a later status; returns it, or undefined when it is unknown or has that status already. */
export const advance = (id, ack) =>
  database.write(["message"], async (messages, asked) => {
    const message = await asked(messages.index("id").get(id));
    if (!message || !message.mine || (ack >= 0 && message.ack >= ack)) return undefined;
    message.ack = ack;
    if (ack === 3 || ack < 0) delete message.open;
    messages.put(message);
    return message;
  });

export const forget = () => database.delete();
