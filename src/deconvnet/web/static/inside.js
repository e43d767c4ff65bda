// Look inside: the layers as a row, a layer's channels, the decoder at play, a pixel's way back.

import * as api from "/static/api.js";
import { $, Busy, make, showProblem } from "/static/dom.js";
import { pngBlob, pngValues } from "/static/png.js";
import { picture } from "/static/picture.js";
import { Stage } from "/static/stage.js";
import { className, number, onLanguage, t } from "/static/words.js";

const PAGE = 64, COLUMNS = 8, STEP_MS = 700;

let stage, inside = null, running = null, shownFor = null;
let layer = null, channel = 0, table = [], from = 0, timer = null;
let traced = null, tracing = null, asked = null;
const sheets = new Map();

/** Set the view up. */
export function openInside() {
  stage = new Stage($("trace-stage"), { label: "trace_label", layers: ["reach"] });
  stage.pointed = askTrace;
  stage.drawMarks = drawPath;
  stage.setOpacity(0.6);
  $("inside-model").addEventListener("change", look);
  $("segment-model").addEventListener("change", () => { // one choice of network for both views
    $("inside-model").value = $("segment-model").value;
    shownFor = null;
  });
  $("play").addEventListener("click", () => (timer ? pause() : play()));
  $("scrub").addEventListener("input", () => { pause(); step(Number($("scrub").value)); });
  $("order").addEventListener("change", () => { from = 0; showGrid(); });
  $("earlier").addEventListener("click", () => { from -= PAGE; showGrid(); });
  $("later").addEventListener("click", () => { from += PAGE; showGrid(); });
  $("layers").addEventListener("keydown", walkLayers);
  onLanguage(() => { if (inside) { listLayers(); tell(); tellTrace(); showGrid(); } else tellTrace(); });
}

/** Show the current picture, if it is not shown already. */
export function showInside() {
  if (picture() && shownFor !== picture()) look();
}

async function look() {
  if (!picture()) return;
  pause();
  running?.abort();
  const controller = (running = new AbortController());
  shownFor = picture();
  showProblem($("inside-state"), null);
  $("inside-body").hidden = true;
  $("inside-state").className = "still";
  const busy = new Busy($("inside-state"), () => controller.abort());
  busy.show(t("looking"));
  try {
    const given = await api.explain(picture(), $("inside-model").value, controller.signal);
    const seen = await createImageBitmap(pngBlob(given.picture_png));
    if (running !== controller) return;
    inside = given;
    sheets.clear();
    traced = null;
    $("inside-body").hidden = false;
    stage.setPicture({ bitmap: seen, width: given.width, height: given.height });
    document.querySelector(".screen").style.setProperty("--ratio", given.width / given.height);
    $("scrub").max = decoder().length - 1;
    listLayers();
    tellTrace();
    await step(0);
  } catch (problem) {
    if (running === controller && problem.name !== "AbortError") showProblem($("inside-state"), problem, look);
  } finally {
    busy.end();
  }
}

/** The layers in three parts: down, the smallest maps, up. */
function parts() {
  const sizes = inside.layers.map(({ width, height }) => width * height);
  const least = Math.min(...sizes);
  const middle = inside.layers.map(({ name }, at) => sizes[at] === least || name.startsWith("fc"));
  const first = middle.indexOf(true), last = middle.lastIndexOf(true);
  return [
    ["encoder", inside.layers.slice(0, first)],
    ["bottleneck", inside.layers.slice(first, last + 1)],
    ["decoder", inside.layers.slice(last + 1)],
  ];
}

/** What the player shows: from the last of the smallest maps up to the scores. */
function decoder() {
  const [, [, middle], [, up]] = parts();
  return [...middle.filter(({ width, height }) => width * height > 1).slice(-1), ...up];
}

function listLayers() {
  $("layers").replaceChildren(...parts().filter(([, layers]) => layers.length).map(([part, layers]) =>
    make("div", { className: "part" }, make("h3", { textContent: t(part) }),
      make("ol", {}, ...layers.map((one) => make("li", {}, layerButton(one)))))));
}

