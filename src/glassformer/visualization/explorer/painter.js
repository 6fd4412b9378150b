// Views draw through a painter: one for the screen and PNG, one that writes SVG. What is exported is what is seen.

export const FONT =
  'system-ui, "Segoe UI", Roboto, "Noto Sans", "DejaVu Sans", "Noto Color Emoji", sans-serif';
const MEASURED_AT_MOST = 20000;

const STRIPE = 6; // pixels from one stripe of hatching to the next
const STRIPES = "M-1 7L7 -1M-1 1L1 -1M5 7L7 5";

/** Bytes in base64, as data: addresses have them. */
export function base64(bytes) {
  let binary = "";
  for (let i = 0; i < bytes.length; i += 8192) binary += String.fromCharCode(...bytes.subarray(i, i + 8192));
  return btoa(binary);
}

const ruler = new OffscreenCanvas(1, 1).getContext("2d");
const widths = new Map();

/** Width of a text in pixels. */
export function measured(text, size, weight = 400) {
  const key = `${size} ${weight} ${text}`;
  if (!widths.has(key)) {
    if (widths.size > MEASURED_AT_MOST) widths.clear();
    ruler.font = `${weight} ${size}px ${FONT}`;
    widths.set(key, ruler.measureText(text).width);
  }
  return widths.get(key);
}

export class CanvasPainter {
  constructor(context, ratio) {
    Object.assign(this, { context, ratio });
  }

  rect(x, y, width, height, fill, { stroke, lineWidth = 1, radius = 0, alpha = 1 } = {}) {
    const { context } = this;
    context.globalAlpha = alpha;
    context.beginPath();
    if (radius) context.roundRect(x, y, width, height, radius);
    else context.rect(x, y, width, height);
    if (fill) [(context.fillStyle = fill), context.fill()];
    if (stroke) [(context.strokeStyle = stroke), (context.lineWidth = lineWidth), context.stroke()];
    context.globalAlpha = 1;
  }

  line(x1, y1, x2, y2, colour, width = 1) {
    const { context } = this;
    context.beginPath();
    context.moveTo(x1, y1);
    context.lineTo(x2, y2);
    Object.assign(context, { strokeStyle: colour, lineWidth: width });
    context.stroke();
  }

  /** A line that leaves and arrives level. */
  curve(x1, y1, x2, y2, colour, width, alpha) {
    const { context } = this;
    const bend = (x2 - x1) * 0.45;
    context.beginPath();
    context.moveTo(x1, y1);
    context.bezierCurveTo(x1 + bend, y1, x2 - bend, y2, x2, y2);
    Object.assign(context, { strokeStyle: colour, lineWidth: width, globalAlpha: alpha });
    context.stroke();
    context.globalAlpha = 1;
  }

  text(text, x, y, { size = 12, align = "left", weight = 400, colour, turned = false, middle = true } = {}) {
    const { context } = this;
    context.font = `${weight} ${size}px ${FONT}`;
    Object.assign(context, { textAlign: align, fillStyle: colour, direction: "ltr" });
    context.textBaseline = middle ? "middle" : "alphabetic";
    if (!turned) return context.fillText(text, x, y);
    context.save();
    context.translate(x, y);
    context.rotate(-Math.PI / 2);
    context.fillText(text, 0, 0);
    context.restore();
  }

  /** A picture whose pixels stay sharp. */
  image(canvas, x, y, width, height) {
    this.context.imageSmoothingEnabled = false;
    this.context.drawImage(canvas, x, y, width, height);
  }

  /** Where a mask hides everything: stripes, which no weight has. */
  hatch(x, y, width, height, palette) {
    this.rect(x, y, width, height, palette.masked);
    this.striped ??= this.stripes(palette);
    this.rect(x, y, width, height, this.striped);
  }

  stripes({ hatch }) {
    const tile = new OffscreenCanvas(STRIPE, STRIPE);
    const context = tile.getContext("2d");
    Object.assign(context, { strokeStyle: hatch, lineWidth: 1 });
    context.stroke(new Path2D(STRIPES));
    return this.context.createPattern(tile, "repeat");
  }

  clip(x, y, width, height, draw) {
    this.context.save();
    this.context.beginPath();
    this.context.rect(x, y, width, height);
    this.context.clip();
    draw();
    this.context.restore();
  }
}

