// Segment: one network, its classes, and the map that grows from proposals.

import * as api from "/static/api.js";
import { $, announce, make, save } from "/static/dom.js";
import { pngBlob, pngValues } from "/static/png.js";
import { picture } from "/static/picture.js";
import { Result, Stage, paint, readings } from "/static/stage.js";
import { className, onLanguage, percent, t } from "/static/words.js";

let stage, models, result = null, running = null, shownFor = null;
const hidden = new Set();
let boxes = [];

/** Set the view up. */
export function openSegment(known) {
  models = known;
  stage = new Stage($("segment-stage"));
  stage.setOpacity(0.6);
  stage.describe = (x, y) => result && readings(x, y, [{ result }]);
  stage.drawMarks = drawBoxes;
  $("segment-model").addEventListener("change", () => { hideBackground(); segment(); });
  $("inside-model").addEventListener("change", () => { // one choice of network for both views
    $("segment-model").value = $("inside-model").value;
    hideBackground();
    shownFor = null;
  });
  $("crf").addEventListener("change", segment);
  $("grow").addEventListener("click", () => (running?.grows ? running.abort() : grow()));
  $("opacity").addEventListener("input", () => {
    stage.setOpacity($("opacity").value / 100);
    $("opacity-value").textContent = `${$("opacity").value} %`;
  });
  $("proposals").addEventListener("input", () => { $("proposals-value").textContent = $("proposals").value; });
  $("all-classes").addEventListener("click", () => { hidden.clear(); show(); });
  $("no-classes").addEventListener("click", () => {
    for (const { index } of result?.classes ?? []) hidden.add(index);
    show();
  });
  $("save-mask").addEventListener("click", () => save(pngBlob(result.answer.mask_png), "mask.png"));
  $("save-json").addEventListener("click", () => {
    const { model, width, height, classes, mask_png } = result.answer;
    save(new Blob([JSON.stringify({ model, width, height, classes, mask_png }, null, 2)]), "segmentation.json");
  });
  $("save-overlay").addEventListener("click", saveOverlay);
  hideBackground();
  onLanguage(() => { listClasses(); growButton(); });
}

function hideBackground() {
  hidden.clear();
  const { background } = models.find(({ name }) => name === $("segment-model").value);
  if (background !== null) hidden.add(background);
}

/** Show the current picture, if it is not shown already. */
export function showSegment() {
  if (!picture() || shownFor === picture()) return;
  stage.setPicture(picture());
  segment();
}

function begin(grows = false) {
  running?.abort();
  const controller = new AbortController();
  controller.grows = grows;
  running = controller;
  shownFor = picture();
  stage.fail(null);
  growButton();
  return { controller, busy: stage.busy(() => controller.abort()) };
}

function end(controller) {
  if (running !== controller) return;
  running = null;
  stage.rest();
  growButton();
}

function growButton() {
  const grows = Boolean(running?.grows);
  $("grow").textContent = t(grows ? "stop" : "grow");
  $("grow").disabled = !picture();
  $("proposals").disabled = grows;
}

async function segment() {
  if (!picture()) return;
  const { controller, busy } = begin();
  busy.show(t("segmenting"));
  boxes = [];
  setResult(null);
  try {
    const answer = await api.segment(picture(), fields(), controller.signal);
    const made = await resultOf(answer);
    if (running !== controller) return;
    setResult(made);
    sayDone();
  } catch (problem) {
    if (running === controller && problem.name !== "AbortError") stage.fail(problem, segment);
  } finally {
    end(controller);
  }
}

async function grow() {
  const { controller, busy } = begin(true);
  stage.element.scrollIntoView({ block: "nearest" }); // on a phone the button is far below
  busy.show(t("segmenting"));
  boxes = [];
  setResult(null);
  let done = 0, total = 0;
  const model = $("segment-model").value;
  try {
    const events = api.proposals(picture(), { ...fields(), proposals: $("proposals").value }, controller.signal);
    for await (const [name, values] of events) {
      if (running !== controller) return;
      if (name === "begin") ({ total } = values);
      if (name === "growth") {
        done = values.done;
        boxes = [...boxes, ...values.boxes];
        const { width, height } = picture();
        setResult(await resultOf({ model, width, height, classes: values.classes, mask_png: values.mask_png }));
      }
      if (name === "result") {
        setResult(await resultOf(values));
        boxes = [];
        sayDone();
      }
      busy.show(t("growing", { done, total }), total ? done / total : undefined);
    }
  } catch (problem) {
    if (running !== controller) return;
    if (problem.name !== "AbortError") stage.fail(problem, grow);
    else if (done) {
      const words = t("stopped", { done, total });
      stage.problem.replaceChildren(make("p", { className: "note", textContent: words }));
      announce(words);
    }
  } finally {
    end(controller);
    stage.mark();
  }
}

