// The left side: menu, search, and the chat list, of which only the rows in view are in the DOM.

import { butterbar } from "./dialogs.js";
import { button, h, svg } from "./dom.js";
import { withEmoji } from "./emoji.js";
import { icon, statusIcon, testid } from "./generation.js";
import { CLOSE, GROUP, MENU, PERSON, PICTURE, SEARCH } from "./icons.js";
import { inline } from "./richtext.js";

const ROW = 72; // pixels
const OVERSCAN = 4; // rows kept beyond each edge
const LABEL = "Search or start a new chat";

const digits = (text) => text.replace(/\D/g, "");

/** Wraps a phone number in U+202A and U+202C, as WhatsApp does so that it reads the same in right-to-left text. */
const marked = (title) => (title.startsWith("+") ? `\u202A${title}\u202C` : title);

const clock = (at) => new Date(at).toLocaleTimeString("en-GB", { hour: "2-digit", minute: "2-digit" });

function when(at) {
  const age = Date.now() - at;
  if (new Date(at).toDateString() === new Date().toDateString()) return clock(at);
  return age < 172_800_000 ? "Yesterday" : new Date(at).toLocaleDateString("en-US");
}

export class Sidebar {
  /** `open(chat)` is called for a trusted click on a row, `logOut()` from the menu. `signal` ends the subscriptions. */
  constructor(book, { open, logOut, signal }) {
    Object.assign(this, { book, open, rows: new Map(), query: "" });
    const list = { role: "grid", "aria-label": "Chat list", "data-tab": "4", class: "chat-list" };
    this.grid = h("div", { ...list, ...testid("chat-list") });
    this.pane = h("div", { id: "pane-side", class: "pane-side", onscroll: () => this.draw() }, this.grid);
    this.input = h("input", {
      type: "text", role: "textbox", "aria-label": LABEL, placeholder: LABEL, "data-tab": "3",
      class: "search-input", autocomplete: "off",
      oninput: (event) => event.isTrusted && this.search(this.input.value),
      onkeydown: (event) => event.isTrusted && event.key === "Escape" && this.clear(),
    });
    const clearing = { class: "search-clear", "aria-label": "Clear search", hidden: true };
    this.clearButton = button(clearing, () => this.clear(), svg(CLOSE, { size: 18 }));
    this.alerts = h("div", {}, butterbar());
    this.node = h("div", { id: "side", class: "side" },
      h("header", { class: "side-header", ...testid("chatlist-header") },
        h("h1", {}, "WhatsApp", h("span", { class: "chip" }, "sandbox")), menu(logOut)),
      h("div", { class: "search" },
        icon(SEARCH, { name: "ic-search", old: "search-refreshed", size: 20 }), this.input, this.clearButton),
      this.alerts,
      this.pane);
    new ResizeObserver(() => this.draw()).observe(this.pane);
    for (const change of ["chat", "message"]) book.addEventListener(change, () => this.draw(), { signal });
  }

  /** Marks the chat that is open. */
  select(chat) {
    this.selected = chat;
    this.draw();
  }

  clear() {
    this.input.value = "";
    this.search("");
  }

  search(query) {
    this.query = query.trim().toLowerCase();
    this.clearButton.hidden = query === "";
    // The label disappears when there is text (seen 2026-08).
    if (query) this.input.removeAttribute("aria-label");
    else this.input.setAttribute("aria-label", LABEL);
    this.pane.scrollTop = 0;
    this.draw();
  }

  /** Returns the entries of the list: chats, and in search results also headings, which are strings. */
  entries() {
    const chats = this.book.listed();
    if (!this.query) return chats;
    const number = digits(this.query);
    const numbered = (phone) => number.length > 2 && phone.includes(number);
    const named = chats.filter(({ title, phone }) => title.toLowerCase().includes(this.query) || numbered(phone));
    const said = chats.filter((chat) => !named.includes(chat) && chat.text.toLowerCase().includes(this.query));
    return [...(named.length ? ["Chats", ...named] : []), ...(said.length ? ["Messages", ...said] : [])];
  }

