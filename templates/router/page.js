/* Look every few seconds whether this address answers something else by now, and load it then. */
"use strict";
(() => {
  const every = Number(document.body.dataset.every) * 1000;
  const elapsed = document.getElementById("elapsed");
  const began = Date.now();
  const mine = document.querySelector("h1").textContent;

  async function look() {
    try {
      const answer = await fetch(location.href, {
        redirect: "manual", cache: "no-store", headers: { Accept: "text/html" },
      });
      const same = String(answer.status) === document.body.dataset.status
        && new DOMParser().parseFromString(await answer.text(), "text/html").querySelector("h1")?.textContent === mine;
      if (!same) {
        location.reload();
        return;
      }
    } catch {
      // No answer: the next look may have one.
    }
    setTimeout(look, every);
  }

  setInterval(() => {
    elapsed.hidden = false;
    elapsed.textContent = `Waiting for ${Math.floor((Date.now() - began) / 1000)} s.`;
  }, 1000);
  setTimeout(look, every);
})();
