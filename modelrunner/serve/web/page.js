"use strict";
// The key stays in this tab: no cookie carries it, so no other page can use it.
const KEY = "modelrunner-key";
const EVERY_MS = 5000;

const find = (selector, within = document) => within.querySelector(selector);

function fetched(key) {
  const headers = { Accept: "text/html" };
  if (key) headers.Authorization = `Bearer ${key}`;
  return fetch(location.pathname, { headers, cache: "no-store" });
}

async function parsed(answer) {
  return new DOMParser().parseFromString(await answer.text(), "text/html");
}

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
    const next = find("#models", await parsed(answer));
    problem.textContent = next ? "" : "The API key is no longer valid: reload the page.";
    const shown = find("#models");
    if (next && next.innerHTML !== shown.innerHTML) shown.replaceWith(next);
  } catch {
    problem.textContent = "The server does not respond.";
  }
}

function start() {
  addCopyButtons();
  setInterval(refresh, EVERY_MS);
  document.addEventListener("visibilitychange", refresh);
}

async function enter(key) {
  const page = await parsed(await fetched(key));
  if (!find("#models", page)) return false;
  sessionStorage.setItem(KEY, key);
  find("main").replaceWith(find("main", page));
  start();
  return true;
}

function askForKey(form) {
  const field = find("input", form);
  const problem = find("#problem");
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    try {
      if (await enter(field.value.trim())) {
        const first = find("h2");
        first.tabIndex = -1;
        first.focus();
        return;
      }
      problem.textContent = "Invalid API key.";
    } catch {
      problem.textContent = "The server does not respond.";
    }
    field.select();
  });
  const known = sessionStorage.getItem(KEY);
  if (known) enter(known).catch(() => {});
}

const form = find("form");
if (form) askForKey(form);
else start();
