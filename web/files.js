/* The file page: uploads of files and folders one after the other, with their progress.
   Everything here is an addition: the page's form uploads files without it. */

"use strict";

(() => {
  const form = document.querySelector("[data-upload]");
  if (!form) return;
  const csrf = document.querySelector('meta[name="csrf"]').content;
  const part = (name) => form.querySelector(`[data-part="${name}"]`);
  const button = form.querySelector('[data-action="upload"]');
  const cancel = form.querySelector('[data-action="cancel-upload"]');
  // A browser that is still sending doesn't hear why it was refused: for large files it asks before.
  const ASK_BYTES = 8 * 1024 * 1024;
  const MAX_ERRORS = 20;
  let running = null;
  let cancelled = false;

  for (const element of form.querySelectorAll("[data-needs-script]")) element.hidden = false;

  function size(bytes) {
    const units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let unit = 0;
    let value = bytes;
    while (value >= 1024 && unit < units.length - 1) {
      value /= 1024;
      unit += 1;
    }
    return `${value.toLocaleString(undefined, { maximumFractionDigits: unit && value < 100 ? 1 : 0 })} ${units[unit]}`;
  }

  function sentence(text) {
    const begun = text.charAt(0).toUpperCase() + text.slice(1);
    return /[.!/]$/.test(begun) ? begun : `${begun}.`;
  }

  // Each part of a path by itself: a name may have any character in it.
  function target(file) {
    const path = file.webkitRelativePath || file.name;
    const to = path.split("/").map(encodeURIComponent).join("/");
    const query = new URLSearchParams({ to, replace: form.elements.replace.checked ? "1" : "0" });
    return `${form.dataset.upload}?${query}`;
  }

  async function reason(status, text) {
    if (status === 401) return "you are not logged in any more: load the page again";
    try {
      return JSON.parse(text).detail || "that did not work";
    } catch {
      return status ? `the portal answered ${status}` : "the connection broke off";
    }
  }

  // Resolves to an empty text, or to why it did not work.
  async function send(file, progress) {
    if (file.size > ASK_BYTES) {
      try {
        const asked = await fetch(target(file), { headers: { Accept: "application/json" } });
        if (!asked.ok) return reason(asked.status, await asked.text());
      } catch {
        return "the portal does not answer: try again in a moment";
      }
    }
    return new Promise((resolve) => {
      const request = new XMLHttpRequest();
      running = request;
      request.open("PUT", target(file));
      request.setRequestHeader("X-CSRF-Token", csrf);
      request.setRequestHeader("Accept", "application/json");
      request.setRequestHeader("Content-Type", "application/octet-stream");
      request.upload.addEventListener("progress", (event) => progress(event.loaded));
      request.addEventListener("load", async () => {
        resolve(request.status === 201 ? "" : await reason(request.status, request.responseText));
      });
      request.addEventListener("error", () => resolve("the connection broke off"));
      request.addEventListener("abort", () => resolve("cancelled"));
      request.send(file);
    });
  }

  function complain(name, text) {
    const errors = part("errors");
    if (errors.childElementCount >= MAX_ERRORS) return;
    const item = document.createElement("li");
    item.textContent = `${name}: ${sentence(text)}`;
    errors.append(item);
  }

  async function uploadAll(files) {
    const total = files.reduce((sum, file) => sum + file.size, 0);
    let before = 0;
    let done = 0;
    let failed = 0;
    for (const file of files) {
      const name = file.webkitRelativePath || file.name;
      const show = (loaded) => {
        const bytes = before + Math.min(loaded, file.size);
        part("progress").value = total ? bytes / total : done / files.length;
        part("text").textContent =
          `${name} – file ${done + failed + 1} of ${files.length}, ${size(bytes)} of ${size(total)}`;
      };
      show(0);
      const problem = await send(file, show);
      if (cancelled) break;
      if (problem) {
        failed += 1;
        complain(name, problem);
      } else {
        done += 1;
      }
      before += file.size;
    }
    return { done, failed };
  }

  window.addEventListener("beforeunload", (event) => {
    if (running) event.preventDefault();
  });

  cancel.addEventListener("click", () => {
    cancelled = true;
    if (running) running.abort();
  });

  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (button.disabled) return;
    const files = [...form.elements.files.files, ...form.elements.folder.files];
    part("errors").replaceChildren();
    part("state").hidden = false;
    if (!files.length) {
      part("progress").hidden = true;
      part("text").textContent = "Choose files or a folder first.";
      return;
    }
    part("progress").hidden = false;
    button.disabled = true;
    cancel.hidden = false;
    cancelled = false;
    const { done, failed } = await uploadAll(files);
    running = null;
    button.disabled = false;
    cancel.hidden = true;
    if (!failed && !cancelled) {
      location.reload();
      return;
    }
    part("text").textContent =
      `${done} of ${files.length} uploaded${cancelled ? ", then cancelled" : ""}. Load the page again to see them.`;
  });
})();
