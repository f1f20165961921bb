// Emoji are pictures: WhatsApp Web draws each as an <img> whose alt is the emoji, so that innerText has none of them.

const EMOJI = /\p{RGI_Emoji}/gv;
const SIZE = 40; // pixels of the picture, shown at half that

const pictures = new Map();

function picture(emoji) {
  if (!pictures.has(emoji)) {
    const canvas = Object.assign(document.createElement("canvas"), { width: SIZE, height: SIZE });
    const brush = canvas.getContext("2d");
    brush.font = `${SIZE * 0.78}px "Noto Color Emoji", "Apple Color Emoji", sans-serif`;
    brush.textAlign = "center";
    brush.textBaseline = "middle";
    brush.fillText(emoji, SIZE / 2, SIZE * 0.55);
    pictures.set(emoji, canvas.toDataURL());
  }
  return pictures.get(emoji);
}

/** Returns the nodes that show a text: strings and pictures. */
export function withEmoji(text) {
  const nodes = [];
  let end = 0;
  for (const match of text.matchAll(EMOJI)) {
    nodes.push(text.slice(end, match.index));
    const image = document.createElement("img");
    Object.assign(image, { className: "emoji", alt: match[0], src: picture(match[0]), draggable: false });
    image.dataset.plainText = match[0];
    nodes.push(image);
    end = match.index + match[0].length;
  }
  nodes.push(text.slice(end));
  return nodes.filter((node) => node !== "");
}
