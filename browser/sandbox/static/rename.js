// Renames elements of the page by order, as WhatsApp does in a release: the names that a driver knows disappear, and
// nothing else changes. The sandbox's own code still finds the elements, except #app and the start-up block.

const NAMES = [
  "aria-label", "data-icon", "data-id", "data-lexical-editor", "data-pre-plain-text", "data-ref", "data-tab",
  "data-testid", "id", "role", "title",
];
const BEGINNING = "renamed-";

let wanted = "";

/** Renames an element, once; in an svg, the text of the title is the icon's name. */
function rename(node) {
  if (node.tagName === "title" && !node.textContent.startsWith(BEGINNING)) node.textContent = BEGINNING + node.textContent;
  for (const name of NAMES) {
    const value = node.getAttribute(name);
    if (value && !value.startsWith(BEGINNING)) node.setAttribute(name, BEGINNING + value);
  }
}

function renameAll() {
  if (wanted) document.querySelectorAll(wanted).forEach(rename);
}

/** Renames all elements that match the selector, also those that appear later; an empty one ends it with a reload. */
export function order({ css }) {
  if (css === wanted) return;
  if (!css) return location.reload();
  wanted = css;
  renameAll();
}

/** Applies the order that the page was loaded with. */
export function begin() {
  new MutationObserver(renameAll).observe(document, { attributes: true, childList: true, subtree: true });
  order({ css: document.documentElement.dataset.renamed });
}
