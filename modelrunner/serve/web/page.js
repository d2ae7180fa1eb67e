"use strict";
// The key stays here: no cookie carries it, so no page of another address can use it.
const KEY = "modelrunner-key";
// where the chat keeps its settings
const CHAT = "LlamaUi.config";
const EVERY_MS = 5000;

const find = (selector, within = document) => within.querySelector(selector);

function fetched(key) {
  const headers = { Accept: "text/html" };
  if (key) headers.Authorization = `Bearer ${key}`;
  return fetch(location.pathname, { headers, cache: "no-store" });
}

const parsed = (text) => new DOMParser().parseFromString(text, "text/html");
// the chat's page is not parsed here: its styles are against the rules of this one
const asksForKey = (text) => text.includes("modelrunner-key") && !find("#models", parsed(text));

function addCopyButtons() {
  for (const text of document.querySelectorAll("pre[id]")) {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = "Copy";
    button.setAttribute("aria-describedby", text.id);
    button.addEventListener("click", async () => {
      button.textContent = (await copied(text)) ? "Copied" : "Selected";
      setTimeout(() => { button.textContent = "Copy"; }, 2000);
      find("#said").textContent = button.textContent;
    });
    text.after(button);
  }
}

async function copied(element) {
  try {
    await navigator.clipboard.writeText(element.textContent);
    return true;
  } catch {
    // the clipboard is for https and loopback alone
    const range = document.createRange();
    range.selectNodeContents(element);
    const selection = getSelection();
    selection.removeAllRanges();
    selection.addRange(range);
    return false;
  }
}

async function refresh() {
  if (document.hidden) return;
  const problem = find("#problem");
  try {
    const answer = await fetched(sessionStorage.getItem(KEY));
    const next = find("#models", parsed(await answer.text()));
    problem.textContent = next ? "" : "The API key is no longer valid: reload the page.";
    const shown = find("#models");
    if (next && next.innerHTML !== shown.innerHTML) shown.replaceWith(next);
  } catch {
    problem.textContent = "The server does not respond.";
  }
}

function start() {
  addCopyButtons();
  document.addEventListener("click", (event) => {
    if (event.target.closest(".chat")) handToChat();
  });
  setInterval(refresh, EVERY_MS);
  document.addEventListener("visibilitychange", refresh);
}

function handToChat() {
  const key = sessionStorage.getItem(KEY);
  if (!key) return;
  let settings = {};
  try {
    settings = JSON.parse(localStorage.getItem(CHAT)) ?? {};
  } catch {
    // written by something else
  }
  localStorage.setItem(CHAT, JSON.stringify({ ...settings, apiKey: key }));
}

async function enter(key) {
  const answer = await fetched(key);
  const text = await answer.text();
  if (!answer.ok) throw new Error(find("#problem", parsed(text))?.textContent);
  if (asksForKey(text)) return false;
  sessionStorage.setItem(KEY, key);
  if (location.pathname !== "/") {
    // the chat: another page, with rules of its own
    handToChat();
    location.reload();
    return true;
  }
  find("main").replaceWith(find("main", parsed(text)));
  start();
  return true;
}

function askForKey(form) {
  const field = find("input", form);
  const problem = find("#problem");
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    try {
      problem.textContent = location.pathname === "/" ? "" : "Loading the model…";
      if (await enter(field.value.trim())) {
        if (!find("#models")) return;
        const first = find("h2");
        first.tabIndex = -1;
        first.focus();
        return;
      }
      problem.textContent = "Invalid API key.";
    } catch (error) {
      problem.textContent = error.message || "The server does not respond.";
    }
    field.select();
  });
  const known = sessionStorage.getItem(KEY);
  if (known) enter(known).catch(() => {});
}

const form = find("form");
if (form) askForKey(form);
else if (find("#models")) start();
