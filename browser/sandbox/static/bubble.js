// One message in a chat, in each generation of the markup.

import { h, svg } from "./dom.js";
import { failMark, generation, icon, legacy, statusIcon, testid } from "./generation.js";
import { RECALLED, STAR, TAIL } from "./icons.js";
import { richText } from "./richtext.js";

const clock = (at) => new Date(at).toLocaleTimeString("en-GB", { hour: "2-digit", minute: "2-digit" });
const date = (at) => new Date(at).toLocaleDateString("en-US");
const small = { size: 16, viewBox: "0 0 16 16" };

/** Returns the jid of a chat, which only the old generation shows. */
const jid = (chat) => `${chat.phone}@${chat.group ? "g.us" : "c.us"}`;

/** Returns an element with text that can be selected; `own` is a second test id, which is put before the usual one. */
function selectable(content, { own = "", extra = "" } = {}) {
  const id = own ? `${own} selectable-text` : "selectable-text";
  const shape = generation === "2026-08" ? "text" : "selectable-text copyable-text";
  return h("span", { dir: "auto", ...testid(id), class: `${shape} ${extra}`.trim() }, content);
}

/** Returns the message that this one answers, drawn within it and before its own text. */
function quote(words) {
  const attributes = { role: "button", "aria-label": "Quoted message", class: "quote", ...testid("quoted-message") };
  return h("div", attributes, selectable(richText(words), { extra: "quoted-mention" }));
}

/** A text message, after the message that it answers. */
function written(message, stamp) {
  return h("div", { class: "copyable-text", "data-pre-plain-text": stamp },
    message.quote && quote(message.quote), selectable(richText(message.text)));
}

/** How each kind of message is drawn; only texts and captions can be selected. */
const BODIES = {
  text: written,
  image: (message) =>
    h("div", {},
      h("div", { class: "picture", role: "button", "aria-label": "Open picture", ...testid("image-thumb") },
        h("img", { alt: message.text, class: "picture-of" })),
      selectable(richText(message.text), { own: "image-caption" })),
  deleted: () =>
    h("div", { class: "odd" }, icon(RECALLED, { name: "recalled", size: 16 }), h("span", {}, "This message was deleted")),
  call: () => h("div", { class: "odd" }, h("span", {}, "Voice call"), h("span", {}, "No answer")),
  event: (message) => h("div", { class: "odd" }, h("strong", {}, message.text), h("span", {}, "Join us")),
  poll: (message) =>
    h("div", { class: "odd", ...testid("poll-bubble") }, h("strong", {}, message.text), h("span", {}, "Select one")),
};

/** The star, the time and the status of a message, in this order. */
function meta(message) {
  const star = message.starred && h("span", { "data-icon": legacy ? "star" : null, "aria-label": " Starred " },
    svg(STAR, { ...small, title: legacy ? null : "wds-ic-star-filled" }));
  return h(
    "div",
    { ...testid("msg-meta"), class: "meta" },
    star,
    h("span", { dir: "auto" }, clock(message.at)),
    message.mine && message.kind !== "deleted" && statusIcon(message.ack, "bubble"),
  );
}

function tail(side) {
  const drawn = svg(TAIL, { size: 13, viewBox: "0 0 8 13", title: legacy ? null : `tail-${side}` });
  const name = { "data-icon": `tail-${side}`, ...testid(`tail-${side}`) };
  return h("span", { ...name, "aria-hidden": "true", class: `tail tail-is-${side}` }, drawn);
}

/** Returns the node that carries a message's id. */
function named(chat, message, content) {
  const id = legacy ? `${message.mine}_${jid(chat)}_${message.id}` : message.id;
  const more = legacy ? {} : testid(`conv-msg-${message.id}`);
  return h("div", { class: "message", tabindex: "-1", "data-id": id, ...more }, content);
}

const line = (kind, content) =>
  h("div", { role: "row", class: `line line-${kind}` }, h("div", { "data-virtualized": "false" }, content));

/** Returns a message's row; `first` says whether it begins a run of messages by one sender, and so has a tail. */
export function bubbleRow(chat, message, { first, self }) {
  if (message.kind === "notice") {
    const words = h("div", { class: "notice-pill", ...testid("msg-notification-container") }, message.text);
    return line("notice", named(chat, message, words));
  }
  const side = message.mine ? "out" : "in";
  const sender = message.mine ? self : chat.title;
  const stamp = `[${clock(message.at)}, ${date(message.at)}] ${sender}: `;
  const body = [
    first && tail(side),
    !legacy && h("span", { "aria-label": message.mine ? "You:" : `${chat.title}:` }),
    BODIES[message.kind ?? "text"](message, stamp),
    meta(message),
  ];
  const shape = `bubble bubble-${side}${first ? " bubble-first" : ""}`;
  const box = h("div", { class: shape, ...testid("msg-container") }, body, fail(message));
  const held = legacy ? h("div", { class: `message-${side} focusable-list-item` }, box) : box;
  return line(side, named(chat, message, held));
}

const fail = (message) => message.ack === -1 && failMark("Something went wrong. Click to learn more.");

/** Redraws the status of a message that is on screen. */
export function redrawMeta(row, message) {
  const old = row.querySelector(".meta");
  if (!old) return; // it is far from the view, and drawn anew when it comes back
  const mark = fail(message);
  if (mark) old.after(mark);
  old.replaceWith(meta(message));
}

/** Returns a row between messages: a date, or a notice. */
export const noticeRow = (words, label = null) =>
  h("div", { role: "row", class: "line line-notice" }, h("div", { class: "notice-pill", "aria-label": label }, words));
