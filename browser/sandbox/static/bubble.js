// One message in a chat, in either generation of the markup.

import { h, svg } from "./dom.js";
import { legacy, statusIcon, testid } from "./generation.js";
import { TAIL } from "./icons.js";
import { richText } from "./richtext.js";

const clock = (at) => new Date(at).toLocaleTimeString("en-GB", { hour: "2-digit", minute: "2-digit" });
const date = (at) => new Date(at).toLocaleDateString("en-US");

/** Returns the jid of a chat, which only the old generation shows. */
const jid = (chat) => `${chat.phone}@${chat.group ? "g.us" : "c.us"}`;

function text(message) {
  const drawn = richText(message.text);
  if (legacy) return h("span", { dir: "auto", class: "selectable-text copyable-text" }, drawn);
  return h("span", { dir: "auto", "data-testid": "selectable-text", class: "text" }, drawn);
}

function meta(message) {
  return h(
    "div",
    { ...testid("msg-meta"), class: "meta" },
    h("span", { dir: "auto" }, clock(message.at)),
    message.mine && statusIcon(message.ack, "bubble"),
  );
}

function tail(side) {
  const drawn = svg(TAIL, { size: 13, viewBox: "0 0 8 13", title: legacy ? null : `tail-${side}` });
  const name = legacy ? { "data-icon": `tail-${side}` } : { "data-testid": `tail-${side}` };
  return h("span", { ...name, "aria-hidden": "true", class: `tail tail-is-${side}` }, drawn);
}

/** Returns a message's row; `first` says whether it begins a run of one sender's, which is when it has a tail. */
export function bubbleRow(chat, message, { first, self }) {
  const side = message.mine ? "out" : "in";
  const sender = message.mine ? self : chat.title;
  const stamp = `[${clock(message.at)}, ${date(message.at)}] ${sender}: `;
  const body = [
    first && tail(side),
    !legacy && h("span", { "aria-label": message.mine ? "You:" : `${chat.title}:` }),
    h("div", { class: "copyable-text", "data-pre-plain-text": stamp }, text(message)),
    meta(message),
  ];
  const shape = `bubble bubble-${side}${first ? " bubble-first" : ""}`;
  const node = legacy
    ? h(
        "div",
        { class: "message", tabindex: "-1", "data-id": `${message.mine}_${jid(chat)}_${message.id}` },
        h("div", { class: `message-${side} focusable-list-item` }, h("div", { class: shape }, body)),
      )
    : h(
        "div",
        { class: "message", tabindex: "-1", "data-id": message.id, "data-testid": `conv-msg-${message.id}` },
        h("div", { class: shape, "data-testid": "msg-container" }, body),
      );
  return h("div", { role: "row", class: `line line-${side}` }, h("div", { "data-virtualized": "false" }, node));
}

/** Redraws the state of a message that is on screen. */
export const redrawMeta = (row, message) => row.querySelector(".meta").replaceWith(meta(message));

/** Returns a row between messages: a date, or a notice. */
export const noticeRow = (words, label = null) =>
  h("div", { role: "row", class: "line line-notice" }, h("div", { class: "notice-pill", "aria-label": label }, words));
