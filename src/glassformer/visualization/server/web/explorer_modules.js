// What this page uses of the explorer's modules.

export { paletteOf } from "./explorer-web/colors.js";
export { formatNumber, formatPercent, visibleText } from "./explorer-web/text.js";
export { element } from "./explorer-web/panel.js";
