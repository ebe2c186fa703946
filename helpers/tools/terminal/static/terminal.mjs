// One shell in one page. The shell lives on when the page does not: a page that comes back is shown
// what it printed. See server.py for the messages.

import { FitAddon } from "./xterm/addon-fit.mjs";
import { Terminal } from "./xterm/xterm.mjs";

const RETRY_MS = 1000;
const RETRY_MAX_MS = 10000;
// After so many tries the login may have ended, which only a new page can tell.
const TRIES_BEFORE_RELOAD = 3;

const place = document.getElementById("terminal");
const notice = document.getElementById("notice");
const bytes = new TextEncoder();
// What this shell is called until its program calls itself something else.
const heading = document.title;
const control = document.querySelector('[data-key="Control"]');

const term = new Terminal({
  cursorBlink: true,
  fontFamily: 'ui-monospace, "SF Mono", "Cascadia Mono", "DejaVu Sans Mono", Menlo, Consolas, monospace',
  fontSize: 14,
  lineHeight: 1.15,
  scrollback: 10000,
  theme: {
    background: "#101514", foreground: "#e8eeec", cursor: "#2dbfae", cursorAccent: "#101514",
    selectionBackground: "#2dbfae55",
  },
});
const fit = new FitAddon();

let socket = null;
let tries = 0;
// While the screen is shown again, its old questions to the terminal must not be answered again.
let muted = false;
let ended = false;

function send(message) {
  if (socket !== null && socket.readyState === WebSocket.OPEN) socket.send(message);
}

function sendSize() {
  send(JSON.stringify({ size: [term.rows, term.cols] }));
}

function connect() {
  ended = false;
  const address = new URL(`/${place.dataset.number}/socket`, location);
  address.protocol = location.protocol === "https:" ? "wss:" : "ws:";
  socket = new WebSocket(address);
  socket.binaryType = "arraybuffer";
  socket.onopen = () => {
    tries = 0;
    notice.textContent = "";
    sendSize();
  };
  socket.onmessage = ({ data }) => {
    if (typeof data !== "string") {
      const replaying = muted;
      term.write(new Uint8Array(data), () => {
        if (replaying) muted = false;
        send(JSON.stringify({ shown: data.byteLength }));
      });
    } else if ("begin" in JSON.parse(data)) {
      muted = true;
      term.reset();
    } else {
      ended = true;
    }
  };
  socket.onclose = lost;
}

function lost() {
  socket = null;
  muted = false;
  if (ended) {
    notice.textContent = "The shell has ended. Press Enter for a new one.";
    return;
  }
  tries += 1;
  notice.textContent = tries > TRIES_BEFORE_RELOAD
    ? "The connection is lost; trying again. Reload the page if it does not come back."
    : "The connection is lost; trying again…";
  setTimeout(connect, Math.min(RETRY_MS * tries, RETRY_MAX_MS));
}

function typed(data) {
  if (ended) {
    if (data === "\r") connect();
  } else if (!muted) {
    send(data);
  }
}

// The next key after the button Ctrl: a letter, or one of @[\]^_ , becomes the control character.
function controlled(text) {
  if (control.getAttribute("aria-pressed") !== "true") return text;
  control.setAttribute("aria-pressed", "false");
  return /^[@-_a-z]$/.test(text) ? String.fromCharCode(text.toUpperCase().charCodeAt(0) & 31) : text;
}

function pressed(key) {
  const arrows = { ArrowUp: "A", ArrowDown: "B", ArrowRight: "C", ArrowLeft: "D" };
  if (key === "Control") {
    const held = control.getAttribute("aria-pressed") === "true";
    control.setAttribute("aria-pressed", String(!held));
  } else if (key in arrows) {
    term.input((term.modes.applicationCursorKeysMode ? "\x1bO" : "\x1b[") + arrows[key]);
  } else {
    term.input(key === "Tab" ? "\t" : "\x1b");
  }
}

term.loadAddon(fit);
term.open(place);
term.onData((text) => {
  const key = controlled(text);
  typed(ended ? key : bytes.encode(key));
});
// Some reports of the mouse are bytes and no text.
term.onBinary((text) => typed(Uint8Array.from(text, (character) => character.charCodeAt(0))));
term.onResize(sendSize);
term.onTitleChange((title) => {
  document.title = title ? `${title} – ${heading}` : heading;
});
term.attachCustomKeyEventHandler((event) => {
  const copies = event.ctrlKey && event.shiftKey && event.code === "KeyC";
  if (copies && event.type === "keydown" && term.hasSelection()) {
    navigator.clipboard.writeText(term.getSelection());
    event.preventDefault();
  }
  return !copies;
});
// The other shell opens beside this one, where typing goes on.
document.getElementById("another").addEventListener("click", () => term.focus());
for (const button of document.querySelectorAll("#keys button")) {
  // The terminal keeps the focus, or a phone would put its keyboard away.
  button.addEventListener("pointerdown", (event) => event.preventDefault());
  button.addEventListener("click", () => {
    pressed(button.dataset.key);
    term.focus();
  });
}
new ResizeObserver(() => fit.fit()).observe(place);
fit.fit();
term.focus();
connect();
