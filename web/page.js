/* What every page has: a menu that closes, buttons that copy what is shown once, and forms that a
   double click sends once.
   Everything here is an addition: the pages work without it. */

"use strict";

(() => {
  document.addEventListener("keydown", (event) => {
    const menu = document.querySelector(".account[open]");
    if (event.key === "Escape" && menu) {
      menu.open = false;
      menu.querySelector("summary").focus();
    }
  });
  document.addEventListener("click", (event) => {
    const menu = document.querySelector(".account[open]");
    if (menu && !menu.contains(event.target)) menu.open = false;
  });

  // Whoever logs in in one tab is logged in in all: those that ask for it load again.
  if ("BroadcastChannel" in window) {
    const channel = new BroadcastChannel("dit4c login");
    if (document.querySelector("[data-login-page]")) {
      channel.addEventListener("message", () => location.reload());
    } else if (document.querySelector(".account, [data-logged-in]")) {
      channel.postMessage("in");
    }
  }

  // On a slow line the second click of two would invite somebody twice, or use up a login link.
  const TWICE_MS = 2000;
  const sent = new WeakMap();
  document.addEventListener("submit", (event) => {
    const form = event.target;
    if (event.defaultPrevented || form.method !== "post") return;
    if (event.timeStamp - sent.get(form) < TWICE_MS) event.preventDefault();
    else sent.set(form, event.timeStamp);
  });

  // Times are written in UTC; here they are shown in the reader's own zone. Days alone stay.
  const zoned = new Intl.DateTimeFormat(undefined, {
    day: "numeric", month: "short", year: "numeric", hour: "2-digit", minute: "2-digit",
  });
  for (const time of document.querySelectorAll("time[datetime]")) {
    const at = new Date(time.dateTime);
    if (time.dataset.part || !time.textContent.includes(":") || Number.isNaN(at.getTime())) continue;
    time.title = `${time.textContent.replace(/ UTC$/, "")} UTC`;
    time.textContent = zoned.format(at);
    const after = time.nextSibling;
    if (after?.nodeType === Node.TEXT_NODE) after.data = after.data.replace(/^\s*UTC\b/, "");
  }
  for (const label of document.querySelectorAll("th, dt")) {
    const first = label.firstChild;
    if (!first || /^(Last day|Ends)/.test(label.textContent)) continue;
    const text = label.lastElementChild ?? label;
    if (text.textContent.endsWith(" (UTC)")) text.textContent = text.textContent.slice(0, -6);
  }

  // On a small screen a row is a card, and each cell says what it is.
  for (const table of document.querySelectorAll("table.cards")) {
    const titles = [...table.tHead.rows[0].cells].map((cell) => cell.textContent.trim());
    for (const row of table.tBodies[0].rows) {
      [...row.cells].forEach((cell, column) => {
        if (cell.tagName === "TD" && !cell.matches(".cell-action")) cell.dataset.label = titles[column];
      });
    }
  }

  for (const button of document.querySelectorAll("[data-copy]")) {
    const source = document.getElementById(button.dataset.copy);
    if (!source || !navigator.clipboard) continue;
    button.hidden = false;
    button.addEventListener("click", async () => {
      try {
        await navigator.clipboard.writeText(source.value);
        button.textContent = "Copied";
      } catch {
        source.select();
      }
    });
  }
})();
