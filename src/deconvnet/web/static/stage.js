// A picture with what was found on it: layers of paint, a pointer, marks, progress, problems.

import { Busy, announce, make, showProblem } from "/static/dom.js";
import { className, number, onLanguage, t } from "/static/words.js";

/** What one network said about a picture, ready to be painted. */
export class Result {
  constructor(answer, mask, confidence) {
    Object.assign(this, { answer, mask, confidence });
    this.width = answer.width;
    this.height = answer.height;
    this.classes = answer.classes;
  }

  at(x, y) {
    const place = y * this.width + x;
    return { known: this.classes[this.mask[place]], sure: this.confidence && this.confidence[place] / 255 };
  }
}

/** Paint the classes that are visible, with a thin white line around areas, but not around specks. */
export function paint(canvas, result, { hidden = new Set(), only = null, differs = null } = {}) {
  const { width, height, mask } = result;
  canvas.width = width;
  canvas.height = height;
  const context = canvas.getContext("2d");
  const image = context.createImageData(width, height);
  const pixels = new Uint32Array(image.data.buffer);
  const colors = result.classes.map(({ color }) => {
    const [r, g, b] = [1, 3, 5].map((at) => parseInt(color.slice(at, at + 2), 16));
    return (0xff000000 | (b << 16) | (g << 8) | r) >>> 0;
  });
  const faint = 0x30000000;
  for (let y = 0, place = 0; y < height; y++) {
    for (let x = 0; x < width; x++, place++) {
      const known = mask[place];
      if (hidden.has(known) || (differs && !differs[place])) continue;
      if (only !== null && known !== only) {
        pixels[place] = faint;
        continue;
      }
      const right = x + 1 < width && mask[place + 1] !== known && x > 1 && mask[place - 1] === known && mask[place - 2] === known;
      const below = y + 1 < height && mask[place + width] !== known && y > 1 && mask[place - width] === known && mask[place - 2 * width] === known;
      pixels[place] = right || below ? 0xffffffff : colors[known];
    }
  }
  context.putImageData(image, 0, 0);
}

/** A stage in `place`. `layers` names its sheets of paint, from the lowest up. */
export class Stage {
  constructor(place, { label = "stage_label", layers = ["paint"] } = {}) {
    this.problem = make("div", { className: "stage-problem" });
    this.base = make("canvas", { "aria-hidden": "true" });
    this.layers = Object.fromEntries(
      layers.map((name) => [name, make("canvas", { className: "paint", "aria-hidden": "true" })]));
    this.marks = make("canvas", { "aria-hidden": "true" });
    this.readout = make("div", { className: "readout", hidden: true, "aria-hidden": "true" });
    this.frame = make("div", { className: "frame", tabIndex: 0, role: "application" },
      this.base, ...Object.values(this.layers), this.marks, this.readout);
    this.element = make("figure", { className: "stage" }, this.frame);
    place.append(this.problem, this.element);
    this.describe = () => null; // (x, y) -> {lines: [{color, words}], spoken}
    this.drawMarks = () => {};
    this.pointer = null;
    onLanguage(() => this.frame.setAttribute("aria-label", t(label)));
    this.frame.addEventListener("pointermove", (event) => this.point(event));
    this.frame.addEventListener("pointerdown", (event) => this.point(event));
    this.frame.addEventListener("pointerleave", () => this.unpoint());
    this.frame.addEventListener("blur", () => this.unpoint());
    this.frame.addEventListener("keydown", (event) => this.key(event));
    new ResizeObserver(() => this.mark()).observe(this.frame);
  }

  setPicture(picture) {
    const { width, height, bitmap } = picture;
    Object.assign(this, { width, height });
    this.frame.style.setProperty("--ratio", width / height);
    this.base.width = width;
    this.base.height = height;
    this.base.getContext("2d").drawImage(bitmap, 0, 0, width, height);
    for (const name of Object.keys(this.layers)) this.clear(name);
    this.unpoint();
    this.mark();
  }

  clear(name) {
    this.layers[name].width = this.layers[name].height = 1;
  }

  setOpacity(share) {
    for (const canvas of Object.values(this.layers)) canvas.style.opacity = share;
    this.opacity = share;
  }

