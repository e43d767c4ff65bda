// The picture everything is done to: dropped, pasted, chosen, photographed or drawn.

import * as api from "/static/api.js";
import { $, Busy, announce, make, showProblem } from "/static/dom.js";
import { onLanguage, t } from "/static/words.js";

const COMFORTABLE = 1_000_000; // pixels; larger pictures are reduced unless asked otherwise

const listeners = new Set();
let current = null;
let latest = 0;

/** The picture: {blob, bitmap, width, height, name}; null before there is one. */
export const picture = () => current;

/** Call `listener` with every new picture. */
export const onPicture = (listener) => listeners.add(listener);

/** Set up the ways to a picture. */
export async function openSource() {
  for (const [button, input] of [["choose", "file"], ["photograph", "camera"]]) {
    $(button).addEventListener("click", () => $(input).click());
    $(input).addEventListener("change", () => {
      if ($(input).files[0]) take($(input).files[0]);
      $(input).value = "";
    });
  }
  takeDropped();
  addEventListener("paste", (event) => {
    const file = [...(event.clipboardData?.files ?? [])][0];
    if (file) take(file);
  });
  onLanguage(() => current && note());
  await showExamples();
}

function takeDropped() {
  let inside = 0;
  const dragging = (by) => {
    inside = Math.max(0, inside + by);
    document.body.classList.toggle("dragging", inside > 0);
  };
  addEventListener("dragenter", () => dragging(1));
  addEventListener("dragleave", () => dragging(-1));
  addEventListener("dragover", (event) => event.preventDefault());
  addEventListener("drop", (event) => {
    event.preventDefault();
    inside = 0;
    dragging(0);
    const file = event.dataTransfer.files[0];
    if (file) take(file);
  });
}

async function showExamples() {
  const examples = await api.examples();
  const buttons = examples.map(({ url, width, height }, index) => {
    const image = make("img", { width, height });
    const button = make("button", { type: "button", "aria-pressed": "false" }, image);
    onLanguage(() => { image.alt = t("example", { n: index + 1 }); });
    const loaded = api.blob(url).then((blob) => {
      image.src = URL.createObjectURL(blob);
      return blob;
    });
    loaded.catch(() => button.remove());
    button.addEventListener("click", async () => take(await loaded, { name: t("example", { n: index + 1 }), button }));
    return button;
  });
  $("examples").replaceChildren(...buttons.map((button) => make("li", {}, button)));
}

/** Take a file as the picture; `full` keeps its size whatever it is. */
async function take(file, { name = file.name ?? "", full = false, button = null } = {}) {
  const turn = ++latest;
  showProblem($("source-problem"), null);
  const busy = new Busy($("source-problem"), () => { latest++; busy.end(); });
  busy.show(t("opening"));
  try {
    const shown = await createImageBitmap(file).catch(async () => {
      const readable = await api.readable(file);
      file = readable;
      return createImageBitmap(readable);
    });
    const made = await fitted(file, shown, full);
    if (turn !== latest) return;
    current = { ...made, name, file, original: [shown.width, shown.height] };
  } catch (problem) {
    if (turn === latest) showProblem($("source-problem"), problem.detail ? problem : unreadable(problem));
    return;
  } finally {
    busy.end();
  }
  for (const other of $("examples").querySelectorAll("button"))
    other.setAttribute("aria-pressed", String(other === button));
  document.body.classList.add("has-picture");
  note();
  announce($("picture-note").textContent);
  for (const listener of listeners) listener(current);
}

const unreadable = (error) => ({ code: "picture", title: "", detail: String(error.message ?? error) });

/** The picture with its pixels, reduced if it is large; small ones are sent byte for byte. */
async function fitted(file, bitmap, full) {
  const { width, height } = bitmap;
  const factor = Math.sqrt(COMFORTABLE / (width * height));
  if (full || factor >= 1) return { blob: file, bitmap, width, height };
  const canvas = new OffscreenCanvas(Math.round(width * factor), Math.round(height * factor));
  const context = canvas.getContext("2d");
  context.imageSmoothingQuality = "high";
  context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  const blob = await canvas.convertToBlob({ type: "image/png" });
  return { blob, bitmap: await createImageBitmap(blob), width: canvas.width, height: canvas.height };
}

function note() {
  const { name, width: rw, height: rh, original: [w, h], file } = current;
  const reduced = rw !== w;
  const words = t(reduced ? "reduced" : "sized", { name: name || t("source"), w, h, rw, rh });
  $("picture-note").replaceChildren(words);
  if (reduced) {
    const button = make("button", { type: "button", className: "quiet", textContent: t("full_size") });
    button.addEventListener("click", () => take(file, { name, full: true }));
    $("picture-note").append(" ", button);
  }
  $("picture-note").hidden = false;
}
