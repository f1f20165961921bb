// How a message's text is drawn: marks of bold, italic, struck and typewriter text become what they mean and are not
// in innerText any more, lines become lists and quotes, emoji become pictures, and a long text is folded up.

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

/** Returns the number that a list of numbers begins with. */
const startOf = (mark) => (/^\d/.test(mark) ? parseInt(mark, 10) : null);

/** Returns the nodes of a text of many lines; lines that follow each other in one list are one list. */
function lines(text) {
  const nodes = [];
  let open = null;
  for (const line of text.split("\n")) {
    const block = BLOCKS.find(({ begins }) => begins.test(line));
    if (block) {
      const [mark] = block.begins.exec(line);
      if (open?.block !== block) nodes.push((open = { block, node: h(block.outer, { start: startOf(mark) }) }).node);
      // What the newer page would copy of a line that is not in its text (its list and quote mutators, 2026-08).
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

/** Returns the element that shows a text, folded up behind "Read more" when it is long. */
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
