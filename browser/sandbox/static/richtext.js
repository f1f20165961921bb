// How a message's text is drawn: marks of bold, italic, strikethrough and monospace text are applied and no longer in
// innerText, lines become lists and quotes, emoji become pictures, and a long text is folded.

import { button, h } from "./dom.js";
import { withEmoji } from "./emoji.js";
import { legacy } from "./generation.js";

const FOLD = 768; // UTF-16 units that a folded text shows
const MARKED = /(?<![\p{L}\p{N}])(```|[*_~`])(?=\S)(.+?)(?<=\S)\1(?![\p{L}\p{N}])/u;
const TAGS = { "*": "strong", _: "em", "~": "del", "`": "code", "```": "code" };
const BLOCKS = [
  { begins: /^[-*] +(?=\S)/, outer: "ul", inner: "li" },
  { begins: /^\d+\. +(?=\S)/, outer: "ol", inner: "li" },
  { begins: /^> +(?=\S)/, outer: "blockquote", inner: "div" },
];

/** Returns the nodes of one line. */
export function inline(line) {
  const match = MARKED.exec(line);
  if (!match) return withEmoji(line);
  const [whole, mark, words] = match;
  const content = TAGS[mark] === "code" ? withEmoji(words) : inline(words);
  return [
    ...withEmoji(line.slice(0, match.index)),
    h(TAGS[mark], { "data-app-text-template": `${mark}\${appText}${mark}` }, content),
    ...inline(line.slice(match.index + whole.length)),
  ];
}

/** Returns the first number of a numbered list. */
const startOf = (mark) => (/^\d/.test(mark) ? parseInt(mark, 10) : null);

/** Returns the nodes of a text of many lines; consecutive lines of a list become one list. */
function lines(text) {
  const nodes = [];
  let open = null;
  for (const line of text.split("\n")) {
    const block = BLOCKS.find(({ begins }) => begins.test(line));
    if (block) {
      const [mark] = block.begins.exec(line);
      if (open?.block !== block) nodes.push((open = { block, node: h(block.outer, { start: startOf(mark) }) }).node);
      // The newer page keeps the mark, which is not in the text, for copying (its list and quote mutators, 2026-08).
      const copied = legacy ? {} : { "data-pre-plain-text": `${mark.trim()} ` };
      open.node.append(h(block.inner, copied, inline(line.slice(mark.length))));
    } else {
      if (nodes.length && !open) nodes.push("\n");
      nodes.push(...inline(line));
      open = null;
    }
  }
  return nodes;
}

/** Returns the element that shows a text, folded behind "Read more" when it is long. */
export function richText(text) {
  const root = h("span");
  if (text.length <= FOLD) {
    root.append(...lines(text));
    return root;
  }
  const end = FOLD - (text.codePointAt(FOLD - 1) > 0xffff ? 1 : 0); // no emoji is cut in two
  const more = button({ class: "link read-more-button" }, () => root.replaceChildren(...lines(text)), "Read more");
  root.append(...lines(`${text.slice(0, end)}…`), " ", more);
  return root;
}
