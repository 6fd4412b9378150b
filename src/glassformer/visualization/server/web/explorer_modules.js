// What this page uses of the explorer's modules.

export { ContentsSource } from "./explorer-web/data.js";
export { ScrollCanvas } from "./explorer-web/canvas.js";
export { useTheme } from "./explorer-web/colors.js";
export { Explorer } from "./explorer-web/explorer.js";
export { handleKey } from "./explorer-web/keyboard.js";
export { hover, pan, zoom } from "./explorer-web/navigation.js";
export { element } from "./explorer-web/panel.js";
export { fromHash, MEAN } from "./explorer-web/state.js";
export { countOf, formatNumber, formatPercent, visibleText } from "./explorer-web/text.js";
