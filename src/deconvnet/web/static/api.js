// The server, as functions. Whatever goes wrong is thrown as a Problem.

import { $ } from "/static/dom.js";
import { currentLanguage, t } from "/static/words.js";

/** An error of the server or of the way to it: problem details. */
export class Problem extends Error {
  constructor(details) {
    super(details.detail);
    Object.assign(this, details);
  }
}

let token = takeToken();

function takeToken() {
  const given = new URLSearchParams(location.hash.slice(1)).get("token");
  if (given) {
    sessionStorage.setItem("token", given);
    history.replaceState(null, "", location.pathname);
  }
  return sessionStorage.getItem("token");
}

async function call(path, options = {}) {
  const headers = token ? { Authorization: `Bearer ${token}` } : {};
  let response;
  try {
    response = await fetch(path, { ...options, headers });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem({
      code: "unreachable", title: t("p_unreachable"), detail: t("p_unreachable_more"), lang: currentLanguage(),
    });
  }
  if (response.ok) return response;
  const details = await response.json().catch(() => ({
    code: "fault", title: response.statusText, detail: `${response.status}`,
  }));
  if (response.status === 401 && (await askToken())) return call(path, options);
  throw new Problem(details);
}

let asking = null;

function askToken() {
  asking ??= new Promise((answered) => {
    const dialog = $("token-dialog");
    dialog.addEventListener("close", () => {
      token = $("token").value.trim();
      sessionStorage.setItem("token", token);
      $("token").value = "";
      asking = null;
      answered(Boolean(token));
    }, { once: true });
    dialog.showModal();
  });
  return asking;
}

function form(picture, fields) {
  const body = new FormData();
  for (const [name, value] of Object.entries(fields)) body.append(name, String(value));
  body.append("image", picture.blob, "picture");
  return body;
}

const json = async (path, options) => (await call(path, options)).json();

export const health = () => json("/healthz");
export const models = () => json("/api/models");
export const examples = () => json("/api/examples");
export const blob = async (path, signal) => (await call(path, { signal })).blob();

export const segment = (picture, fields, signal) =>
  json("/api/segment", { method: "POST", body: form(picture, { ...fields, confidence: true }), signal });

export const compare = (picture, fields, signal) =>
  json("/api/compare", { method: "POST", body: form(picture, fields), signal });

export const explain = (picture, model, signal) =>
  json("/api/explain", { method: "POST", body: form(picture, { model }), signal });

export const channels = (id, layer, signal) =>
  json(`/api/explain/${id}/${encodeURIComponent(layer)}`, { signal });

export const trace = (id, x, y, signal) => json(`/api/explain/${id}/trace?x=${x}&y=${y}`, { signal });

export const grid = (id, layer, numbers, signal) =>
  blob(`/api/explain/${id}/${encodeURIComponent(layer)}/grid.png?channels=${numbers}`, signal);

export const channel = (id, layer, number, signal) =>
  blob(`/api/explain/${id}/${encodeURIComponent(layer)}/${number}.png`, signal);

/** The picture as the server reads it, for formats that browsers cannot show. */
export async function readable(file) {
  const response = await call("/api/picture", { method: "POST", body: form({ blob: file }, {}) });
  return response.blob();
}

/** The events of a map that grows, as [name, values]; stops with the signal. */
export async function* proposals(picture, fields, signal) {
  const response = await call("/api/proposals", { method: "POST", body: form(picture, fields), signal });
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    text += value;
    const events = text.split("\n\n");
    text = events.pop();
    for (const event of events) {
      const [first, second] = event.split("\n");
      const name = first.slice("event: ".length);
      const values = JSON.parse(second.slice("data: ".length));
      if (name === "problem") throw new Problem(values);
      yield [name, values];
    }
  }
}
