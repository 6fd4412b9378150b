// The color scale of weights, which differs in lightness alone, and the colors of the page.

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

const channels = (hex) => [1, 3, 5].map((start) => parseInt(hex.slice(start, start + 2), 16));

function interpolate(stops) {
  const points = stops.map(channels);
  return Array.from({ length: 256 }, (_, index) => {
    const position = (index / 255) * (points.length - 1);
    const left = Math.min(points.length - 2, Math.floor(position));
    return points[left].map((value, c) => Math.round(value + (points[left + 1][c] - value) * (position - left)));
  });
}

/** The colors of a theme; scale[i] is [red, green, blue] of a weight of (i / 255)^2 times the largest shown. */
export function paletteOf(theme) {
  const colors = THEMES[theme];
  const scale = interpolate(colors.stops);
  const pixel = ([red, green, blue]) => ((255 << 24) | (blue << 16) | (green << 8) | red) >>> 0;
  return {
    ...colors,
    theme,
    scale,
    pixels: Uint32Array.from(scale, pixel),
    css: scale.map(([red, green, blue]) => `rgb(${red} ${green} ${blue})`),
  };
}

/** Use the colors of a theme in the style sheet; theme: "light", "dark", or "auto" for that of the system. */
export function useTheme(theme) {
  const dark = theme === "dark" || (theme === "auto" && matchMedia("(prefers-color-scheme: dark)").matches);
  const palette = paletteOf(dark ? "dark" : "light");
  const { style } = document.documentElement;
  style.colorScheme = palette.theme;
  for (const name of ["paper", "card", "ink", "soft", "line", "accent", "mark", "wash"])
    style.setProperty(`--${name}`, palette[name]);
  return palette;
}

/** Index of a weight on the color scale: the square root of its share of the largest. */
export const colorIndex = (weight, max) => Math.min(255, Math.max(0, Math.round(255 * Math.sqrt(weight / max))));

const FAINT = 8; // of 255: the place on the color scale below which a word is not shaded

/** Place of the shade of a word on the color scale; 0 for none. */
export function shadeOf(weight, largest) {
  const place = weight > 0 ? colorIndex(weight, largest || 1) : 0;
  return place < FAINT ? 0 : place;
}

/** Black or white, whichever has more contrast on a color of the scale; both have the same at luminance 0.179. */
export function textColorOn(palette, index) {
  const [red, green, blue] = palette.scale[index].map((value) => {
    const share = value / 255;
    return share <= 0.03928 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4; // relative luminance of WCAG
  });
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue > 0.179 ? "#000000" : "#ffffff";
}

/** Colors of the parts of scores: the palette of Okabe & Ito, which color-blind people can distinguish. */
export const PART_COLORS = ["#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#f0e442"];

/** A bitmap with a pixel for each cell, or fewer, each the maximum of its cells; masked cells are transparent. */
export function toBitmap(matrix, max, palette, maxWidth = matrix.keys, maxHeight = matrix.queries) {
  const across = Math.min(matrix.keys, Math.max(1, Math.floor(maxWidth)));
  const down = Math.min(matrix.queries, Math.max(1, Math.floor(maxHeight)));
  const exact = across === matrix.keys && down === matrix.queries;
  const canvas = new OffscreenCanvas(across, down);
  const context = canvas.getContext("2d");
  const image = context.createImageData(across, down);
  const pixels = new Uint32Array(image.data.buffer);
  const pixelOf = (weight) => (weight === weight ? palette.pixels[colorIndex(weight, max)] : 0);
  const shown = exact ? matrix.weights : maxPool(matrix, down, across);
  for (let i = 0; i < pixels.length; i++) pixels[i] = pixelOf(shown[i]);
  context.putImageData(image, 0, 0);
  return canvas;
}

/** The maximum of each block of cells, leaving out masked ones. */
function maxPool({ queries, keys, weights }, down, across) {
  const result = new Float32Array(down * across).fill(NaN);
  const columns = Uint32Array.from({ length: keys }, (_, key) => Math.floor((key * across) / keys));
  for (let query = 0, cell = 0; query < queries; query++) {
    const line = Math.floor((query * down) / queries) * across;
    for (let key = 0; key < keys; key++, cell++) {
      const weight = weights[cell];
      const index = line + columns[key];
      if (weight === weight && !(result[index] >= weight)) result[index] = weight;
    }
  }
  return result;
}
