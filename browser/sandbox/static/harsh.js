// The rarer behaviour of real pages: the box rewrites what is typed, suggestions and a late dialog intercept Enter,
// "Enter is send" is switched off. `?harsh=1` turns it on.

import { whatsNew } from "./dialogs.js";
import { button, h } from "./dom.js";
import { harsh, testid } from "./generation.js";
import { timing, wait } from "./settings.js";

const FACES = { ":)": "🙂", ":-)": "🙂", ":D": "😃", ":(": "🙁", ";)": "😉", "<3": "❤️" };
const FACE = /(^|\s)(:-?\)|:D|:\(|;\)|<3)$/;
const ITEM = /^(?:([-*>]) |(\d+)\. )(.*)$/;
const NAMES = { ":": ["😀", "🎉"], "@": ["@Ann ", "@Meta AI "] };
const LOADS = "harsh-loads";

/** Returns the text that the box makes of one that ends in the input `added`; `how` is the event's inputType. */
export function rewritten(text, added, how) {
  if (!harsh) return text;
  if (added === "\n" && how !== "insertFromPaste") return continued(text);
  if (how !== "insertText" || added.length !== 1) return text;
  return text.replace(FACE, (_, before, face) => before + FACES[face]);
}

/** A line break in a list begins the next item; in an empty item it ends the list. */
function continued(text) {
  const lines = text.split("\n");
  const last = ITEM.exec(lines.at(-2));
  if (!last) return text;
  const [, sign, number, words] = last;
  if (!words) return [...lines.slice(0, -2), ""].join("\n");
  return text + (sign ? `${sign} ` : `${Number(number) + 1}. `);
}

/** Returns the list or the quote that the box draws for a line that begins like one, else null. */
export function drawnLine(line, draw) {
  const item = ITEM.exec(line);
  if (!item) return null;
  const [, sign, number, words] = item;
  if (sign === ">") return h("blockquote", {}, h("div", {}, draw(words)));
  return h(sign ? "ul" : "ol", { start: number }, h("li", {}, draw(words)));
}

/** Whether Enter sends on this load; if not, it breaks the line, and only the button sends. */
export const enterSends = (() => {
  if (!harsh) return true;
  const loads = Number(localStorage.getItem(LOADS) ?? 0);
  localStorage.setItem(LOADS, loads + 1);
  return loads % 3 !== 2;
})();

/** The list of suggestions over the box, for a word that begins with ":" or "@". */
export class Suggestions {
  /** `take(word, chosen)` is called to replace the word by the chosen suggestion. */
  constructor(take) {
    this.take = take;
    this.node = null;
  }

  /** Follows the text of the box. */
  follow(text) {
    this.close();
    const word = harsh && /(?:^|\s)([:@])\w+$/.exec(text);
    if (!word) return;
    this.word = word[0].trim();
    const [first, second] = NAMES[word[1]];
    this.first = first;
    const bucket = document.getElementById("wa-popovers-bucket")
      ?? document.body.appendChild(h("div", { id: "wa-popovers-bucket" }));
    this.node = h("div", { role: "listbox", class: "suggestions" },
      h("div", { role: "option", "aria-selected": "true" }, first), h("div", { role: "option" }, second));
    bucket.append(this.node);
  }

  /** Handles a key; returns whether the list used it. */
  pressed(key) {
    if (!this.node || (key !== "Enter" && key !== "Escape")) return false;
    this.close();
    if (key === "Enter") this.take(this.word, this.first);
    return true;
  }

  close() {
    this.node?.remove();
    this.node = null;
  }
}

let interrupted = false;

/** Shows the dialog "What's new", once per load, a moment after the first input. */
export async function interrupt() {
  if (!harsh || interrupted) return;
  interrupted = true;
  await wait(timing.late_news);
  await whatsNew();
}

const LINK = /https?:\/\/([\w.-]+)/;

/** The preview of a link in the box, above it. */
export class Preview {
  constructor() {
    this.place = h("div", {});
    this.host = null;
  }

  /** Follows the text of the box. */
  async follow(text) {
    const host = harsh ? LINK.exec(text)?.[1] : null;
    if (host === this.host) return;
    this.host = host;
    if (!host) return this.place.replaceChildren();
    await wait(timing.late_news);
    if (this.host !== host) return;
    const close = button({ class: "icon-button", "aria-label": "Close" }, () => this.place.replaceChildren(), "×");
    const attributes = { class: "preview", ...testid("compose-box-link-preview") };
    this.place.replaceChildren(h("div", attributes, h("strong", {}, host), h("span", {}, "What this page is about"), close));
  }
}