const FORBIDDEN = /[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\u{10000}-\u{10ffff}]/gu; // XML knows no other characters
const escaped = (text) =>
  String(text)
    .replace(FORBIDDEN, "\ufffd")
    .replace(/[&<>"]/g, (sign) => `&#${sign.charCodeAt(0)};`);
const short = (number) => Number(number.toFixed(2));

export class SvgPainter {
  constructor(width, height, title = "") {
    Object.assign(this, { width, height, title, parts: [], clips: 0, ratio: 2 });
  }

  rect(x, y, width, height, fill, { stroke, lineWidth = 1, radius = 0, alpha = 1 } = {}) {
    const edge = stroke ? ` stroke="${escaped(stroke)}" stroke-width="${lineWidth}"` : "";
    const round = radius ? ` rx="${radius}"` : "";
    this.parts.push(
      `<rect x="${short(x)}" y="${short(y)}" width="${short(width)}" height="${short(height)}"` +
        ` fill="${escaped(fill ?? "none")}"${edge}${round}${alpha < 1 ? ` opacity="${short(alpha)}"` : ""}/>`,
    );
  }

  line(x1, y1, x2, y2, colour, width = 1) {
    this.path(`M${short(x1)} ${short(y1)}L${short(x2)} ${short(y2)}`, colour, width, 1);
  }

  curve(x1, y1, x2, y2, colour, width, alpha) {
    const bend = (x2 - x1) * 0.45;
    const points = [x1 + bend, y1, x2 - bend, y2, x2, y2].map(short).join(" ");
    this.path(`M${short(x1)} ${short(y1)}C${points}`, colour, width, alpha);
  }

  path(d, colour, width, alpha) {
    const paint = `stroke="${escaped(colour)}" stroke-width="${short(width)}"`;
    this.parts.push(`<path d="${d}" fill="none" ${paint}${alpha < 1 ? ` opacity="${short(alpha)}"` : ""}/>`);
  }

  text(text, x, y, { size = 12, align = "left", weight = 400, colour, turned = false, middle = true } = {}) {
    const anchor = { left: "start", center: "middle", right: "end" }[align];
    const turn = turned ? ` transform="rotate(-90 ${short(x)} ${short(y)})"` : "";
    this.parts.push(
      `<text x="${short(x)}" y="${short(y)}" font-size="${size}" font-weight="${weight}" text-anchor="${anchor}"` +
        `${middle ? ' dominant-baseline="central"' : ""} fill="${escaped(colour)}"${turn}>${escaped(text)}</text>`,
    );
  }

  image(canvas, x, y, width, height) {
    const place = [x, y, width, height].map(short);
    this.parts.push({ canvas, place });
  }

  hatch(x, y, width, height, palette) {
    const name = `hatch${this.clips++}`;
    this.parts.push(
      `<pattern id="${name}" width="${STRIPE}" height="${STRIPE}" patternUnits="userSpaceOnUse">` +
        `<rect width="${STRIPE}" height="${STRIPE}" fill="${escaped(palette.masked)}"/>` +
        `<path d="${STRIPES}" stroke="${escaped(palette.hatch)}"/></pattern>`,
    );
    this.rect(x, y, width, height, `url(#${name})`);
  }

  clip(x, y, width, height, draw) {
    const name = `clip${this.clips++}`;
    const place = `x="${short(x)}" y="${short(y)}" width="${short(width)}" height="${short(height)}"`;
    this.parts.push(`<clipPath id="${name}"><rect ${place}/></clipPath><g clip-path="url(#${name})">`);
    draw();
    this.parts.push("</g>");
  }

  async finished() {
    const parts = await Promise.all(this.parts.map((part) => (part.canvas ? embedded(part) : part)));
    return (
      `<svg xmlns="http://www.w3.org/2000/svg" width="${short(this.width)}" height="${short(this.height)}" ` +
      `viewBox="0 0 ${short(this.width)} ${short(this.height)}" font-family="${escaped(FONT)}" ` +
      `role="img" xml:space="preserve">\n<title>${escaped(this.title)}</title>\n${parts.join("\n")}\n</svg>\n`
    );
  }
}

async function embedded({ canvas, place: [x, y, width, height] }) {
  const copy = new OffscreenCanvas(canvas.width, canvas.height);
  copy.getContext("2d").drawImage(canvas, 0, 0);
  const bytes = new Uint8Array(await (await copy.convertToBlob({ type: "image/png" })).arrayBuffer());
  return (
    `<image x="${x}" y="${y}" width="${width}" height="${height}" preserveAspectRatio="none" ` +
    `image-rendering="pixelated" href="data:image/png;base64,${base64(bytes)}"/>`
  );
}