  busy(stop) {
    this.ending?.end();
    this.ending = new Busy(this.frame, stop);
    this.element.setAttribute("aria-busy", "true");
    return this.ending;
  }

  rest() {
    this.ending?.end();
    this.element.removeAttribute("aria-busy");
  }

  fail(problem, again) {
    showProblem(this.problem, problem, again);
  }

  point(event) {
    if (event.target.closest(".busy")) return this.unpoint();
    const box = this.frame.getBoundingClientRect();
    const x = Math.floor(((event.clientX - box.left) / box.width) * this.width);
    const y = Math.floor(((event.clientY - box.top) / box.height) * this.height);
    if (x >= 0 && y >= 0 && x < this.width && y < this.height) this.setPointer(x, y);
  }

  setPointer(x, y, spoken = false) {
    this.pointer = { x, y, keys: spoken };
    this.mark();
    this.pointed?.(x, y);
    const found = this.describe(x, y);
    this.readout.hidden = !found;
    if (!found) return;
    this.readout.replaceChildren(...found.lines.map(({ color, words }) => {
      const swatch = make("i");
      swatch.style.background = color;
      return make("div", {}, swatch, words);
    }));
    const box = this.frame.getBoundingClientRect();
    const left = ((x + 0.5) / this.width) * box.width, top = ((y + 0.5) / this.height) * box.height;
    const right = left + this.readout.offsetWidth + 22 > box.width;
    const below = top + this.readout.offsetHeight + 22 > box.height;
    this.readout.style.left = `${Math.max(2, right ? left - this.readout.offsetWidth - 12 : left + 14)}px`;
    this.readout.style.top = `${Math.max(2, below ? top - this.readout.offsetHeight - 12 : top + 14)}px`;
    if (spoken) announce(found.spoken);
  }

  unpoint() {
    this.pointer = null;
    this.readout.hidden = true;
    this.mark();
  }

  key(event) {
    const [dx, dy] = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key] ?? [];
    if (dx === undefined || !this.width) return;
    event.preventDefault();
    const step = event.shiftKey ? 1 : Math.max(1, Math.round(this.width / 40));
    const from = this.pointer ?? { x: this.width >> 1, y: this.height >> 1 };
    const clamp = (value, size) => Math.min(size - 1, Math.max(0, value));
    this.setPointer(clamp(from.x + dx * step, this.width), clamp(from.y + dy * step, this.height), true);
  }

  /** Draw marks in the screen's pixels, so that lines stay thin on small pictures. */
  mark() {
    const box = this.frame.getBoundingClientRect();
    const scale = devicePixelRatio || 1;
    this.marks.width = Math.max(1, Math.round(box.width * scale));
    this.marks.height = Math.max(1, Math.round(box.height * scale));
    if (!this.width) return;
    const context = this.marks.getContext("2d");
    const unit = this.marks.width / this.width;
    this.drawMarks(context, unit, scale);
    if (!this.pointer?.keys) return;
    const x = (this.pointer.x + 0.5) * unit, y = (this.pointer.y + 0.5) * unit;
    for (const [color, line] of [["#000", 4], ["#fff", 2]]) {
      context.strokeStyle = color;
      context.lineWidth = line * scale;
      context.beginPath();
      for (const [dx, dy] of [[1, 0], [-1, 0], [0, 1], [0, -1]]) {
        context.moveTo(x + dx * 4 * scale, y + dy * 4 * scale);
        context.lineTo(x + dx * 13 * scale, y + dy * 13 * scale);
      }
      context.stroke();
    }
  }
}

/** The words for a pixel of some results. */
export function readings(x, y, results) {
  const lines = results.map(({ result, title }) => {
    const { known, sure } = result.at(x, y);
    const words = [title, className(known.name)].filter(Boolean).join(": ") +
      (sure === null || sure === undefined ? "" : ` · ${t("sure", { percent: number(100 * sure) })}`);
    return { color: known.color, words };
  });
  const spoken = t("pixel", { x, y, name: lines.map(({ words }) => words).join("; ") });
  return { lines, spoken };
}
