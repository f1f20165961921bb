// The compose box. It keeps its own text, as Lexical does, and draws it: only trusted input, from a person or the
// debugger, changes it, and anything else that is written into its DOM is overwritten.

import { h } from "./dom.js";
import { withEmoji } from "./emoji.js";
import { harsh } from "./generation.js";
import { drawnLine, enterSends, rewritten, Suggestions } from "./harsh.js";

const LONGEST = 65_536; // UTF-16 units

const clean = (text) => text.replaceAll("\r\n", "\n").replaceAll("\r", "\n").replaceAll("\0", "");

export class Compose {
  /** `changed(text)` is called after every change, `entered(text)` when Enter is pressed with text in the box. */
  constructor({ label, attributes, text, changed, entered }) {
    Object.assign(this, { text: "", changed, entered });
    this.paragraph = h("p", { class: "selectable-text copyable-text", dir: "auto" });
    this.node = h(
      "div",
      {
        ...attributes,
        class: "compose-box",
        contenteditable: "true",
        role: "textbox",
        spellcheck: "true",
        tabindex: "10",
        "aria-label": label,
        "aria-placeholder": "Type a message",
        "data-tab": "10",
        "data-lexical-editor": "true",
        onbeforeinput: (event) => this.edit(event),
        oninput: (event) => event.isTrusted && this.composed(),
        onkeydown: (event) => this.pressed(event),
      },
      this.paragraph,
    );
    this.observer = new MutationObserver(() => this.draw());
    this.suggestions = new Suggestions((word, chosen) => {
      const kept = this.text.slice(0, this.text.length - word.length) + chosen;
      this.set(kept, kept.length);
    });
    this.set(text.slice(0, LONGEST), text.length);
  }

  /** Replaces the text and puts the caret. */
  set(text, caret) {
    this.text = text;
    this.caret = caret;
    this.draw();
    this.suggestions.follow(text);
    this.changed(text);
  }

  pressed(event) {
    if (!event.isTrusted || event.isComposing) return;
    if (event.shiftKey || event.ctrlKey || event.altKey || event.metaKey) return;
    if (this.suggestions.pressed(event.key)) {
      event.preventDefault();
      return;
    }
    if (event.key !== "Enter" || !enterSends) return;
    event.preventDefault();
    this.submit();
  }

  /** Sends what is in the box, without the white space around it; blank text is not sent. */
  submit() {
    const text = this.text.trim();
    if (!text) return;
    this.set("", 0);
    this.entered(text);
  }

  close() {
    this.suggestions.close();
  }

  edit(event) {
    // Composing by an input method cannot be prevented; its result is read back at the `input` event.
    if (event.inputType === "insertCompositionText") return;
    event.preventDefault();
    if (!event.isTrusted) return;
    const [start, end] = this.range(event.getTargetRanges()[0]);
    const kept = this.text.length - (end - start);
    let added = clean(inserted(event)).slice(0, LONGEST - kept);
    // What the real page does with line breaks that come without a key is unknown: a harsh page drops them.
    if (harsh && event.inputType === "insertText") added = added.replaceAll("\n", "");
    const before = rewritten(this.text.slice(0, start) + added, added, event.inputType);
    this.set(before + this.text.slice(end), before.length);
  }

  composed() {
    const text = clean(read(this.node)).slice(0, LONGEST);
    const [caret] = this.range(getSelection().rangeCount ? getSelection().getRangeAt(0) : null);
    this.observer.takeRecords();
    this.text = text;
    this.caret = caret;
    this.changed(text);
  }

  /** Returns start and end of a DOM range as offsets in the text; without a range, its end. */
  range(range) {
    if (!range) return [this.text.length, this.text.length];
    if (harsh) return this.loosely(range);
    return [
      offset(this.node, range.startContainer, range.startOffset),
      offset(this.node, range.endContainer, range.endOffset),
    ].map((at) => Math.min(at, this.text.length));
  }

