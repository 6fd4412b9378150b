// One scale of colours for weights, told apart by lightness alone, and the page's other colours.

const THEMES = {
  light: {
    paper: "#faf9f6",
    card: "#ffffff",
    ink: "#1b2530",
    soft: "#55626f",
    line: "#dcd8ce",
    accent: "#0a5a8c",
    mark: "#c2410c",
    masked: "#f3f0ea",
    hatch: "#b9b1a2",
    wash: "#eaf1f6",
    stops: ["#ffffff", "#d3e4f1", "#8dbbdc", "#3f87bd", "#11568f", "#07264d"],
  },
  dark: {
    paper: "#14171b",
    card: "#1b1f25",
    ink: "#ece9e2",
    soft: "#aab3bd",
    line: "#39414a",
    accent: "#86c5f0",
    mark: "#ff9d5c",
    masked: "#262a30",
    hatch: "#5b636d",
    wash: "#22303b",
    stops: ["#0d1116", "#17304d", "#1f5c86", "#2f91a8", "#86c9a2", "#fdf6c4"],
  },
};

const channels = (hex) => [1, 3, 5].map((place) => parseInt(hex.slice(place, place + 2), 16));

function scaleOf(stops) {
  const points = stops.map(channels);
  return Array.from({ length: 256 }, (_, index) => {
    const place = (index / 255) * (points.length - 1);
    const left = Math.min(points.length - 2, Math.floor(place));
    return points[left].map((value, c) => Math.round(value + (points[left + 1][c] - value) * (place - left)));
  });
}

/** The colours of a theme; ``scale[i]`` is [red, green, blue] of the weight (i / 255)^2 of the largest shown. */
export function paletteOf(theme) {
  const colours = THEMES[theme];
  const scale = scaleOf(colours.stops);
  const pixel = ([red, green, blue]) => ((255 << 24) | (blue << 16) | (green << 8) | red) >>> 0;
  return {
    ...colours,
    theme,
    scale,
    pixels: Uint32Array.from(scale, pixel),
    css: scale.map(([red, green, blue]) => `rgb(${red} ${green} ${blue})`),
  };
}

/** Place of a weight on the scale: square root of its share of the largest. */
export const shade = (weight, top) => Math.min(255, Math.max(0, Math.round(255 * Math.sqrt(weight / top))));

/** The ink that stands out more from this shade: where contrast with black and with white is the same, at 0.179. */
export function inkOn(palette, index) {
  const [red, green, blue] = palette.scale[index].map((value) => {
    const share = value / 255;
    return share <= 0.03928 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4; // WCAG's relative luminance
  });
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue > 0.179 ? "#000000" : "#ffffff";
}

/** Parts of scores, told apart without red against green (Okabe & Ito). */
export const PARTS = ["#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#f0e442"];

/** A map as a picture of one pixel a cell, or of fewer, each the largest of its cells; masked ones are clear. */
export function bitmapOf(matrix, top, palette, most = matrix.keys, high = matrix.queries) {
  const across = Math.min(matrix.keys, Math.max(1, Math.floor(most)));
  const down = Math.min(matrix.queries, Math.max(1, Math.floor(high)));
  const whole = across === matrix.keys && down === matrix.queries;
  const canvas = new OffscreenCanvas(across, down);
  const context = canvas.getContext("2d");
  const image = context.createImageData(across, down);
  const pixels = new Uint32Array(image.data.buffer);
  const pixelOf = (weight) => (weight === weight ? palette.pixels[shade(weight, top)] : 0);
  if (matrix.codes) {
    const known = Uint32Array.from(matrix.weightOf, pixelOf); // there are only as many weights as codes
    const codes = whole ? matrix.codes : pooled(matrix, matrix.codes, new Uint8Array(down * across), down, across);
    for (let i = 0; i < pixels.length; i++) pixels[i] = known[codes[i]];
  } else {
    const ranks = matrix.weights.map((weight) => (weight === weight ? weight : MASKED));
    const shown = whole ? ranks : pooled(matrix, ranks, new Float32Array(down * across), down, across);
    for (let i = 0; i < pixels.length; i++) pixels[i] = shown[i] === MASKED ? 0 : pixelOf(shown[i]);
  }
  context.putImageData(image, 0, 0);
  return canvas;
}

const MASKED = 255; // among codes, and above every weight

/** Of each block of cells the largest that is not masked. */
function pooled({ queries, keys }, cells, result, down, across) {
  result.fill(MASKED);
  const columns = Uint32Array.from({ length: keys }, (_, key) => Math.floor((key * across) / keys));
  for (let query = 0, cell = 0; query < queries; query++) {
    const line = Math.floor((query * down) / queries) * across;
    for (let key = 0; key < keys; key++, cell++) {
      const value = cells[cell];
      const place = line + columns[key];
      if (value !== MASKED && (result[place] === MASKED || value > result[place])) result[place] = value;
    }
  }
  return result;
}
