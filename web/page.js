/* What every page has: a menu that closes, and buttons that copy what is shown once.
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