function layerButton(one) {
  const side = 14 + 9.5 * Math.log2(Math.max(one.width, one.height));
  const scale = side / Math.max(one.width, one.height);
  const image = make("img", { src: `data:image/png;base64,${one.thumbnail_png}`, alt: "",
    width: Math.max(10, Math.round(one.width * scale)), height: Math.max(10, Math.round(one.height * scale)) });
  const button = make("button", { type: "button", className: `layer kind-${one.kind}`,
    "aria-pressed": String(one === layer), "data-layer": one.name, title: t(`kind_${one.kind}`) },
    image, make("span", { textContent: one.name }),
    make("span", { className: "dims", textContent: `${one.width}×${one.height}×${one.channels}` }));
  button.addEventListener("click", () => { pause(); choose(one); });
  return button;
}

function walkLayers(event) {
  const by = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
  if (!by) return;
  event.preventDefault();
  const buttons = [...$("layers").querySelectorAll(".layer")];
  const next = buttons[buttons.indexOf(document.activeElement) + by];
  next?.focus();
  next?.click();
}

/** Show a layer, by the channel that stands for it or by another. */
async function choose(one, number_ = one.channel, { grid = true } = {}) {
  layer = one;
  channel = number_;
  for (const button of $("layers").querySelectorAll(".layer")) {
    const chosen = button.dataset.layer === one.name;
    button.setAttribute("aria-pressed", String(chosen));
    if (chosen) {
      const row = $("layers"), middle = button.offsetLeft - row.offsetLeft - (row.clientWidth - button.offsetWidth) / 2;
      row.scrollTo({ left: middle });
    }
  }
  const place = decoder().indexOf(one);
  if (place >= 0) $("scrub").value = place;
  $("scrub").setAttribute("aria-valuetext", one.name);
  tell();
  try {
    await enlarge();
    if (grid) await openGrid();
  } catch (problem) {
    if (problem.code === "gone") return look();
    if (problem.name !== "AbortError") showProblem($("inside-state"), problem, () => choose(one, number_));
  }
}

async function enlarge() {
  const wanted = `${layer.name}/${channel}`;
  const bitmap = await createImageBitmap(await kept(wanted, () => api.channel(inside.id, layer.name, channel)));
  if (wanted !== `${layer.name}/${channel}`) return;
  const canvas = $("enlarged");
  canvas.width = bitmap.width;
  canvas.height = bitmap.height;
  canvas.getContext("2d").drawImage(bitmap, 0, 0);
  for (const cell of $("grid").children) cell.setAttribute("aria-pressed", String(Number(cell.dataset.channel) === channel));
}

/** A picture of this pass, fetched once. */
function kept(name, fetch) {
  if (!sheets.has(name)) {
    if (sheets.size > 400) sheets.clear();
    sheets.set(name, fetch());
    sheets.get(name).catch(() => sheets.delete(name));
  }
  return sheets.get(name);
}

function tell() {
  $("inside-about").textContent = t("inside_about", { w: inside.width, h: inside.height, label: className(inside.label) });
  if (!layer) return;
  const { name, kind, channels, width: w, height: h, nonzero } = layer;
  $("layer-title").textContent = t("layer_title", { layer: name, channel });
  $("layer-about").textContent = t("layer_about", { kind: t(`kind_${kind}`), channels, w, h, nonzero: number(100 * nonzero) });
  $("enlarged").setAttribute("aria-label", `${$("layer-title").textContent}. ${$("layer-about").textContent}`);
  $("grid-title").textContent = t("grid_title", { layer: name });
  $("grid").setAttribute("aria-label", $("grid-title").textContent);
  $("play").textContent = t(timer ? "pause" : "play");
}

async function openGrid() {
  const wanted = layer;
  const { channels } = await kept(`${layer.name}/table`, () => api.channels(inside.id, layer.name));
  if (wanted !== layer) return;
  table = channels;
  from = $("order").value === "index" ? Math.floor(channel / PAGE) * PAGE : 0;
  await showGrid();
}

async function showGrid() {
  if (!inside || !table.length) return;
  const order = $("order").value === "index" ? table : [...table].sort((a, b) => b.largest - a.largest);
  from = Math.max(0, Math.min(from, Math.floor((order.length - 1) / PAGE) * PAGE));
  const shown = order.slice(from, from + PAGE);
  $("earlier").disabled = from === 0;
  $("later").disabled = from + PAGE >= order.length;
  $("page").textContent = t("page_of", { from: from + 1, to: from + shown.length, all: order.length });
  const wanted = layer;
  const numbers = shown.map(({ index }) => index);
  const sheet = await createImageBitmap(
    await kept(`${layer.name}/grid/${numbers}`, () => api.grid(inside.id, layer.name, numbers)));
  if (wanted !== layer) return;
  const width = sheet.width / COLUMNS, height = sheet.height / Math.ceil(shown.length / COLUMNS);
  $("grid").replaceChildren(...numbers.map((index, place) => {
    const canvas = make("canvas", { width, height, "aria-hidden": "true" });
    canvas.style.setProperty("--ratio", width / height);
    canvas.getContext("2d").drawImage(sheet, (place % COLUMNS) * width, Math.floor(place / COLUMNS) * height,
      width, height, 0, 0, width, height);
    const cell = make("button", { type: "button", className: "cell", "data-channel": String(index),
      "aria-pressed": String(index === channel), "aria-label": t("channel_n", { n: index }) }, canvas, String(index));
    cell.addEventListener("click", () => { pause(); choose(layer, index, { grid: false }); });
    return cell;
  }));
}

