// The start of a page that is a file: its contents are in blocks of the page itself.

import { PageSource } from "./data.js";
import { Explorer } from "./explorer.js";

window.glassformer = new Explorer(document.getElementById("explorer"), new PageSource(document));
