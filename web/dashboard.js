/* The dashboard, live: rows follow the portal's events, buttons work without a reload.
   Everything here is an addition: the page's forms and links do the same without it. */

"use strict";

(() => {
  const byId = (id) => document.getElementById(id);
  const list = byId("instances");
  const dialog = byId("confirm");
  const csrf = document.querySelector('meta[name="csrf"]').content;
  let discarding = null;
  // The number of the newest view of each instance, also of those that are gone: an answer and an
  // event may arrive in either order, and the older one says nothing any more.
  const versions = new Map();
  // The newest view of each instance that has a row, the oldest instance last.
  let views = new Map();

  // ---- rows

  const rowOf = (id) => list.querySelector(`[data-instance="${CSS.escape(id)}"]`);
  const parts = (row, name) => row.querySelectorAll(`[data-part="${name}"]`);
  const heading = (row) => row.querySelector("h2");

  function setText(row, name, text) {
    for (const element of parts(row, name)) {
      if (element.textContent !== text) element.textContent = text;
    }
  }

  // In the reader's own time zone and language; the day is left out while it is today.
  function moment(at) {
    const today = at.toDateString() === new Date().toDateString();
    const day = today ? {} : { day: "numeric", month: "short" };
    return new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", ...day }).format(at);
  }

  function fill(row, it) {
    row.dataset.instance = it.id;
    row.dataset.version = it.version;
    row.dataset.state = it.state;
    row.dataset.tone = it.tone;
    row.dataset.busy = it.busy ? "yes" : "no";
    setText(row, "icon", it.icon);
    const [picture] = parts(row, "picture");
    picture.hidden = !it.picture;
    parts(row, "icon")[0].hidden = Boolean(it.picture);
    if (it.picture && picture.getAttribute("src") !== it.picture) picture.src = it.picture;
    setText(row, "name", it.name);
    setText(row, "word", it.word);
    setText(row, "tool", it.tool);
    setText(row, "info", it.info);
    setText(row, "log", it.log);
    setText(row, "machine", it.machine);
    showMemory(row, it.memory);
    setText(row, "age-word", it.word);
    parts(row, "machine-box")[0].hidden = !it.machine;
    parts(row, "age")[0].dateTime = it.changed;
    showAge(row);
    parts(row, "live-log")[0].hidden = Boolean(it.log) || !it.logs;
    parts(row, "log-link")[0].href = `/instances/${encodeURIComponent(it.id)}/log`;
    parts(row, "lent")[0].hidden = !it.lender;
    setText(row, "lender", it.lender);
    parts(row, "consent")[0].href = it.consent;
    parts(row, "log-box")[0].hidden = !it.log;

    const progress = parts(row, "progress")[0];
    progress.hidden = !it.busy;
    progress.setAttribute("aria-label", `Progress of ${it.name}`);
    if (it.progress === null) progress.removeAttribute("value");
    else progress.value = it.progress;

    const checkpoint = it.checkpoint ?? { busy: false, info: "", progress: null, at: null };
    parts(row, "checkpoint-box")[0].hidden = !checkpoint.info && !checkpoint.at;
    setText(row, "checkpoint-info", checkpoint.info);
    parts(row, "checkpoint-at-box")[0].hidden = !checkpoint.at;
    const at = parts(row, "checkpoint-at")[0];
    at.dateTime = checkpoint.at ?? "";
    setText(row, "checkpoint-at", checkpoint.at ? moment(new Date(checkpoint.at)) : "");
    const goOn = parts(row, "go-on-at")[0];
    goOn.dateTime = at.dateTime;
    goOn.textContent = at.textContent;
    parts(row, "kept-box")[0].hidden = it.kept_on.length === 0;
    setText(row, "kept", it.kept_on.join(", "));
    row.querySelector('[data-action="kept"]').href = `/instances/${encodeURIComponent(it.id)}/kept`;
    const saving = parts(row, "checkpoint-progress")[0];
    saving.hidden = !checkpoint.busy;
    saving.setAttribute("aria-label", `Progress of the checkpoint of ${it.name}`);
    if (checkpoint.progress === null) saving.removeAttribute("value");
    else saving.value = checkpoint.progress;

    const open = row.querySelector('[data-action="open"]');
    open.hidden = !it.actions.includes("open");
    if (it.url) open.href = it.url;
    else open.removeAttribute("href");
    for (const form of row.querySelectorAll("[data-wish]")) {
      form.hidden = !it.actions.includes(form.dataset.wish);
      form.action = `/instances/${encodeURIComponent(it.id)}/${form.dataset.wish}`;
    }
    parts(row, "checkpoints-box")[0].hidden = !it.actions.includes("checkpoint");
    row.querySelector('[data-action="checkpoints"]').href = `/instances/${encodeURIComponent(it.id)}/checkpoints`;
    const saved = row.querySelector('[data-action="saved"]');
    saved.hidden = !it.actions.includes("copy");
    saved.href = `/instances/${encodeURIComponent(it.id)}/saved`;
    const rename = row.querySelector('[data-action="rename"]');
    rename.hidden = !it.actions.includes("discard");
    rename.href = `/instances/${encodeURIComponent(it.id)}/rename`;
    const discard = row.querySelector('[data-action="discard"]');
    discard.hidden = !it.actions.includes("discard");
    discard.href = `/instances/${encodeURIComponent(it.id)}/discard`;
  }

  function showMemory(row, text) {
    parts(row, "memory-box")[0].hidden = !text;
    setText(row, "memory", text);
  }

  // How long a state has lasted: to the second while something is going on.
  function span(seconds, exact) {
    const s = Math.max(0, Math.floor(seconds));
    if (s < 60) return exact ? `${s} s` : "less than a minute";
    const m = Math.floor(s / 60);
    if (m < 60) return exact ? `${m} min ${s % 60} s` : `${m} min`;
    const h = Math.floor(m / 60);
    if (h < 48) return `${h} h ${m % 60} min`;
    return `${Math.floor(h / 24)} days`;
  }

  function showAge(row) {
    const age = parts(row, "age")[0];
    if (!age.dateTime) return;
    const at = new Date(age.dateTime);
    const busy = row.dataset.busy === "yes";
    const text = `${moment(at)} (${span((Date.now() - at) / 1000, busy)})`;
    if (age.textContent !== text) age.textContent = text;
  }

  setInterval(() => {
    if (document.hidden) return;
    for (const row of list.querySelectorAll("[data-instance]")) showAge(row);
  }, 1000);

  // ---- the log of a row, for as long as its drawer is open

  const LOG_AGAIN_MS = 2000;

  async function followLog(box) {
    const row = box.closest("[data-instance]");
    const text = box.querySelector('[data-part="live-text"]');
    if (!text.textContent) text.textContent = "Asking the machine…";
    while (box.open && box.isConnected && !box.hidden) {
      if (!document.hidden) {
        try {
          const answer = await fetch(`/instances/${encodeURIComponent(row.dataset.instance)}/log`, {
            headers: { Accept: "application/json" },
          });
          const said = await answer.json();
          const now = answer.ok ? said.text || "Nothing was written to the log yet." : said.detail;
          if (text.textContent !== now) {
            const atEnd = text.scrollHeight - text.scrollTop - text.clientHeight < 40;
            text.textContent = now;
            if (atEnd) text.scrollTop = text.scrollHeight;
          }
        } catch {
          text.textContent = "The portal does not answer. Trying again…";
        }
      }
      await new Promise((again) => { setTimeout(again, LOG_AGAIN_MS); });
    }
  }

  list.addEventListener("toggle", (event) => {
    if (event.target.matches('[data-part="live-log"]') && event.target.open) followLog(event.target);
  }, true);

  // ---- done

  const SAID_MS = 6000;
  let saidTimer = null;

  function say(text) {
    const said = byId("said");
    said.textContent = text;
    said.hidden = false;
    clearTimeout(saidTimer);
    saidTimer = setTimeout(() => { said.hidden = true; }, SAID_MS);
  }

  const SAID = {
    checkpoint: "Done: a checkpoint is being made while it runs.",
    start: "Done: it is being started again.",
    "new-key": "Done: it gets a new key.",
    stop: "Done: it is being stopped.",
    copy: "Done: the copy is being started.",
    save: "Done: it is being stopped and saved.",
  };

  function announce(text) {
    byId("announcer").textContent = text;
  }

  function remove(row) {
    const focused = row.contains(document.activeElement);
    row.remove();
    if (focused) byId("mine").focus();
  }

  function show(it) {
    if (it.version < (versions.get(it.id) ?? 0)) return;
    versions.set(it.id, it.version);
    if (it.gone) views.delete(it.id);
    else if (views.has(it.id)) views.set(it.id, it);
    else views = new Map([[it.id, it], ...views]);
    let row = rowOf(it.id);
    if (it.gone) {
      if (row) {
        remove(row);
        announce(`${it.name} is gone.`);
      }
    } else {
      const before = row ? parts(row, "word")[0].textContent : "";
      if (!row) {
        row = byId("pattern").content.firstElementChild.cloneNode(true);
        list.prepend(row);
      }
      fill(row, it);
      if (before !== it.word) announce(`${it.name}: ${it.word}. ${it.info}`);
    }
    byId("empty").hidden = list.querySelector("[data-instance]") !== null;
  }

  // What a row says of its memory is of no version: nothing else of the instance has changed.
  function remember({ id, memory }) {
    const it = views.get(id);
    if (it) it.memory = memory;
    const row = rowOf(id);
    if (row) showMemory(row, memory);
  }

  function showAll(all) {
    const known = new Set(all.map((it) => it.id));
    for (const row of list.querySelectorAll("[data-instance]")) {
      if (!known.has(row.dataset.instance)) {
        views.delete(row.dataset.instance);
        remove(row);
      }
    }
    for (const it of all.reverse()) show(it);
    byId("empty").hidden = list.querySelector("[data-instance]") !== null;
  }

  for (const row of list.querySelectorAll("[data-instance]")) {
    versions.set(row.dataset.instance, Number(row.dataset.version));
    showAge(row);
  }

  // ---- files

  async function showUsage(line) {
    try {
      const answer = await fetch("/files/usage", { headers: { Accept: "application/json" } });
      if (answer.status !== 200) return;
      const said = await answer.json();
      line.querySelector('[data-part="usage"]').textContent = said.text;
      line.querySelector("meter").value = said.fraction;
      line.hidden = false;
    } catch {
      // It is shown the next time that the page is loaded.
    }
  }

  // ---- events

  const SHOWN_OFFLINE_MS = 2000;
  let offlineTimer = null;

  window.followEvents({
    url: "/events",
    key: csrf,
    names: ["all", "instance", "memory", "session"],
    show(name, data) {
      if (name === "session") location.reload();
      else if (name === "memory") remember(JSON.parse(data));
      else if (name === "all") showAll(JSON.parse(data));
      else show(JSON.parse(data));
    },
    snapshot: () => JSON.stringify([...views.values()]),
    connected(yes) {
      if (yes) {
        clearTimeout(offlineTimer);
        offlineTimer = null;
        byId("offline").hidden = true;
      } else if (!offlineTimer) {
        // A blink is not worth a word.
        offlineTimer = setTimeout(() => { byId("offline").hidden = false; }, SHOWN_OFFLINE_MS);
      }
    },
  });

  // ---- buttons

  // An error's text and its hint as a page shows them.
  function sentences(text) {
    const begun = text.charAt(0).toUpperCase() + text.slice(1);
    return /[.!/]$/.test(begun) ? begun : `${begun}.`;
  }

  function complain(text) {
    const error = byId("error");
    error.textContent = sentences(text);
    error.hidden = false;
    error.scrollIntoView({ block: "nearest" });
  }

  async function post(url, fields) {
    byId("error").hidden = true;
    let answer;
    try {
      answer = await fetch(url, {
        method: "POST",
        headers: { Accept: "application/json" },
        body: new URLSearchParams({ csrf, ...fields }),
      });
    } catch {
      complain("The portal does not answer. Try again in a moment.");
      return null;
    }
    if (answer.status === 401) {
      location.reload();
      return null;
    }
    const said = await answer.json().catch(() => ({}));
    if (answer.ok) return said;
    complain(said.detail || "That did not work.");
    return null;
  }

  for (const form of document.querySelectorAll(".start-form")) {
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      const button = form.querySelector("button");
      if (button.disabled) return;
      button.disabled = true;
      const { image, name, machine } = form.elements;
      const fields = { image: image.value, name: name.value };
      if (machine) fields.machine = machine.value;
      const it = await post(form.action, fields);
      button.disabled = false;
      if (!it) return;
      form.elements.name.value = "";
      show(it);
      say(`Done: “${it.name}” is being started.`);
      const row = rowOf(it.id);
      if (!row) return;
      row.scrollIntoView({ block: "nearest" });
      heading(row).focus({ preventScroll: true });
    });
  }

  list.addEventListener("submit", async (event) => {
    const form = event.target.closest("[data-wish]");
    if (!form) return;
    event.preventDefault();
    const button = form.querySelector("button");
    if (button.disabled) return;
    button.disabled = true;
    const row = form.closest("[data-instance]");
    const it = await post(form.action, {});
    button.disabled = false;
    if (!it) return;
    show(it);
    say(SAID[form.dataset.wish] ?? "Done.");
    if (row.isConnected) heading(row).focus({ preventScroll: true });
  });

  list.addEventListener("click", (event) => {
    const link = event.target.closest('[data-action="discard"]');
    if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    const row = link.closest("[data-instance]");
    discarding = row.dataset.instance;
    byId("confirm-name").textContent = heading(row).textContent;
    dialog.showModal();
    dialog.querySelector('[data-action="keep"]').focus();
  });

  const renaming = byId("renaming");
  const naming = renaming.querySelector("form");
  let renamed = null;

  list.addEventListener("click", (event) => {
    const link = event.target.closest('[data-action="rename"]');
    if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    const row = link.closest("[data-instance]");
    renamed = row.dataset.instance;
    naming.elements.name.value = heading(row).textContent;
    renaming.showModal();
    naming.elements.name.select();
  });
  renaming.querySelector('[data-action="keep-name"]').addEventListener("click", () => renaming.close());
  naming.addEventListener("submit", async (event) => {
    event.preventDefault();
    renaming.close();
    const it = await post(`/instances/${encodeURIComponent(renamed)}/rename`, { name: naming.elements.name.value });
    if (!it) return;
    show(it);
    say(`Done: it is called “${it.name}” now.`);
  });

  dialog.querySelector('[data-action="keep"]').addEventListener("click", () => dialog.close());
  dialog.addEventListener("click", (event) => {
    if (event.target === dialog) dialog.close();
  });
  dialog.querySelector("form").addEventListener("submit", async (event) => {
    event.preventDefault();
    dialog.close();
    const it = await post(`/instances/${encodeURIComponent(discarding)}/discard`, {});
    if (!it) return;
    show(it);
    say(`Done: “${it.name}” is being discarded.`);
    // The button that the dialog gives the focus back to has gone.
    const row = rowOf(it.id);
    if (row) heading(row).focus({ preventScroll: true });
  });

  if (byId("usage")) showUsage(byId("usage"));
})();