/** The player. */
function step(place) {
  return choose(decoder()[place]);
}

function play() {
  let place = Number($("scrub").value);
  if (place >= decoder().length - 1) place = -1;
  const next = async () => {
    place += 1;
    if (place >= decoder().length) return pause();
    await choose(decoder()[place], undefined, { grid: place === decoder().length - 1 });
    if (timer) timer = setTimeout(next, STEP_MS);
  };
  timer = setTimeout(next, 0);
  tell();
}

function pause() {
  clearTimeout(timer);
  const played = timer !== null;
  timer = null;
  if (inside) tell();
  if (played && layer) openGrid();
}

/** Ask for a pixel's way back: the latest one, one at a time. */
function askTrace(x, y) {
  asked = { x, y };
  if (tracing || !inside) return;
  tracing = setTimeout(async () => {
    const { x, y } = asked;
    const looked = inside; // another network or picture may be looked at when the answer comes
    try {
      const given = await api.trace(looked.id, x, y);
      const reach = await pngValues(given.reach_png);
      if (looked === inside) showTrace(given, reach);
    } catch (problem) {
      if (looked === inside) {
        if (problem.code === "gone") look();
        else if (problem.code !== "busy") showProblem($("inside-state"), problem);
      }
    }
    tracing = null;
    if (asked.x !== x || asked.y !== y) askTrace(asked.x, asked.y);
  }, 90);
}

function showTrace(given, reach) {
  traced = given;
  const canvas = stage.layers.reach;
  canvas.width = reach.width;
  canvas.height = reach.height;
  const context = canvas.getContext("2d");
  const image = context.createImageData(reach.width, reach.height);
  reach.values.forEach((value, place) => image.data.set([253, 231, 37, value], 4 * place));
  context.putImageData(image, 0, 0);
  tellTrace();
  stage.mark();
}

function tellTrace() {
  $("trace-hint").textContent = traced
    ? t("trace_found", { label: className(traced.label), x: traced.x, y: traced.y, n: traced.path.length })
    : t("trace_hint");
  $("path").replaceChildren(...(traced?.path ?? []).map((one) => {
    const of = inside.layers.find(({ name }) => name === one.layer);
    const button = make("button", { type: "button", className: `kind-${of.kind}`, textContent: one.layer,
      title: t("trace_step", one), "aria-label": t("trace_step", one) });
    button.addEventListener("click", () => { pause(); choose(of, one.channel); });
    return make("li", {}, button);
  }));
}

const HUES = { max_pooling: "#ffb454", unpooling: "#d7b2ff", image: "#ffffff" };

/** The places of the way back as squares, joined by a line, from the pixel on. */
function drawPath(context, unit, scale) {
  if (!traced) return;
  const middle = ({ left, top, size }) => [(left + size / 2) * unit, (top + size / 2) * unit];
  const points = [[(traced.x + 0.5) * unit, (traced.y + 0.5) * unit], ...traced.path.map(middle)];
  for (const [color, line] of [["#000", 4], ["#fff", 1.8]]) {
    context.strokeStyle = color;
    context.lineWidth = line * scale;
    context.beginPath();
    points.forEach(([x, y], place) => (place ? context.lineTo(x, y) : context.moveTo(x, y)));
    context.stroke();
  }
  for (const one of traced.path) {
    const { kind } = inside.layers.find(({ name }) => name === one.layer);
    const side = Math.max(one.size * unit, 5 * scale);
    const [x, y] = middle(one);
    for (const [color, line] of [["#000", 4], [HUES[kind] ?? "#fff", 2]]) {
      context.strokeStyle = color;
      context.lineWidth = line * scale;
      context.strokeRect(x - side / 2, y - side / 2, side, side);
    }
  }
}
