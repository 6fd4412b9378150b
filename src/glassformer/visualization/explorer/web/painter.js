// The drawing surface of all views, with two implementations: canvas, for the screen and PNG, and SVG.

export const FONT =
  'system-ui, "Segoe UI", Roboto, "Noto Sans", "DejaVu Sans", "Noto Color Emoji", sans-serif';
const MAX_CACHED_WIDTHS = 20000;

const STRIPE = 6; // pixels between two stripes
const STRIPES = "M-1 7L7 -1M-1 1L1 -1M5 7L7 5";

/** Bytes in base 64. */
export function base64(bytes) {
  let binary = "";
  for (let i = 0; i < bytes.length; i += 8192) binary += String.fromCharCode(...bytes.subarray(i, i + 8192));
  return btoa(binary);
}

const ruler = new OffscreenCanvas(1, 1).getContext("2d");
const widths = new Map();

/** Width of a text in pixels. */
export function textWidth(text, size, weight = 400) {
  const key = `${size} ${weight} ${text}`;
  if (!widths.has(key)) {
    if (widths.size > MAX_CACHED_WIDTHS) widths.clear();
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

  line(x1, y1, x2, y2, color, width = 1) {
    const { context } = this;
    context.beginPath();
    context.moveTo(x1, y1);
    context.lineTo(x2, y2);
    Object.assign(context, { strokeStyle: color, lineWidth: width });
    context.stroke();
  }

  /** A curve that is horizontal at both ends. */
  curve(x1, y1, x2, y2, color, width, alpha) {
    const { context } = this;
    const bend = (x2 - x1) * 0.45;
    context.beginPath();
    context.moveTo(x1, y1);
    context.bezierCurveTo(x1 + bend, y1, x2 - bend, y2, x2, y2);
    Object.assign(context, { strokeStyle: color, lineWidth: width, globalAlpha: alpha });
    context.stroke();
    context.globalAlpha = 1;
  }

  text(text, x, y, { size = 12, align = "left", weight = 400, color, vertical = false, middle = true } = {}) {
    const { context } = this;
    context.font = `${weight} ${size}px ${FONT}`;
    Object.assign(context, { textAlign: align, fillStyle: color, direction: "ltr" });
    context.textBaseline = middle ? "middle" : "alphabetic";
    if (!vertical) return context.fillText(text, x, y);
    context.save();
    context.translate(x, y);
    context.rotate(-Math.PI / 2);
    context.fillText(text, 0, 0);
    context.restore();
  }

  /** A bitmap, scaled without smoothing. */
  image(canvas, x, y, width, height) {
    this.context.imageSmoothingEnabled = false;
    this.context.drawImage(canvas, x, y, width, height);
  }

  /** Stripes, which mark masked cells. */
  hatch(x, y, width, height, palette) {
    this.rect(x, y, width, height, palette.masked);
    this.pattern ??= this.stripes(palette);
    this.rect(x, y, width, height, this.pattern);
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

const FORBIDDEN = /[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\u{10000}-\u{10ffff}]/gu; // characters that XML does not allow
const escapeXml = (text) =>
  String(text)
    .replace(FORBIDDEN, "\ufffd")
    .replace(/[&<>"]/g, (sign) => `&#${sign.charCodeAt(0)};`);
const rounded = (number) => Number(number.toFixed(2));

export class SvgPainter {
  constructor(width, height, title = "") {
    Object.assign(this, { width, height, title, parts: [], clips: 0, ratio: 2 });
  }

  rect(x, y, width, height, fill, { stroke, lineWidth = 1, radius = 0, alpha = 1 } = {}) {
    const edge = stroke ? ` stroke="${escapeXml(stroke)}" stroke-width="${lineWidth}"` : "";
    const round = radius ? ` rx="${radius}"` : "";
    this.parts.push(
      `<rect x="${rounded(x)}" y="${rounded(y)}" width="${rounded(width)}" height="${rounded(height)}"` +
        ` fill="${escapeXml(fill ?? "none")}"${edge}${round}${alpha < 1 ? ` opacity="${rounded(alpha)}"` : ""}/>`,
    );
  }

  line(x1, y1, x2, y2, color, width = 1) {
    this.path(`M${rounded(x1)} ${rounded(y1)}L${rounded(x2)} ${rounded(y2)}`, color, width, 1);
  }

  curve(x1, y1, x2, y2, color, width, alpha) {
    const bend = (x2 - x1) * 0.45;
    const points = [x1 + bend, y1, x2 - bend, y2, x2, y2].map(rounded).join(" ");
    this.path(`M${rounded(x1)} ${rounded(y1)}C${points}`, color, width, alpha);
  }

  path(d, color, width, alpha) {
    const edge = `stroke="${escapeXml(color)}" stroke-width="${rounded(width)}"`;
    this.parts.push(`<path d="${d}" fill="none" ${edge}${alpha < 1 ? ` opacity="${rounded(alpha)}"` : ""}/>`);
  }

  text(text, x, y, { size = 12, align = "left", weight = 400, color, vertical = false, middle = true } = {}) {
    const anchor = { left: "start", center: "middle", right: "end" }[align];
    const turn = vertical ? ` transform="rotate(-90 ${rounded(x)} ${rounded(y)})"` : "";
    this.parts.push(
      `<text x="${rounded(x)}" y="${rounded(y)}" font-size="${size}" font-weight="${weight}" text-anchor="${anchor}"` +
        `${middle ? ' dominant-baseline="central"' : ""} fill="${escapeXml(color)}"${turn}>${escapeXml(text)}</text>`,
    );
  }

  image(canvas, x, y, width, height) {
    const bounds = [x, y, width, height].map(rounded);
    this.parts.push({ canvas, bounds });
  }

  hatch(x, y, width, height, palette) {
    const name = `hatch${this.clips++}`;
    this.parts.push(
      `<pattern id="${name}" width="${STRIPE}" height="${STRIPE}" patternUnits="userSpaceOnUse">` +
        `<rect width="${STRIPE}" height="${STRIPE}" fill="${escapeXml(palette.masked)}"/>` +
        `<path d="${STRIPES}" stroke="${escapeXml(palette.hatch)}"/></pattern>`,
    );
    this.rect(x, y, width, height, `url(#${name})`);
  }

  clip(x, y, width, height, draw) {
    const name = `clip${this.clips++}`;
    const bounds = `x="${rounded(x)}" y="${rounded(y)}" width="${rounded(width)}" height="${rounded(height)}"`;
    this.parts.push(`<clipPath id="${name}"><rect ${bounds}/></clipPath><g clip-path="url(#${name})">`);
    draw();
    this.parts.push("</g>");
  }

  async source() {
    const parts = await Promise.all(this.parts.map((part) => (part.canvas ? embedImage(part) : part)));
    return (
      `<svg xmlns="http://www.w3.org/2000/svg" width="${rounded(this.width)}" height="${rounded(this.height)}" ` +
      `viewBox="0 0 ${rounded(this.width)} ${rounded(this.height)}" font-family="${escapeXml(FONT)}" ` +
      `role="img" xml:space="preserve">\n<title>${escapeXml(this.title)}</title>\n${parts.join("\n")}\n</svg>\n`
    );
  }
}

async function embedImage({ canvas, bounds: [x, y, width, height] }) {
  const copy = new OffscreenCanvas(canvas.width, canvas.height);
  copy.getContext("2d").drawImage(canvas, 0, 0);
  const bytes = new Uint8Array(await (await copy.convertToBlob({ type: "image/png" })).arrayBuffer());
  return (
    `<image x="${x}" y="${y}" width="${width}" height="${height}" preserveAspectRatio="none" ` +
    `image-rendering="pixelated" href="data:image/png;base64,${base64(bytes)}"/>`
  );
}