  /** Approximates a range in a box with lists and pictures: all of the text, its last character, or its end. */
  loosely({ startContainer, startOffset, endContainer, endOffset }) {
    const [all, meant] = [document.createRange(), document.createRange()];
    all.selectNodeContents(this.node);
    meant.setStart(startContainer, startOffset);
    meant.setEnd(endContainer, endOffset);
    const end = this.text.length;
    if (meant.collapsed) return [end, end];
    return meant.toString().length >= all.toString().length ? [0, end] : [end - 1, end];
  }

  /** Draws the text into the DOM, one span a line, and puts the caret where it was. */
  draw() {
    this.observer.disconnect();
    const nodes = [];
    const written = (line) =>
      h("span", { class: "selectable-text copyable-text", "data-lexical-text": "true" }, harsh ? withEmoji(line) : line);
    let open = false; // whether the line before still has to be ended
    for (const [number, line] of this.text.split("\n").entries()) {
      const item = harsh && drawnLine(line, written);
      const empty = !item && !line && number > 0 && !open;
      if (open && !item) nodes.push(h("br"));
      if (item || line) nodes.push(item || written(line));
      else if (empty) nodes.push(h("br")); // below a list, which ends its own line
      open = !item && !empty;
    }
    // An empty last line needs one more <br> to be visible, and an empty box needs one to have a caret.
    if (!this.text || (this.text.endsWith("\n") && open)) nodes.push(h("br", { "data-filler": "true" }));
    this.paragraph.replaceChildren(...nodes);
    const alone = this.node.childNodes.length === 1 && this.node.firstChild === this.paragraph;
    if (!alone) this.node.replaceChildren(this.paragraph);
    this.observer.observe(this.node, { childList: true, characterData: true, subtree: true });
    if (document.activeElement === this.node) this.place();
  }

  /** Puts the caret where it was. */
  place() {
    if (harsh) getSelection().selectAllChildren(this.node), getSelection().collapseToEnd();
    else getSelection().collapse(...point(this.paragraph, this.caret));
  }

  focus() {
    this.node.focus();
    this.place();
  }
}

function inserted(event) {
  if (event.inputType === "insertParagraph" || event.inputType === "insertLineBreak") return "\n";
  if (!event.inputType.startsWith("insert")) return "";
  return event.data ?? event.dataTransfer?.getData("text/plain") ?? "";
}

const length = (node) => {
  if (node.nodeType === Node.TEXT_NODE) return node.data.length;
  if (node.nodeName === "BR") return node.dataset.filler ? 0 : 1;
  if (node.nodeName === "IMG") return node.alt.length;
  return [...node.childNodes].reduce((sum, child) => sum + length(child), 0);
};

function read(node) {
  if (node.nodeType === Node.TEXT_NODE) return node.data;
  if (node.nodeName === "BR") return node.dataset.filler ? "" : "\n";
  if (node.nodeName === "IMG") return node.alt;
  return [...node.childNodes].map(read).join("");
}

/** Returns the length of the text before a point of the DOM. */
function offset(root, container, at) {
  let before = 0;
  if (container.nodeType === Node.TEXT_NODE) before = at;
  else for (const child of [...container.childNodes].slice(0, at)) before += length(child);
  for (let node = container; node !== root && node; node = node.parentNode) {
    for (let left = node.previousSibling; left; left = left.previousSibling) before += length(left);
  }
  return before;
}

/** Returns the point of the DOM after so many characters of text. */
function point(paragraph, caret) {
  let before = 0;
  for (const [index, child] of [...paragraph.childNodes].entries()) {
    const size = length(child);
    if (child.nodeName === "SPAN" && caret <= before + size) return [child.firstChild, caret - before];
    if (child.nodeName === "BR" && caret <= before) return [paragraph, index];
    before += size;
  }
  return [paragraph, paragraph.childNodes.length];
}
