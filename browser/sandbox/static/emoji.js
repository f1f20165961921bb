// Emoji are pictures: WhatsApp Web draws each as an <img> whose alt is the emoji, so that innerText has none of them.

const EMOJI = /\p{RGI_Emoji}/gv;
const SIZE = 40; // pixels of the picture, shown at half that

const pictures = new Map();

function draw(paint) {
  const canvas = Object.assign(document.createElement("canvas"), { width: SIZE, height: SIZE });
  paint(canvas.getContext("2d"));
  return canvas.toDataURL();
}

const written = (text) =>
  draw((brush) => {
    brush.font = `${SIZE * 0.78}px "Noto Color Emoji", "Apple Color Emoji", sans-serif`;
    brush.textAlign = "center";
    brush.textBaseline = "middle";
    brush.fillText(text, SIZE / 2, SIZE * 0.55);
  });

/** A disc with a face, for emoji that the machine's fonts lack: they are drawn like a character that does not exist. */
const face = () =>
  draw((brush) => {
    const disc = (x, y, radius, colour) => {
      brush.beginPath();
      brush.arc(x * SIZE, y * SIZE, radius * SIZE, 0, 2 * Math.PI);
      brush.fillStyle = colour;
      brush.fill();
    };
    disc(0.5, 0.5, 0.45, "#ffcc4d");
    disc(0.35, 0.42, 0.06, "#664500");
    disc(0.65, 0.42, 0.06, "#664500");
    brush.beginPath();
    brush.arc(SIZE / 2, SIZE / 2, SIZE * 0.25, 0.15 * Math.PI, 0.85 * Math.PI);
    brush.lineWidth = SIZE * 0.06;
    brush.strokeStyle = "#664500";
    brush.stroke();
  });

function picture(emoji) {
  if (!pictures.has(emoji)) {
    const drawn = written(emoji);
    const missing = [...emoji].length === 1 && drawn === written("\u{10FFFF}");
    pictures.set(emoji, missing ? face() : drawn);
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
