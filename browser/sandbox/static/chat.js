// The open chat: header, messages, and the compose box or the notice in its place.

import { Compose } from "./compose.js";
import { covered, restriction } from "./dialogs.js";
import { button, h, svg } from "./dom.js";
import { icon, testid } from "./generation.js";
import { interrupt, Preview } from "./harsh.js";
import { GROUP, MIC, PERSON, PLUS, SEND, SMILE } from "./icons.js";
import { Messages } from "./messages.js";

/** The members of every group. */
const MEMBERS = ["Ann", "Bob", "+1 555-010-4711", "You"];

export class Chat {
  /**
   * `send(text)` is called for Enter and for the button, `draft(text)` when the text changes; `closed` is the
   * restriction that keeps the chat closed, or null.
   */
  constructor(chat, messages, { self, closed, send, draft }) {
    Object.assign(this, { chat, send, draft });
    this.messages = new Messages(chat, messages, self);
    this.preview = new Preview();
    this.footer = h("footer", { class: "chat-footer" });
    this.node = h("div", { id: "main", class: "chat", ...testid("conversation-panel-wrapper") },
      h("header", {
        class: "chat-header", "data-tab": "6", ...testid("conversation-header"),
        onclick: (event) => event.isTrusted && this.showContact(),
      },
        h("div", { class: "avatar" }, svg(chat.group ? GROUP : PERSON, { size: 26 })),
        h("div", testid("conversation-info-header"), heading(chat))),
      this.messages.node,
      this.preview.place,
      this.footer);
    this.restrict(closed);
  }

  /** Shows the number of the contact, or the members of the group. */
  showContact() {
    if (this.contact?.isConnected) return;
    const { group, phone, title } = this.chat;
    const close = button({ class: "icon-button", "aria-label": "Close" }, () => this.contact.remove(), "×");
    this.contact = h("div", { class: "contact", ...testid("drawer-right") },
      h("header", {}, close, h("span", {}, group ? "Group info" : "Contact info")),
      h("h2", {}, title),
      ...(group ? [`Group · ${MEMBERS.length} members`, ...MEMBERS] : [`+${phone}`]).map((line) => h("div", {}, line)));
    this.node.append(this.contact);
  }

  /** Shows the compose box, or the notice of a restriction in its place. */
  restrict(closed) {
    if (this.closed === closed) return;
    this.closed = closed;
    this.footer.replaceChildren(...(closed ? [restriction(closed)] : this.writing()));
  }

  /** Puts the caret into the box, unless a dialog covers the page. */
  focus() {
    if (!this.closed && !covered()) this.compose.focus();
  }

  writing() {
    const end = h("span", { class: "chat-end" });
    const group = this.chat.group ? "group " : "";
    const write = () => this.compose.submit();
    this.compose = new Compose({
      label: `Type a message to ${group}${this.chat.title}`,
      attributes: testid("conversation-compose-box-input"),
      text: this.chat.draft ?? "",
      changed: (text) => {
        drawEnd(end, text !== "", write);
        this.preview.follow(text);
        if (text) interrupt();
        this.draft(text);
      },
      entered: this.send,
    });
    const attach = { class: "icon-button", "data-tab": "10", "aria-label": "Attach", "aria-haspopup": "menu" };
    const emoji = { class: "icon-button", "data-tab": "10", "aria-label": "Emojis, GIFs, Stickers" };
    return [
      button(attach, () => {}, icon(PLUS, { name: "plus-rounded" })),
      button(emoji, () => {}, icon(SMILE, { name: "wds-ic-sticker-smiley", old: "smiley" })),
      h("div", { class: "lexical-rich-text-input" }, this.compose.node),
      end,
    ];
  }

  close() {
    this.compose?.close();
    this.messages.close();
  }
}

/**
 * Returns the name of the chat. A group's name has no title attribute; the line below it, with the members, has one
 * (its header module of 2026-08).
 */
function heading(chat) {
  const name = { dir: "auto", title: chat.group ? null : chat.title };
  const below = chat.group
    ? h("span", { title: MEMBERS.join(", ") }, MEMBERS.join(", "))
    : chat.own && "Message yourself";
  return [
    h("div", { class: "chat-title", ...testid("conversation-info-header-chat-title") }, h("span", name, chat.title)),
    below && h("div", { class: "chat-subtitle", ...testid("chat-subtitle") }, below),
  ];
}

/** Draws the send button, or the microphone in its place while there is no text. */
function drawEnd(end, text, send) {
  const name = text ? "Send" : "Voice message";
  if (end.firstChild?.getAttribute("aria-label") === name) return;
  const shown = text ? icon(SEND, { name: "wds-ic-send-filled" }) : icon(MIC, { name: "mic-outlined", old: "ptt" });
  const attributes = { class: "icon-button", "data-tab": "11", "aria-label": name, ...testid(text && "compose-btn-send") };
  end.replaceChildren(button(attributes, text ? send : () => {}, shown));
}