const fields = () => ({ model: $("segment-model").value, crf: $("crf").checked });

/** An answer of the server with its maps unpacked. */
export async function resultOf(answer) {
  const [mask, confidence] = await Promise.all(
    [answer.mask_png, answer.confidence_png].map((text) => text && pngValues(text)));
  return new Result(answer, mask.values, confidence?.values ?? null);
}

function setResult(made) {
  result = made;
  for (const id of ["save-mask", "save-overlay", "save-json"]) $(id).disabled = !made;
  show();
}

function show(only = null) {
  if (result) paint(stage.layers.paint, result, { hidden, only });
  else stage.clear("paint");
  stage.mark();
  if (only === null) listClasses();
}

function sayDone() {
  const largest = [...result.classes].sort((a, b) => b.share - a.share).filter(({ share }) => share > 0).slice(0, 3);
  const what = largest.map(({ name, share }) => `${className(name)} ${percent(share)}`).join(", ");
  announce(t("done", { what }));
}

function listClasses() {
  const list = $("segment-classes");
  const known = result?.classes ?? models.find(({ name }) => name === $("segment-model").value)?.classes ?? [];
  const sorted = [...known].sort((a, b) => (b.share ?? 0) - (a.share ?? 0));
  const present = sorted.filter(({ share }) => !result || share > 0);
  const absent = result ? sorted.filter(({ share }) => share === 0) : [];
  const focused = document.activeElement?.dataset?.known;
  list.replaceChildren(...present.map(classRow));
  if (absent.length) {
    const names = absent.map(({ name }) => className(name)).join(", ");
    list.append(make("li", {}, make("details", {},
      make("summary", { textContent: t("absent", { n: absent.length }) }), make("p", { className: "hint", textContent: names }))));
  }
  if (focused) list.querySelector(`[data-known="${focused}"]`)?.focus();
}

function classRow({ index, name, color, share }) {
  const box = make("input", { type: "checkbox", checked: !hidden.has(index), "data-known": String(index), disabled: !result });
  box.addEventListener("change", () => {
    if (box.checked) hidden.delete(index);
    else hidden.add(index);
    show();
  });
  const swatch = make("span", { className: "swatch" });
  swatch.style.background = color;
  const label = make("label", {}, box, swatch, make("span", { className: "name", textContent: className(name) }));
  if (share !== undefined) {
    label.append(make("span", { className: "share", textContent: percent(share) }));
    label.append(make("meter", { min: 0, max: 1, value: share, "aria-hidden": "true" }));
  }
  if (result) {
    label.addEventListener("pointerenter", (event) => event.pointerType === "mouse" && !hidden.has(index) && show(index));
    label.addEventListener("pointerleave", (event) => event.pointerType === "mouse" && show());
  }
  return make("li", {}, label);
}

/** The windows so far: the newest in full, older ones faint. */
function drawBoxes(context, unit, scale) {
  boxes.forEach(([x0, y0, x1, y1], place) => {
    const newest = place === boxes.length - 1;
    context.globalAlpha = newest ? 1 : 0.28;
    for (const [color, line] of [["#000", newest ? 5 : 2.5], ["#fff", newest ? 2.5 : 1]]) {
      context.strokeStyle = color;
      context.lineWidth = line * scale;
      context.strokeRect(x0 * unit, y0 * unit, (x1 - x0) * unit, (y1 - y0) * unit);
    }
  });
  context.globalAlpha = 1;
}

function saveOverlay() {
  const canvas = make("canvas", { width: result.width, height: result.height });
  const context = canvas.getContext("2d");
  context.drawImage(stage.base, 0, 0);
  context.globalAlpha = stage.opacity;
  context.drawImage(stage.layers.paint, 0, 0);
  canvas.toBlob((blob) => save(blob, "overlay.png"));
}