  draw() {
    const entries = this.entries();
    const first = Math.max(0, Math.floor(this.pane.scrollTop / ROW) - OVERSCAN);
    const last = Math.ceil((this.pane.scrollTop + this.pane.clientHeight) / ROW) + OVERSCAN;
    const shown = new Map();
    entries.slice(first, last).forEach((entry, index) => {
      const row = this.row(entry);
      row.node.style.transform = `translateY(${(first + index) * ROW}px)`;
      shown.set(row.key, row);
    });
    this.grid.style.height = `${entries.length * ROW}px`;
    this.grid.setAttribute("aria-rowcount", entries.length);
    for (const [key, row] of this.rows) if (shown.get(key)?.node !== row.node) row.node.remove();
    for (const row of shown.values()) if (!row.node.isConnected) this.grid.append(row.node);
    this.rows = shown;
    this.grid.querySelector(".empty")?.remove();
    if (!entries.length) this.grid.append(h("div", { class: "empty" }, "No chats, contacts or messages found"));
  }

  /** Returns a row: {key, face, node}. The node is kept while its face does not change, so that it can be clicked. */
  row(entry) {
    if (typeof entry === "string") return this.kept(`# ${entry}`, "", () => headingRow(entry));
    const { title, at, text, mine, ack, unread, kind } = entry;
    const selected = entry === this.selected;
    const face = JSON.stringify([title, when(at), text, mine, ack, unread, kind, selected]);
    return this.kept(entry.phone, face, () => chatRow(entry, selected, () => this.open(entry)));
  }

  kept(key, face, make) {
    const old = this.rows.get(key);
    return old?.face === face ? old : { key, face, node: make() };
  }
}

/** Returns the placeholder of a chat without a photo. */
const picture = (group) =>
  group
    ? icon(GROUP, { name: "default-group-refreshed", old: "default-group", size: 30 })
    : icon(PERSON, { name: "default-contact-refreshed", old: "default-user", size: 30 });

const headingRow = (words) =>
  h("div", { role: "row", class: "row row-heading" }, h("div", { role: "gridcell" }, words));

/** Returns the icon in a row for a message that is not a plain text. */
const symbol = (kind) =>
  h("span", testid("chat-msg-symbol"), icon(PICTURE, { name: `ic-${kind}`, old: `status-${kind}`, size: 16 }));

function chatRow({ title, own, at, text, mine, ack, unread, group, kind }, selected, open) {
  const count = unread ? `${unread} unread message${unread > 1 ? "s" : ""}` : null;
  const preview = text.replaceAll("\n", " ");
  const frame = { class: "cell-frame", tabindex: "-1", "aria-selected": String(selected) };
  const time = `cell-time${unread ? " cell-time-unread" : ""}`;
  // The account's own chat is a row without cell-frame-container (seen 2026-07-27).
  const name = own ? "message-yourself-row" : "cell-frame-container";
  return h("div", { role: "row", class: "row" },
    h("div", { ...frame, ...testid(name), onclick: (event) => event.isTrusted && open() },
      h("div", { class: "avatar" }, picture(group)),
      h("div", { role: "gridcell", class: "cell-line" },
        h("div", { class: "cell-title", ...testid("cell-frame-title") },
          count && h("span", { class: "only-heard" }, count),
          h("span", { dir: "auto", title: marked(title) }, withEmoji(marked(title)))),
        h("div", { class: time, ...testid("cell-frame-primary-detail") }, when(at))),
      h("div", { role: "gridcell", class: "cell-line cell-second", ...testid("cell-frame-secondary") },
        h("div", { class: "cell-preview", ...testid("last-msg-status") },
          h("span", { title: preview, class: "cell-preview-title" },
            mine && statusIcon(ack, "list"), kind && kind !== "text" && symbol(kind),
            h("span", { dir: "auto" }, inline(preview)))),
        count && h("span", { class: "badge", "aria-label": count, ...testid("icon-unread-count") }, String(unread)))));
}

function menu(logOut) {
  const toggle = () => {
    list.hidden = !list.hidden;
  };
  const leave = () => {
    toggle();
    logOut();
  };
  const item = { role: "menuitem", "aria-label": "Log out", ...testid("mi-logout") };
  const list = h("div", { role: "menu", class: "menu", hidden: true }, button(item, leave, "Log out"));
  const opener = { class: "icon-button", "aria-label": "Menu", "aria-haspopup": "menu", ...testid("menu-bar-menu") };
  return h("div", { class: "menu-place" }, button(opener, toggle, svg(MENU)), list);
}
