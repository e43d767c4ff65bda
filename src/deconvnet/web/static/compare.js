// Compare: two networks on one picture, with a divider between them.

import * as api from "/static/api.js";
import { $, announce, make } from "/static/dom.js";
import { picture } from "/static/picture.js";
import { resultOf } from "/static/segment.js";
import { Stage, paint, readings } from "/static/stage.js";
import { className, onLanguage, percent, t } from "/static/words.js";

let stage, models, answer = null, results = null, running = null, shownFor = null;
let handle, tags;

/** Set the view up. */
export function openCompare(known) {
  models = known;
  stage = new Stage($("compare-stage"), { layers: ["first", "second"] });
  stage.setOpacity(0.6);
  stage.frame.classList.add("divides");
  handle = make("div", { className: "handle", "aria-hidden": "true" });
  tags = ["first", "second"].map((side) => make("span", { className: `tag ${side}`, "aria-hidden": "true" }));
  stage.frame.insertBefore(handle, stage.readout);
  stage.frame.append(...tags);
  stage.describe = (x, y) => results &&
    readings(x, y, results.map((result) => ({ result, title: result.answer.model })));
  $("second-model").value = (models.slice(1).find(akin) ?? models.at(-1)).name;
  for (const id of ["first-model", "second-model", "compare-crf"]) $(id).addEventListener("change", compare);
  $("differences").addEventListener("change", repaint);
  $("divider").addEventListener("input", divide);
  $("compare-opacity").addEventListener("input", () => {
    stage.setOpacity($("compare-opacity").value / 100);
    $("compare-opacity-value").textContent = `${$("compare-opacity").value} %`;
  });
  dragDivider();
  divide();
  onLanguage(tell);
}

/** Whether a network tells apart the same classes as the first. */
const akin = ({ classes }) => classes.length === models[0].classes.length &&
  classes.every(({ name }, index) => name === models[0].classes[index].name);

function dragDivider() {
  const move = (event) => {
    const box = stage.frame.getBoundingClientRect();
    $("divider").value = Math.round((100 * (event.clientX - box.left)) / box.width);
    divide();
  };
  stage.frame.addEventListener("pointerdown", (event) => {
    if (event.target.closest(".busy")) return;
    stage.frame.setPointerCapture(event.pointerId);
    move(event);
  });
  stage.frame.addEventListener("pointermove", (event) => event.buttons && move(event));
}

function divide() {
  const share = $("divider").value;
  stage.layers.first.style.clipPath = `inset(0 ${100 - share}% 0 0)`;
  stage.layers.second.style.clipPath = `inset(0 0 0 ${share}%)`;
  handle.style.left = `${share}%`;
}

/** Show the current picture, if it is not shown already. */
export function showCompare() {
  if (models.length < 2) {
    $("compare-stage").replaceChildren(make("p", { className: "problem", textContent: t("one_network") }));
    return;
  }
  if (!picture() || shownFor === picture()) return;
  stage.setPicture(picture());
  compare();
}

async function compare() {
  if (!picture()) return;
  running?.abort();
  const controller = (running = new AbortController());
  shownFor = picture();
  stage.fail(null);
  const busy = stage.busy(() => controller.abort());
  busy.show(t("comparing"));
  answer = results = null;
  repaint();
  tell();
  const names = [$("first-model").value, $("second-model").value];
  try {
    const given = await api.compare(picture(), { models: names.join(","), crf: $("compare-crf").checked }, controller.signal);
    const made = await Promise.all(given.results.map(resultOf));
    if (running !== controller) return;
    [answer, results] = [given, made];
    repaint();
    tell();
    if (answer.agreement !== null) announce(`${$("agreement").textContent} ${t("agree_hint")}`);
  } catch (problem) {
    if (running === controller && problem.name !== "AbortError") stage.fail(problem, compare);
  } finally {
    if (running === controller) stage.rest();
  }
}

function repaint() {
  if (!results) {
    for (const name of ["first", "second"]) stage.clear(name);
    return;
  }
  const [first, second] = results;
  const same = first.classes.map(({ name }) => second.classes.findIndex((other) => other.name === name));
  const differs = $("differences").checked ? first.mask.map((known, place) => same[known] !== second.mask[place]) : null;
  ["first", "second"].forEach((name, side) => {
    const { background } = models.find((model) => model.name === results[side].answer.model);
    const hidden = new Set(background === null || differs ? [] : [background]);
    paint(stage.layers[name], results[side], { hidden, differs });
  });
}

function tell() {
  const names = [$("first-model").value, $("second-model").value];
  [$("left-name").textContent, $("right-name").textContent] = names;
  tags.forEach((tag, side) => { tag.textContent = names[side]; });
  const agreed = answer?.agreement;
  $("agreement").textContent = answer && agreed !== null ? percent(agreed) : "–";
  $("agreement-hint").textContent = answer ? t(agreed === null ? "no_common" : "agree_hint") : "";
  $("shares").replaceChildren();
  if (results) listShares();
}

function listShares() {
  const [first, second] = results;
  const rows = new Map();
  results.forEach(({ classes }, side) => {
    for (const { name, color, share } of classes) {
      const row = rows.get(name) ?? { name, color, shares: [null, null] };
      row.shares[side] = share;
      rows.set(name, row);
    }
  });
  const shown = [...rows.values()].filter(({ shares }) => shares.some((share) => share > 0))
    .sort((a, b) => Math.max(...b.shares) - Math.max(...a.shares));
  const head = make("tr", {}, ...[t("class_word"), first.answer.model, second.answer.model].map(
    (textContent) => make("th", { scope: "col", textContent, title: textContent })));
  const body = shown.map(({ name, color, shares }) => {
    const swatch = make("span", { className: "swatch" });
    swatch.style.background = color;
    return make("tr", {}, make("th", { scope: "row" }, swatch, className(name)),
      ...shares.map((share) => make("td", { textContent: share === null ? "–" : percent(share) })));
  });
  $("shares").append(make("thead", {}, head), make("tbody", {}, ...body));
}
