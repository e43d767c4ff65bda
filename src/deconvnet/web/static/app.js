// The page: views, language, colours; everything else is in the modules it opens.

import * as api from "/static/api.js";
import { openCompare, showCompare } from "/static/compare.js";
import { $, make, showProblem } from "/static/dom.js";
import { openInside, showInside } from "/static/inside.js";
import { onPicture, openSource, picture } from "/static/picture.js";
import { openSegment, showSegment } from "/static/segment.js";
import { onLanguage, short, switchLanguage, t, translatePage } from "/static/words.js";

const VIEWS = { segment: showSegment, compare: showCompare, inside: showInside };
const THEMES = ["auto", "light", "dark"];

let view = "segment";

function openPreferences() {
  let theme = THEMES.includes(localStorage.getItem("theme")) ? localStorage.getItem("theme") : "auto";
  const apply = () => {
    document.documentElement.dataset.theme = theme;
    $("theme").setAttribute("aria-label", t(`theme_${theme}`));
    $("theme").title = t(`theme_${theme}`);
  };
  $("theme").addEventListener("click", () => {
    theme = THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length];
    localStorage.setItem("theme", theme);
    apply();
  });
  $("language").addEventListener("click", switchLanguage);
  onLanguage(() => {
    translatePage();
    const korean = document.documentElement.lang === "ko";
    $("language").textContent = korean ? "English" : "한국어";
    $("language").lang = korean ? "en" : "ko";
    apply();
  });
}

function openTabs() {
  const tabs = [...document.querySelectorAll(".tab")];
  const show = (name) => {
    view = name;
    for (const tab of tabs) {
      const chosen = tab.id === `tab-${name}`;
      tab.setAttribute("aria-selected", String(chosen));
      tab.tabIndex = chosen ? 0 : -1;
      $(`panel-${tab.id.slice("tab-".length)}`).hidden = !chosen || !picture();
    }
    if (picture()) VIEWS[name]();
  };
  for (const tab of tabs) tab.addEventListener("click", () => {
    history.replaceState(null, "", `#${tab.id.slice("tab-".length)}`);
    show(tab.id.slice("tab-".length));
  });
  tabs[0].parentElement.addEventListener("keydown", (event) => {
    const by = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!by) return;
    const next = tabs[(tabs.findIndex((tab) => tab.id === `tab-${view}`) + by + tabs.length) % tabs.length];
    next.focus();
    next.click();
  });
  onPicture(() => show(view));
  show(location.hash.slice(1) in VIEWS ? location.hash.slice(1) : "segment");
}

function fillModels(models) {
  for (const id of ["segment-model", "first-model", "second-model", "inside-model"])
    $(id).replaceChildren(...models.map(({ name }) => make("option", { value: name, textContent: name })));
  const describe = () => {
    const { network, parameters, data } = models.find(({ name }) => name === $("segment-model").value);
    const words = [t("about_network", { network, parameters: short(parameters) })];
    if (data) words.push(t("learnt_from", { data }));
    $("segment-about").textContent = words.join(" · ");
  };
  $("segment-model").addEventListener("change", describe);
  onLanguage(describe);
  return describe;
}

async function open() {
  openPreferences();
  showProblem($("source-problem"), null);
  try {
    const [{ models, limits }, { version }] = await Promise.all([api.models(), api.health()]);
    onLanguage(() => { $("version").textContent = t("version", { v: version }); });
    $("proposals").max = Math.max(5, Math.min(50, limits.proposals));
    const describe = fillModels(models);
    openSegment(models);
    $("inside-model").addEventListener("change", describe); // openSegment has taken the choice over
    openCompare(models);
    openInside();
    openTabs();
    await openSource();
  } catch (problem) {
    showProblem($("source-problem"), problem.detail ? problem : { code: "fault", title: "", detail: String(problem) }, () => location.reload());
    if (!problem.detail) throw problem;
  }
}

open();
