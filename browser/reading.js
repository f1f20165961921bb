// Reads the page, in one call a question: made once a document with the selectors' alternatives of each element,
// css: {name: [alternatives]}. A reader takes { css, … }, changes nothing (the two that scroll say so) and returns plain
// data; what the data means is decided in Python.
(css) => {
  const shown = (node) => node.checkVisibility({ visibilityProperty: true });

  // The first alternative that matches anything counts; a selector this Chromium cannot parse matches nothing.
  const all = (root, alternatives) => {
    for (const css of alternatives) {
      try {
        const nodes = [...root.querySelectorAll(css)];
        if (nodes.length) return nodes;
      } catch { /* the next one */ }
    }
    return [];
  };
  const one = (root, alternatives) => all(root, alternatives)[0] ?? null;
  // A node itself, or the first one in it.
  const within = (node, alternatives) =>
    all(node.parentElement, alternatives).find((each) => node.contains(each)) ?? null;

  // Text as a person reads it. innerText would drop emoji, which the page draws as pictures; `holes` counts the
  // pictures that have no alternative text.
  const BLOCK = new Set(["DIV", "P", "LI", "UL", "OL", "BLOCKQUOTE", "PRE"]);
  const words = (node) => {
    let holes = 0;
    const read = (at) => {
      if (at.nodeType === Node.TEXT_NODE) return at.data;
      if (at.nodeType !== Node.ELEMENT_NODE) return "";
      if (at.tagName === "BR") return "\n";
      if (at.tagName === "IMG") {
        if (at.alt) return at.alt;
        holes += 1;
        return "";
      }
      const inner = [...at.childNodes].map(read).join("");
      return BLOCK.has(at.tagName) ? `${inner}\n` : inner;
    };
    return { text: node ? read(node) : "", holes };
  };

  // The page's own words: everything that is visible, without chat names, messages and what is being typed. A message
  // that quotes a ban screen must not look like one.
  const ownWords = (root, outside) => {
    const read = (node) => {
      if (outside.has(node) || !shown(node)) return "";
      const inner = [...outside].some((other) => node.contains(other));
      return inner ? [...node.children].map(read).join("\n") : node.innerText ?? "";
    };
    return root ? read(root) : "";
  };

  const label = (node) => node.getAttribute("aria-label") ?? "";

  const dialogs = (css) =>
    all(document, css.dialog)
      .filter((node, _, every) => shown(node) && !every.some((other) => other !== node && other.contains(node)))
      .map((node) => ({
        text: `${label(node)}\n${node.innerText ?? ""}`,
        media: !!node.querySelector('img[src^="blob:"]'),
        buttons: [...node.querySelectorAll('button, [role="button"]')].filter(shown)
          .map((button) => label(button) || button.innerText.trim()),
      }));

  // What is on the screen: which elements are visible, the page's own words and the dialogs.
  const sight = ({ css }) => {
    const outside = new Set(
      ["pane", "panel", "header", "compose", "search"].flatMap((name) => all(document, css[name])));
    const found = Object.keys(css).filter((name) => all(document, css[name]).some(shown));
    const reference = one(document, css.qr_ref)?.getAttribute("data-ref") || null;
    return {
      found, reference,
      overlaid: all(document, css.qr_reload).some(shown),
      text: ownWords(document.body, outside).slice(0, 20000),
      dialogs: dialogs(css),
      path: location.pathname + location.search,
      empty: !document.body?.childElementCount,
    };
  };

  // Which alternative of an element shows now, and which of its nodes.
  const place = ({ alternatives }) => {
    for (const [index, css] of alternatives.entries()) {
      try {
        const nth = [...document.querySelectorAll(css)].findIndex(shown);
        if (nth >= 0) return [index, nth];
      } catch { /* the next one */ }
    }
    return null;
  };

  // Of each element which alternative shows now; which cannot be parsed; how many lines the chat list has. What is part
  // of a message is looked for in the message list: the box to write in has text of the same kind.
  const MESSAGE = new Set(["bubble", "outgoing", "incoming", "box", "text", "meta"]);
  const census = ({ css }) => {
    const broken = [];
    const nodes = (root, each) => {
      try {
        return [...root.querySelectorAll(each)];
      } catch {
        broken.push(each);
        return [];
      }
    };
    const panel = one(document, css.panel) ?? document;
    const places = Object.entries(css).map(([name, alternatives]) => {
      const root = MESSAGE.has(name) ? panel : document;
      return [name, alternatives.map((each) => nodes(root, each).some(shown)).indexOf(true)];
    });
    const lines = (one(document, css.pane)?.innerText ?? "").split("\n").filter((line) => line.trim());
    return { places: Object.fromEntries(places), broken, listed: lines.length };
  };

  // A status icon within a node: its accessible name, its own name, and its colour for telling grey from blue.
  const status = (node) => {
    for (const svg of node.querySelectorAll("svg, [data-icon]")) {
      const named = svg.closest("[aria-label]");
      const title = svg.querySelector("title")?.textContent ?? "";
      const icon = svg.closest("[data-icon]")?.getAttribute("data-icon") ?? title;
      if (!icon && !named) continue;
      return { label: named && node.contains(named) ? label(named) : "", icon, color: getComputedStyle(svg).color };
    }
    const icon = node.getAttribute("data-icon");
    return icon ? { label: label(node), icon, color: getComputedStyle(node).color } : null;
  };

  const identity = (node) =>
    node.getAttribute("data-id") ?? (node.getAttribute("data-testid") ?? "").replace(/^conv-msg-/, "");

  // On which half of the panel a bubble's box lies; English is written from left to right, so ours are on the right.
  const side = (box, panel) => {
    const [inner, outer] = [box.getBoundingClientRect(), panel.getBoundingClientRect()];
    return inner.width && inner.left - outer.left > outer.right - inner.right ? "right" : "left";
  };

  // Every message in the DOM from the oldest to the newest. Containers and ids are nested: one id is one row.
  const rows = ({ css }) => {
    const panel = one(document, css.panel) ?? document.querySelector("#main");
    const seen = new Map();
    for (const node of panel ? css.bubble.flatMap((each) => [...panel.querySelectorAll(each)]) : []) {
      const id = identity(node);
      if (id && !seen.has(id)) seen.set(id, node);
    }
    const ordered = [...seen].sort(([, a], [, b]) =>
      a.compareDocumentPosition(b) & Node.DOCUMENT_POSITION_FOLLOWING ? -1 : 1);
    return ordered.map(([id, node]) => {
      const meta = one(node, css.meta);
      const [box, body] = [one(node, css.box), one(node, css.text)];
      const marks = (alternatives) => alternatives.some((each) => node.matches(each) || node.querySelector(each));
      return {
        id, ...words(body),
        written: !!body, bubble: !!(meta || box || body),
        outgoing: marks(css.outgoing), incoming: marks(css.incoming), side: side(box ?? node, panel),
        status: meta && status(meta),
      };
    });
  };

  // What stands between the messages: dates, notices, and how many of them were unread when the chat was opened.
  const notices = ({ css }) => {
    const panel = one(document, css.panel) ?? document.querySelector("#main");
    return (panel ? all(panel, css.message_row) : [])
      .filter((row) => !css.bubble.some((each) => row.matches(each) || row.querySelector(each)))
      .map((row) => row.textContent.slice(0, 200));
  };

  const chats = ({ css }) => {
    const used = css.chat_row.find((each) => document.querySelector(each));
    return all(document, css.chat_row).map((row, nth) => {
      const title = one(row, css.chat_title);
      const mark = one(row, css.chat_status);
      const unread = one(row, css.chat_unread);
      return {
        css: used, nth, shown: shown(row), status: mark && status(mark),
        unread: unread ? `${unread.textContent} ${label(unread)}` : "", group: !!one(row, css.chat_group),
        own: !!within(row, css.chat_own),
        title: title?.getAttribute("title") || title?.textContent || "",
      };
    }).filter((row) => row.shown);
  };

  // The open chat: what the box and the header call it, what the box holds, and what the page says in it: a notice
  // that stands in the place of the box, for one.
  const chat = ({ css }) => {
    const box = all(document, css.compose).find(shown) ?? null;
    const title = one(document, css.header_title);
    const main = document.querySelector("#main");
    const outside = new Set(["panel", "header", "compose"].flatMap((name) => all(document, css[name])));
    return {
      notice: ownWords(main, outside),
      box: !!box, label: box ? label(box) : "", ...words(box),
      title: title?.getAttribute("title") || title?.textContent || "",
      ids: [...document.querySelectorAll("#main [data-id]")].slice(-3).map(identity),
    };
  };

  // Scrolls the message list to its "end", or back so that its oldest row in the DOM comes to the bottom of the view
  // ("back"), and says where it stands; with neither only says so. `words` is what stands at the very top.
  const scroll = ({ css, to }) => {
    const panel = one(document, css.panel) ?? document.querySelector("#main");
    const oldest = panel && css.bubble.map((each) => panel.querySelector(each)).find(Boolean);
    const scrolls = (node) =>
      node.scrollHeight > node.clientHeight + 1 && /auto|scroll/.test(getComputedStyle(node).overflowY);
    let list = oldest ?? panel;
    while (list && !scrolls(list)) list = list.parentElement;
    if (to === "end" && list) list.scrollTop = list.scrollHeight;
    if (to === "back" && oldest) oldest.scrollIntoView({ block: "end", behavior: "instant" });
    const top = !list || list.scrollTop <= 0;
    return { top, words: top ? ((list ?? panel)?.innerText ?? "").slice(0, 5000) : "" };
  };

  // Scrolls the chat list to its "top", or "on" by less than a view, and says whether that moved it.
  const scrollChats = ({ css, to }) => {
    const pane = one(document, css.pane);
    const scrolls = (node) => /auto|scroll/.test(getComputedStyle(node).overflowY);
    let list = pane;
    while (list && !scrolls(list)) list = list.parentElement;
    const before = list?.scrollTop;
    if (list) list.scrollTop = to === "top" ? 0 : before + list.clientHeight * 0.8;
    return list?.scrollTop !== before;
  };

  const readers = { sight, place, census, rows, notices, chats, chat, scroll, scrollChats };
  // As text there and back: Playwright looks at each value of an object twice, here and in its driver, and that takes
  // more than the answer itself.
  return (question, more) => JSON.stringify(readers[question]({ css, ...JSON.parse(more) }));
}
