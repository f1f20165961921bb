// The messages of the open chat. Only a window of them is in the DOM; scrolling moves it.

import { bubbleRow, noticeRow, redrawMeta } from "./bubble.js";
import { h } from "./dom.js";
import { harsh, testid } from "./generation.js";

const LONGEST = 60; // rows in the DOM
const STEP = 20; // rows that a scroll adds
const EDGE = 120; // pixels from an edge at which a scroll adds them
const MARGIN = 600; // pixels around the view, beyond which a row of a harsh page loses its content and keeps its id

const PRIVATE =
  "Messages and calls are end-to-end encrypted. Only people in this chat can read, listen to, or share them.";
const DISAPPEARING =
  "You use a default timer for disappearing messages in new chats. New messages will disappear from this chat " +
  "90 days after they're sent, except when kept.";

const day = (at) =>
  new Date(at).toDateString() === new Date().toDateString() ? "Today" : new Date(at).toLocaleDateString("en-US");

export class Messages {
  constructor(chat, all, self) {
    Object.assign(this, { chat, all, self, rows: new Map() });
    this.end = all.length;
    this.start = Math.max(0, this.end - LONGEST);
    this.list = h("div", { role: "application", "aria-label": `Messages with ${chat.title}`, class: "messages-list" });
    const attributes = { ...testid("conversation-panel-messages"), class: "messages", tabindex: "0", "data-tab": "8" };
    this.node = h("div", { ...attributes, onscroll: () => this.scrolled() }, this.list);
    this.atEnd = false;
    this.hidden = () => this.draw();
    document.addEventListener("visibilitychange", this.hidden);
    // The box below grows with its text; a list that was at its end stays there.
    this.resized = new ResizeObserver(() => this.atEnd && this.toEnd());
    this.resized.observe(this.node);
    this.draw();
  }

  /** Scrolls to the first unread message, or to the end when all have been read. */
  toFirstUnread(unread) {
    this.toEnd();
    if (!unread) return;
    const first = Math.max(0, this.all.length - unread);
    if (first < this.start) this.slide(first);
    this.divider = { before: this.all[first].id, row: noticeRow(`${unread} unread message${unread > 1 ? "s" : ""}`) };
    this.draw();
    this.divider.row.scrollIntoView({ block: "start" });
    this.scrolled();
  }

  /** Scrolls to the newest message, after bringing it back into the DOM. */
  toEnd() {
    this.end = this.all.length;
    this.start = Math.max(0, this.end - LONGEST);
    this.draw();
    this.node.scrollTop = this.node.scrollHeight;
    this.atEnd = true;
    this.unmount();
  }

  add(message) {
    this.all.push(message);
    if (message.mine || this.atEnd) this.toEnd();
  }

  /** Shows a message's new status. */
  advance({ id, ack }) {
    const message = this.all.find((one) => one.id === id);
    if (!message) return;
    message.ack = ack;
    const row = this.rows.get(id);
    if (row) redrawMeta(row.querySelector("[data-id]").kept?.[0] ?? row, message);
  }

  close() {
    document.removeEventListener("visibilitychange", this.hidden);
    this.resized.disconnect();
  }

  /** Empties the rows far from the view, and fills those that come near: as CometVirtualization does (2026-08). */
  unmount() {
    if (!harsh) return;
    const [top, bottom] = [this.node.scrollTop - MARGIN, this.node.scrollTop + this.node.clientHeight + MARGIN];
    for (const row of this.rows.values()) {
      const held = row.querySelector("[data-id]");
      const far = row.offsetTop + row.offsetHeight < top || row.offsetTop > bottom;
      if (far && held.firstChild) {
        held.style.height = `${held.offsetHeight}px`;
        held.kept = [...held.childNodes];
        held.replaceChildren();
      } else if (!far && held.kept) {
        held.replaceChildren(...held.kept);
        held.kept = null;
        held.style.height = "";
      }
    }
  }

  scrolled() {
    this.unmount();
    const { scrollTop, scrollHeight, clientHeight } = this.node;
    const below = scrollHeight - scrollTop - clientHeight;
    this.atEnd = this.end === this.all.length && below < EDGE;
    if (scrollTop < EDGE && this.start > 0) this.slide(this.start - STEP);
    else if (below < EDGE && this.end < this.all.length) this.slide(this.start + STEP);
  }

  /** Moves the window; the rows that stay in it keep their place on the screen. */
  slide(start) {
    const stays = this.rows.get(this.all[start < this.start ? this.start : this.end - 1].id);
    const before = stays.offsetTop;
    this.start = Math.max(0, Math.min(start, this.all.length - LONGEST));
    this.end = Math.min(this.all.length, this.start + LONGEST);
    this.draw();
    this.node.scrollTop += stays.offsetTop - before;
  }

  draw() {
    // A hidden tab renders only the last message (seen on the live page 2026-09-24).
    const from = document.visibilityState === "hidden" ? Math.max(this.start, this.end - 1) : this.start;
    const rows = from === 0 ? [noticeRow(PRIVATE), noticeRow(DISAPPEARING, DISAPPEARING)] : [];
    const shown = new Map();
    for (let index = from; index < this.end; index += 1) {
      const [message, previous] = [this.all[index], this.all[index - 1]];
      if (!previous || day(previous.at) !== day(message.at)) rows.push(noticeRow(day(message.at)));
      if (this.divider?.before === message.id) rows.push(this.divider.row);
      const row = this.rows.get(message.id) ?? this.row(message, previous);
      shown.set(message.id, row);
      rows.push(row);
    }
    this.rows = shown;
    this.list.replaceChildren(...rows);
  }

  row(message, previous) {
    const first = !previous || previous.mine !== message.mine || day(previous.at) !== day(message.at);
    return bubbleRow(this.chat, message, { first, self: this.self });
  }
}
