// Small helpers for building the page; nothing here ever parses HTML.

import { known, t } from "/static/words.js";

export const $ = (id) => document.getElementById(id);

/** Make an element: properties, then children. Properties with a dash become attributes. */
export function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.includes("-") || name === "role" || name === "for") element.setAttribute(name, value);
    else element[name] = value;
  }
  element.append(...children);
  return element;
}

/** Say something to screen readers, without showing it. */
export function announce(words) {
  $("live").textContent = words;
}

/** Show a problem in place, with a way to try again; null takes it away. */
export function showProblem(place, problem, again) {
  place.replaceChildren();
  if (!problem) return;
  const key = `p_${problem.code}`;
  const words = make("div", {},
    make("strong", { textContent: known(key) ? t(key) : problem.title }),
    make("span", { textContent: problem.detail, lang: problem.lang ?? "en" }));
  const box = make("div", { className: "problem", role: "alert" }, words);
  if (again) {
    const button = make("button", { type: "button", textContent: t("again") });
    button.addEventListener("click", again);
    box.append(button);
  }
  place.append(box);
}

/** Save a blob as a file. */
export function save(blob, name) {
  const url = URL.createObjectURL(blob);
  make("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}

/** What is going on and for how long, with a button to stop it. */
export class Busy {
  constructor(place, stop) {
    this.words = make("span");
    this.bar = make("progress", { max: 1 });
    const button = make("button", { type: "button", textContent: t("stop") });
    button.addEventListener("click", stop);
    this.element = make("div", { className: "busy" },
      make("div", { className: "busy-line" }, this.words, button), this.bar);
    this.began = performance.now();
    this.what = "";
    this.delay = setTimeout(() => place.append(this.element), 250); // shorter work shows nothing
    this.clock = setInterval(() => this.tick(), 500);
  }

  show(what, share) {
    this.what = what;
    if (share === undefined) this.bar.removeAttribute("value");
    else this.bar.value = share;
    this.bar.setAttribute("aria-label", what);
    this.tick();
  }

  tick() {
    const seconds = Math.floor((performance.now() - this.began) / 1000);
    this.words.textContent = this.what + (seconds ? ` · ${t("seconds", { n: seconds })}` : "…");
  }

  end() {
    clearTimeout(this.delay);
    clearInterval(this.clock);
    this.element.remove();
  }
}
