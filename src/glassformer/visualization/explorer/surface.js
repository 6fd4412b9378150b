// A scrolled canvas as large as what can be seen of it, however tall the picture is.

import { CanvasPainter } from "./painter.js";
import { element } from "./panel.js";

const DOUBLE = 500; // milliseconds from the first half of a double click to the second
const CLICK = 4; // pixels that a finger or mouse may move in a click
const WIDE = 1900; // from this width on everything is drawn larger, as in the style sheet, ...
const LARGEST = 2; // ... up to twice as large

export class Surface {
  /** view(): what is drawn; scene(): what of; chosen(hit): a click on something; snug: no taller than the picture. */
  constructor(holder, { view, scene, chosen, hovered, panned, zoomed, adapts, snug }) {
    Object.assign(this, {
      holder,
      view,
      scene,
      chosen,
      hovered,
      panned,
      zoomed,
      adapts,
      snug,
      pointers: new Map(),
    });
    this.canvas = element("canvas", { "aria-hidden": "true" });
    this.sheet = element("div", { className: "sheet" }, this.canvas);
    holder.append(this.sheet);
    holder.addEventListener("scroll", () => this.draw(), { passive: true });
    new ResizeObserver(() => this.draw()).observe(holder);
    this.listen();
  }

  get scale() {
    return Math.min(LARGEST, Math.max(1, innerWidth / WIDE));
  }

  /** Size of the whole picture, and which part of it is in sight. */
  box() {
    const { holder, scale } = this;
    const [seen, height] = [holder.clientWidth / scale, holder.clientHeight / scale];
    const [left, top] = [holder.scrollLeft / scale, holder.scrollTop / scale];
    const width = Math.max(seen, this.view().leastWidth?.(this.scene()) ?? 0);
    return { width, seen, height, left, top, bottom: top + height };
  }

  draw() {
    const scene = this.scene();
    const view = this.view();
    if (!scene?.ready || !this.holder.clientWidth) return;
    this.adapt(scene, view);
    const { clientWidth, clientHeight } = this.holder;
    let box = this.box();
    const { scale } = this;
    const whole = Math.max(view.height(scene, box), this.snug ? 0 : box.height);
    this.sheet.style.height = `${Math.floor(whole * scale)}px`;
    this.sheet.style.width = `${Math.floor(box.width * scale)}px`;
    box = this.box(); // a scroll bar may have taken some of the width
    const ratio = globalThis.devicePixelRatio || 1;
    this.fit(clientWidth, clientHeight, ratio);
    const context = this.canvas.getContext("2d");
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.fillStyle = scene.palette.card;
    context.fillRect(0, 0, clientWidth, clientHeight);
    context.translate(-this.holder.scrollLeft, -this.holder.scrollTop);
    context.scale(scale, scale);
    view.draw(new CanvasPainter(context, ratio * scale), scene, box);
  }

  /** Where the page scrolls as a whole, a picture takes no more of it than it needs. */
  adapt(scene, view) {
    if (!this.adapts?.()) return (this.holder.style.height = "");
    const { width, seen } = this.box();
    const wanted = (view.natural ?? view.height).call(view, scene, { width, seen, height: 0, top: 0 }) + 4;
    return (this.holder.style.height = `${Math.round(Math.min(0.78 * innerHeight, Math.max(200, wanted)))}px`);
  }

  fit(width, height, ratio) {
    const { canvas } = this;
    if (canvas.width === Math.round(width * ratio) && canvas.height === Math.round(height * ratio)) return;
    Object.assign(canvas, { width: Math.round(width * ratio), height: Math.round(height * ratio) });
    Object.assign(canvas.style, { width: `${width}px`, height: `${height}px` });
  }

  /** Scroll until the chosen thing can be seen. */
  reveal() {
    const box = this.box();
    const spot = this.view().spotOf?.(this.scene(), box);
    if (!spot) return;
    const { holder, scale } = this;
    const { top, bottom, height } = box;
    const covered = this.view().sticky(this.scene(), box);
    if (spot.y < top + covered) holder.scrollTop = scale * Math.max(0, spot.y - covered);
    else if (spot.y + spot.height > bottom) holder.scrollTop = scale * (spot.y + spot.height - height + 20);
  }

  /** Where a pointer is on the picture. */
  point(event) {
    const { left, top } = this.holder.getBoundingClientRect();
    const [x, y] = [
      event.clientX - left + this.holder.scrollLeft,
      event.clientY - top + this.holder.scrollTop,
    ];
    return { x: x / this.scale, y: y / this.scale };
  }

  hitAt(event) {
    const { x, y } = this.point(event);
    return this.scene()?.ready ? this.view().hit(this.scene(), this.box(), x, y) : null;
  }

  listen() {
    const { canvas, pointers } = this;
    canvas.addEventListener("pointerdown", (event) => {
      // The second half of a double click is not meant for the view that the first half led to.
      const soon = performance.now() - (this.released?.time ?? -Infinity) < DOUBLE;
      this.late = soon && this.released.view !== this.view();
      this.pressed = this.view();
      pointers.set(event.pointerId, { x: event.clientX, y: event.clientY, moved: 0 });
      this.spread = this.spreadNow();
    });
    canvas.addEventListener("pointermove", (event) => this.moved(event));
    canvas.addEventListener("pointerup", (event) => {
      const pointer = pointers.get(event.pointerId);
      pointers.delete(event.pointerId);
      const hit = pointer && pointer.moved < CLICK && !this.late ? this.hitAt(event) : null;
      this.released = { time: performance.now(), view: this.pressed };
      if (hit) this.chosen(hit, event);
    });
    const away = (event) => [pointers.delete(event.pointerId), this.hovered?.(null, event)];
    canvas.addEventListener("pointercancel", away);
    canvas.addEventListener("pointerleave", away);
    canvas.addEventListener("dblclick", (event) => {
      const same = !this.late && this.pressed === this.view();
      if (same) this.zoomed?.(event.shiftKey ? 0.5 : 2, this.point(event));
    });
    canvas.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
  }

  moved(event) {
    const pointer = this.pointers.get(event.pointerId);
    if (!pointer) {
      const hit = this.hitAt(event);
      this.canvas.style.cursor = hit ? "pointer" : "";
      return this.hovered?.(hit, event);
    }
    const [dx, dy] = [event.clientX - pointer.x, event.clientY - pointer.y];
    Object.assign(pointer, { x: event.clientX, y: event.clientY, moved: pointer.moved + Math.hypot(dx, dy) });
    if (this.pointers.size === 2) {
      const spread = this.spreadNow();
      if (this.spread > 0) this.zoomed?.(spread / this.spread, this.point(event));
      this.spread = spread;
    } else if (pointer.moved >= CLICK) this.panned?.(dx / this.scale, dy / this.scale);
    return undefined;
  }

  spreadNow() {
    const [a, b] = [...this.pointers.values()];
    return a && b ? Math.hypot(a.x - b.x, a.y - b.y) : 0;
  }

  /** With Ctrl the wheel zooms, as a pinch on a touch pad does; what is zoomed is moved. */
  wheel(event) {
    if (event.ctrlKey) this.zoomed?.(Math.exp(-event.deltaY / 240), this.point(event));
    else if (!this.panned?.(-event.deltaX, -event.deltaY)) return;
    event.preventDefault();
  }
}
