// Copies the page's HTML, and veils the page for a screenshot, to mend selectors with. Structure, test ids, icons and
// the page's own words stay; people's texts, names and numbers are removed. The document is not changed: the veil is a
// constructed style sheet and a highlight, which no content security policy blocks.
// Takes { hidden, open, within, codes, linking: lists of CSS; known: labels that may stay; version; cap: characters }.
(asked) => {
  const MANY = 40; // pieces of text: no screen without chats has more
  const DROPPED = new Set(["script", "style", "noscript", "template", "link", "meta"]);
  const VOID = new Set(["area", "br", "col", "embed", "hr", "img", "input", "source", "track", "wbr"]);
  const DRAWN = new Set(["d", "points", "transform", "srcset", "nonce", "integrity"]);
  const WORDS = new Set(["title", "aria-label", "alt", "placeholder", "aria-description", "aria-valuetext"]);
  const LINKS = new Set(["src", "href", "action", "poster"]);
  const KEPT = new RegExp("^(class|id|role|type|dir|lang|tabindex|hidden|disabled|checked|name|width|height|viewBox|" +
    "contenteditable|spellcheck|draggable|autocomplete|fill|data-(testid|icon|id|tab|lexical-editor|virtualized|animate-[a-z-]+)|" +
    "aria-(hidden|expanded|selected|checked|disabled|live|modal|busy|haspopup|multiline|readonly|level|pressed|" +
    "current|orientation|required|autocomplete|(row|col)(count|index|span)|value(now|min|max)))$");
  // A phone number as people write it, or a pairing code, which may be split into single characters.
  const NUMBER = /\+?\d[\d\s().\-\u2010-\u2015\u200e-\u202e\u2066-\u2069]{4,}\d|\b[A-Z0-9]{4}[-\s]?[A-Z0-9]{4}\b|^\s*[A-Za-z0-9]\s*$/g;

  // The alternatives as one selector, without those that this Chromium cannot parse.
  const any = (list) => list.filter((css) => {
    try {
      document.createDocumentFragment().querySelector(css);
      return true;
    } catch {
      return false;
    }
  }).join(", ") || ":not(*)";
  const [hidden, open, within, codes] = [asked.hidden, asked.open, asked.within, asked.codes].map(any);

  const pieces = () => {
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    let count = 0;
    while (walker.nextNode()) {
      const { data, parentElement } = walker.currentNode;
      if (data.trim() && !DROPPED.has(parentElement.localName)) count += 1;
    }
    return count;
  };
  // While chats are shown, only dialogs and bars have the page's own words. An unknown screen with much text may be
  // chats in a new markup.
  const chats = !!document.querySelector(within) || (!document.querySelector(any(asked.linking)) && pieces() > MANY);

  const known = new Set(asked.known);
  const numbers = []; // ranges of the numbers in the text that stays
  const crossed = (text) => text.replace(/\S/gu, "x");
  const unnumbered = (text) => text.replace(NUMBER, crossed);
  const kept = (text, stays) => (stays ? unnumbered(text) : crossed(text));

  const told = (node, stays) => {
    const text = node.data;
    // The title of an svg is its icon's name.
    if (node.parentElement?.localName === "title" && /^[\w-]+$/.test(text)) return text;
    for (const found of stays ? text.matchAll(NUMBER) : []) {
      const range = new Range();
      range.setStart(node, found.index);
      range.setEnd(node, found.index + found[0].length);
      numbers.push(range);
    }
    return kept(text, stays);
  };

  const linked = (value, stays) => {
    try {
      const { protocol, origin, pathname } = new URL(value, location.href);
      return stays && protocol.startsWith("http") ? unnumbered(origin + pathname) : protocol;
    } catch {
      return "";
    }
  };

  const attribute = ({ name, value }, stays) => {
    if (KEPT.test(name)) return value.replace(/\d{6,}/g, crossed);
    if (WORDS.has(name)) return known.has(value.trim().toLowerCase()) ? value : kept(value, stays);
    if (LINKS.has(name)) return linked(value, stays);
    if (name === "style") return value.replace(/url\([^)]*\)|"[^"]*"|'[^']*'/g, "none");
    return crossed(value).slice(0, 40);
  };

  const escaped = (text) => text.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/"/g, "&quot;");
  const out = [];
  let room = asked.cap;
  const put = (text) => {
    room -= text.length;
    out.push(text);
  };

  const HIDDEN = 0, GROUND = 1, OPEN = 2; // text in GROUND is hidden as well, except in dialogs and bars, which are OPEN
  const write = (node, above) => {
    if (room < 0) return;
    if (node.nodeType === Node.TEXT_NODE) put(escaped(told(node, above === OPEN)));
    if (node.nodeType !== Node.ELEMENT_NODE || DROPPED.has(node.localName)) return;
    let here = above;
    if (node.matches(hidden)) here = HIDDEN;
    else if (above === GROUND && node.matches(open)) here = OPEN;
    const attributes = [...node.attributes].filter(({ name }) => !DRAWN.has(name) && !name.startsWith("on"));
    put(`<${node.localName}${attributes.map((each) => ` ${each.name}="${escaped(attribute(each, here === OPEN))}"`).join("")}>`);
    if (VOID.has(node.localName)) return;
    for (const child of [...(node.shadowRoot?.childNodes ?? []), ...node.childNodes]) write(child, here);
    out.push(`</${node.localName}>`);
    if (room < 0 && node === document.body) out.push("<!-- cut off here: the page is longer -->");
  };
  put(`<!-- ${location.pathname}, selectors ${asked.version} -->\n`);
  write(document.body, chats ? GROUND : OPEN);

  // Important declarations of an earlier layer win over all others of the page, however specific. Icons keep their
  // colour: only text becomes transparent. A screen without chats is veiled as soon as chats appear on it.
  const text = "-webkit-text-fill-color: transparent !important; -webkit-text-stroke: 0 !important; " +
    "text-shadow: none !important; text-decoration-color: transparent !important; " +
    "transition: none !important; animation: none !important;";
  const pictures = "visibility: hidden !important;";
  const veiled = (where) => `
    :is(${where}), :is(${where})::before, :is(${where})::after, :is(${where})::placeholder, :is(${where})::selection
      { ${text} background-image: none !important; }
    :is(${where}):is(img, video, image, iframe, object, embed) { ${pictures} }`;
  const root = chats ? "body" : `body:has(:is(${within}))`;
  const sheet = new CSSStyleSheet();
  sheet.replaceSync(`
    @layer postrider-hidden, postrider-ground;
    canvas, :is(${codes}) :is(canvas, img, svg, video) { ${pictures} }
    ::highlight(postrider-numbers) { background-color: #8696a0; color: transparent; -webkit-text-fill-color: transparent; }
    @layer postrider-hidden { ${veiled(`:is(${hidden}), :is(${hidden}) *`)} }
    @layer postrider-ground {
      ${root} :is(img, video, image, iframe, object, embed) { ${pictures} }
      ${root} :is(${open}) { -webkit-text-fill-color: currentcolor !important; }
      ${veiled(`${root}, ${root} *:not(:is(${open}), :is(${open}) *)`)}
    }`);
  document.adoptedStyleSheets.push(sheet);
  CSS.highlights.set("postrider-numbers", new Highlight(...numbers));
  return {
    html: out.join(""),
    unveil: () => {
      document.adoptedStyleSheets = document.adoptedStyleSheets.filter((each) => each !== sheet);
      CSS.highlights.delete("postrider-numbers");
    },
  };
}
