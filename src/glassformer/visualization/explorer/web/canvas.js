// A scrollable canvas of which only the visible part is drawn, with its pointer events.

import { CanvasPainter } from "./painter.js";
import { element } from "./panel.js";

const DOUBLE = 500; // milliseconds between the clicks of a double click
const CLICK = 4; // pixels that the pointer may move during a click
const WIDE = 1900; // in wider windows everything is drawn larger, as in the style sheet, ...
const LARGEST = 2; // ... up to twice as large

export class ScrollCanvas {
  /**
   * view() and scene() give what is drawn. onSelect, onHover, onPan and onZoom are called for pointer events.
   * fitsContent(): whether the height follows the content; shrinks: whether it may be less than the holder's.
   */
  constructor(holder, { view, scene, onSelect, onHover, onPan, onZoom, fitsContent, shrinks }) {
    Object.assign(this, {
      holder,
      view,
      scene,
      onSelect,
      onHover,
      onPan,
      onZoom,
      fitsContent,
      shrinks,
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

  /** The width of the whole drawing, and its visible part. */
  box() {
    const { holder, scale } = this;
    const [visibleWidth, height] = [holder.clientWidth / scale, holder.clientHeight / scale];
    const [left, top] = [holder.scrollLeft / scale, holder.scrollTop / scale];
    const width = Math.max(visibleWidth, this.view().minWidth?.(this.scene()) ?? 0);
    return { width, visibleWidth, height, left, top, bottom: top + height };
  }

  draw() {
    const scene = this.scene();
    const view = this.view();
    if (!scene?.ready || !this.holder.clientWidth) return;
    this.adaptHeight(scene, view);
    const { clientWidth, clientHeight } = this.holder;
    let box = this.box();
    const { scale } = this;
    const total = Math.max(view.height(scene, box), this.shrinks ? 0 : box.height);
    this.sheet.style.height = `${Math.floor(total * scale)}px`;
    this.sheet.style.width = `${Math.floor(box.width * scale)}px`;
    box = this.box(); // a scroll bar may have appeared
    const ratio = globalThis.devicePixelRatio || 1;
    this.resize(clientWidth, clientHeight, ratio);
    const context = this.canvas.getContext("2d");
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.fillStyle = scene.palette.card;
    context.fillRect(0, 0, clientWidth, clientHeight);
    context.translate(-this.holder.scrollLeft, -this.holder.scrollTop);
    context.scale(scale, scale);
    view.draw(new CanvasPainter(context, ratio * scale), scene, box);
  }

  /** In a page that scrolls as a whole, limit the height to that of the content. */
  adaptHeight(scene, view) {
    if (!this.fitsContent?.()) return (this.holder.style.height = "");
    const { width, visibleWidth } = this.box();
    const box = { width, visibleWidth, height: 0, top: 0 };
    const wanted = (view.naturalHeight ?? view.height).call(view, scene, box) + 4;
    return (this.holder.style.height = `${Math.round(Math.min(0.78 * innerHeight, Math.max(200, wanted)))}px`);
  }

  resize(width, height, ratio) {
    const { canvas } = this;
    if (canvas.width === Math.round(width * ratio) && canvas.height === Math.round(height * ratio)) return;
    Object.assign(canvas, { width: Math.round(width * ratio), height: Math.round(height * ratio) });
    Object.assign(canvas.style, { width: `${width}px`, height: `${height}px` });
  }

  /** Scroll to what is chosen. */
  reveal() {
    const box = this.box();
    const bounds = this.view().chosenBounds?.(this.scene(), box);
    if (!bounds) return;
    const { holder, scale } = this;
    const { top, bottom, height } = box;
    const covered = this.view().headerHeight(this.scene(), box);
    if (bounds.y < top + covered) holder.scrollTop = scale * Math.max(0, bounds.y - covered);
    else if (bounds.y + bounds.height > bottom) holder.scrollTop = scale * (bounds.y + bounds.height - height + 20);
  }

  /** The position of a pointer in the drawing. */
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
    return this.scene()?.ready ? this.view().hitTest(this.scene(), this.box(), x, y) : null;
  }

  listen() {
    const { canvas, pointers } = this;
    canvas.addEventListener("pointerdown", (event) => {
      // The second click of a double click must not act on a view that the first one opened.
      const isSecond = performance.now() - (this.released?.time ?? -Infinity) < DOUBLE;
      this.ignored = isSecond && this.released.view !== this.view();
      this.pressed = this.view();
      pointers.set(event.pointerId, { x: event.clientX, y: event.clientY, moved: 0 });
      this.distance = this.pointerDistance();
    });
    canvas.addEventListener("pointermove", (event) => this.moved(event));
    canvas.addEventListener("pointerup", (event) => {
      const pointer = pointers.get(event.pointerId);
      pointers.delete(event.pointerId);
      const hit = pointer && pointer.moved < CLICK && !this.ignored ? this.hitAt(event) : null;
      this.released = { time: performance.now(), view: this.pressed };
      if (hit) this.onSelect(hit, event);
    });
    const leave = (event) => [pointers.delete(event.pointerId), this.onHover?.(null, event)];
    canvas.addEventListener("pointercancel", leave);
    canvas.addEventListener("pointerleave", leave);
    canvas.addEventListener("dblclick", (event) => {
      const same = !this.ignored && this.pressed === this.view();
      if (same) this.onZoom?.(event.shiftKey ? 0.5 : 2, this.point(event));
    });
    canvas.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
  }

  moved(event) {
    const pointer = this.pointers.get(event.pointerId);
    if (!pointer) {
      const hit = this.hitAt(event);
      this.canvas.style.cursor = hit ? "pointer" : "";
      return this.onHover?.(hit, event);
    }
    const [dx, dy] = [event.clientX - pointer.x, event.clientY - pointer.y];
    Object.assign(pointer, { x: event.clientX, y: event.clientY, moved: pointer.moved + Math.hypot(dx, dy) });
    if (this.pointers.size === 2) {
      const distance = this.pointerDistance();
      if (this.distance > 0) this.onZoom?.(distance / this.distance, this.point(event));
      this.distance = distance;
    } else if (pointer.moved >= CLICK) this.onPan?.(dx / this.scale, dy / this.scale);
    return undefined;
  }

  pointerDistance() {
    const [a, b] = [...this.pointers.values()];
    return a && b ? Math.hypot(a.x - b.x, a.y - b.y) : 0;
  }

  /** Zoom with Ctrl (which a pinch on a touch pad sends, too); move what is zoomed. */
  wheel(event) {
    if (event.ctrlKey) this.onZoom?.(Math.exp(-event.deltaY / 240), this.point(event));
    else if (!this.onPan?.(-event.deltaX, -event.deltaY)) return;
    event.preventDefault();
  }
}
